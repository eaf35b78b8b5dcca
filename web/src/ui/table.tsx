// A table that becomes a list of cards on a phone.
import type { ComponentChildren } from "preact";

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  kind?: "lead" | "right" | "tight"; // lead: what the row is about; tight: buttons
}

interface Props<T> {
  caption: string; // for screen readers
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string | number;
}

export function Table<T>({ caption, columns, rows, id }: Props<T>) {
  return (
    <div class="scroll">
      <table class="cards">
        <caption class="hide">{caption}</caption>
        <thead>
          <tr>
            {columns.map((c) => (
              <th key={c.name} scope="col" class={c.kind}>
                {c.kind === "tight" ? <span class="hide">{c.name}</span> : c.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)}>
              {columns.map((c) => (
                <td key={c.name} class={c.kind} data-label={c.name}>
                  {c.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
