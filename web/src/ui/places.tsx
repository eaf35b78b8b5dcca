// Where one message is, receiver by receiver, until nothing changes any more.
import { useEffect, useState } from "preact/hooks";
import { get, path } from "../core/api";
import { latency, moment } from "../core/format";
import { final, type State, type Trace } from "../core/nouns";
import { reason } from "../core/reason";
import { format } from "../core/router";
import { language, t } from "../core/words";
import { Icon } from "./icon";
import { StateBadge } from "./state";
import { type Column, Table } from "./table";

export interface Traced {
  trace?: Trace;
  error?: unknown;
  again: () => void;
}

/** useTrace looks each second while somebody still waits, and slower after a minute. */
export function useTrace(id: string): Traced {
  const [state, setState] = useState<{ trace?: Trace; error?: unknown }>({});
  const [round, setRound] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let mine = true;
    let looks = 0;
    const look = async () => {
      try {
        const trace = await get<Trace>(path`/v1/messages/${id}`);
        if (!mine) return;
        setState({ trace });
        if (trace.states.length > 0 && trace.states.every((s) => final(s.state))) return;
      } catch (error) {
        if (!mine) return;
        setState((s) => ({ ...s, error }));
      }
      timer = setTimeout(() => void look(), document.hidden || ++looks > 60 ? 5000 : 1000);
    };
    void look();
    return () => {
      mine = false;
      clearTimeout(timer);
    };
  }, [id, round]);
  return { ...state, again: () => setRound((n) => n + 1) };
}

/** summary counts the states, in words, for whoever listens. */
export function summary(states: State[]): string {
  const by = new Map<State["state"], number>();
  for (const s of states) by.set(s.state, (by.get(s.state) ?? 0) + 1);
  return [...by].map(([s, n]) => `${n} ${t(`state.${s}`)}`).join(", ");
}

/** Steps is the way of a message, with how many receivers are how far. */
export function Steps({ trace }: { trace: Trace }) {
  const all = trace.states;
  const sent = all.filter((s) => s.attempt > 0).length;
  const done = all.filter((s) => s.state === "delivered").length;
  const n = all.length;
  const steps: [name: string, note: string, reached: boolean][] = [
    [t("state.stored"), moment(trace.message?.time, language.value, new Date()), true],
    [t("trace.matched"), String(n), n > 0],
    [t("state.sent"), t("trace.of", { a: sent, n }), sent > 0],
    [t("trace.acknowledged"), t("trace.of", { a: done, n }), done > 0],
  ];
  return (
    <ol class="steps">
      {steps.map(([name, note, reached]) => (
        <li key={name} class={reached ? "reached" : ""}>
          <Icon name={reached ? "check" : "ring"} />
          <span>
            {name} <span class="soft small number">{note}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}

export function Places({ trace }: { trace: Trace }) {
  const l = language.value;
  const start = trace.message?.time ? Date.parse(trace.message.time) : Number.NaN;
  const took = (s: State) => {
    const d = s.at ? (Date.parse(s.at) - start) / 1000 : Number.NaN;
    return Number.isNaN(d) || d < 0 ? "" : t("trace.after", { span: latency(d, l) });
  };
  const columns: Column<State>[] = [
    { name: t("trace.receiver"), kind: "lead", cell: (s) => <Receiver name={s.subscription} /> },
    { name: t("state"), cell: (s) => <StateBadge state={s.state} /> },
    {
      name: t("trace.why"),
      cell: (s) => (
        <span class="soft">{reason(s.reason) || (s.state === "delivered" ? t("trace.acknowledged") : "")}</span>
      ),
    },
    { name: t("trace.attempts"), kind: "right", cell: (s) => <span class="number">{s.attempt || "–"}</span> },
    {
      name: t("time"),
      kind: "right",
      cell: (s) => (
        <span class="number">
          {s.at && final(s.state) ? moment(s.at, l, new Date()) : "–"}{" "}
          <span class="soft small">{final(s.state) ? took(s) : ""}</span>
        </span>
      ),
    },
  ];
  return <Table caption={t("trace.places")} columns={columns} rows={trace.states} id={(s) => s.subscription} />;
}

function Receiver({ name }: { name: string }) {
  const device = name.startsWith("device/") ? name.slice(7) : "";
  return device ? <a href={format("devices", device)}>{device}</a> : <span class="break">{name}</span>;
}
