// A plot that draws live, with its numbers in a legend and as a table.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { paint } from "../core/theme";
import { language, t } from "../core/words";
import { Button } from "./parts";

export interface Line {
  name: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  t: number[]; // Unix seconds
  lines: Line[]; // at most three
  show: (v: number) => string;
}

const HEIGHT = 170;
const LEAST = 30; // seconds that a plot spans
const FEW = 40; // so few points are shown as points, too
const dashes = [undefined, [6, 4], [2, 3]];

/** colour resolves a custom property: a canvas knows no var(). */
function colour(box: HTMLElement, name: string): string {
  box.style.color = `var(${name})`;
  const c = getComputedStyle(box).color;
  box.style.color = "";
  return c;
}

function options(box: HTMLElement, lines: Line[], show: Props["show"]): uPlot.Options {
  const soft = colour(box, "--soft");
  const grid = { stroke: colour(box, "--line"), width: 1 };
  const tag = language.peek() === "zh" ? "zh-CN" : "en-GB";
  const clock = new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit", hour12: false });
  const exact = new Intl.DateTimeFormat(tag, { minute: "2-digit", second: "2-digit" });
  const times = (at: number[]) => at.map((s) => (at[at.length - 1]! - at[0]! < 300 ? exact : clock).format(s * 1000));
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  return {
    width: Math.max(box.clientWidth, 100),
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { range: (_, lo, hi) => [Math.min(lo, hi - LEAST), hi] },
      y: { range: (_, _lo, hi) => [0, hi > 0 ? hi * 1.1 : 1] },
    },
    axes: [
      {
        stroke: soft,
        font,
        grid: { show: false },
        ticks: { show: false },
        size: 26,
        values: (_, at) => times(at),
      },
      { stroke: soft, font, grid, ticks: { show: false }, size: 58, values: (_, vs) => vs.map(show) },
    ],
    series: [
      {},
      ...lines.map((l, i) => ({
        label: l.name,
        stroke: colour(box, `--curve-${i + 1}`),
        width: 1.75,
        dash: dashes[i],
        points: { show: (u: uPlot) => u.data[0].length < FEW, size: 4 },
        fill: i === 0 ? `color-mix(in srgb, ${colour(box, "--curve-1")} 9%, transparent)` : undefined,
      })),
    ],
  };
}

export function Plot({ title, t: times, lines, show }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [table, setTable] = useState(false);
  const shape = `${lines.map((l) => l.name).join()} ${paint.value} ${language.value} ${table}`;

  useEffect(() => {
    const at = box.current;
    if (!at) return;
    const p = new uPlot(options(at, lines, show), [times, ...lines.map((l) => l.values)] as uPlot.AlignedData, at);
    plot.current = p;
    const resize = new ResizeObserver(() => {
      if (at.clientWidth > 0) p.setSize({ width: at.clientWidth, height: HEIGHT });
    });
    resize.observe(at);
    return () => {
      resize.disconnect();
      p.destroy();
      plot.current = undefined;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData([times, ...lines.map((l) => l.values)] as uPlot.AlignedData);
  }, [times, lines]);

  return (
    <figure class="plot">
      <figcaption class="row apart">
        <h3>{title}</h3>
        <Button look="bare small" onClick={() => setTable(!table)}>
          {table ? t("plot.draw") : t("plot.table")}
        </Button>
      </figcaption>
      {table ? (
        <Numbers title={title} times={times} lines={lines} show={show} />
      ) : (
        <div ref={box} class="canvas" role="img" aria-label={spoken(title, lines, show)} />
      )}
      <ul class="legend">
        {lines.map((l) => (
          <li key={l.name}>
            <i aria-hidden="true" />
            {l.name} <b>{newest(l, show)}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

function newest(l: Line, show: Props["show"]): string {
  const v = l.values.findLast((x) => x !== null);
  return v === undefined || v === null ? "–" : show(v);
}

function spoken(title: string, lines: Line[], show: Props["show"]): string {
  return `${title}: ${lines.map((l) => `${l.name} ${newest(l, show)}`).join(", ")}`;
}

/** Numbers is the plot as a table, newest first, a row for a minute at most. */
function Numbers({
  title,
  times,
  lines,
  show,
}: {
  title: string;
  times: number[];
  lines: Line[];
  show: Props["show"];
}) {
  const clock = new Intl.DateTimeFormat(language.value === "zh" ? "zh-CN" : "en-GB", { timeStyle: "medium" });
  const rows: number[] = [];
  for (let i = times.length - 1; i >= 0; i--) {
    const shown = rows[rows.length - 1];
    if (shown === undefined || times[shown]! - times[i]! >= 60) rows.push(i);
  }
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class="scroll" tabIndex={0} aria-label={title}>
      <table>
        <caption class="hide">{title}</caption>
        <thead>
          <tr>
            <th scope="col">{t("time")}</th>
            {lines.map((l) => (
              <th key={l.name} scope="col" class="right">
                {l.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((i) => (
            <tr key={times[i]}>
              <td class="number">{clock.format(times[i]! * 1000)}</td>
              {lines.map((l) => (
                <td key={l.name} class="right number">
                  {l.values[i] == null ? "–" : show(l.values[i]!)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
