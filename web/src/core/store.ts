// What the page knows of the gateway's present. reduce is pure: events in, a new state out; core/live feeds it.
import type { Hour, Tick } from "./nouns";

export const curves = ["in", "out", "p50", "p99", "owed", "online", "cpu", "rss"] as const;
export type Curve = (typeof curves)[number];

/** Seconds that the plots keep. */
export const HOUR = 3600;

/** Points in the order of time, one column for each curve. All columns have the length of t. */
export interface Ring {
  t: number[]; // Unix seconds
  columns: Record<Curve, (number | null)[]>;
}

export interface Live {
  link: "connecting" | "live" | "lost" | "absent"; // absent: the gateway has no live feed
  since: number; // of link, Unix seconds
  tick?: Tick;
  ring: Ring;
}

export type Event =
  | { kind: "tick"; tick: Tick; now: number }
  | { kind: "hour"; hour: Hour; now: number }
  | { kind: "link"; link: Live["link"]; now: number };

const emptyRing = (): Ring => ({
  t: [],
  columns: Object.fromEntries(curves.map((c) => [c, []])) as unknown as Ring["columns"],
});

export const nothing: Live = { link: "connecting", since: 0, ring: emptyRing() };

export function reduce(s: Live, e: Event): Live {
  switch (e.kind) {
    case "link":
      return s.link === e.link ? s : { ...s, link: e.link, since: e.now };
    case "hour":
      return { ...s, ring: merge(e.hour, s.ring, e.now) };
    case "tick":
      return {
        ...s,
        link: "live",
        since: s.link === "live" ? s.since : e.now,
        tick: e.tick,
        ring: append(s.ring, pointOf(e.tick), e.now),
      };
  }
}

function pointOf(k: Tick): Record<Curve, number> {
  return {
    in: k.rates.in,
    out: k.rates.out,
    p50: k.ack.p50,
    p99: k.ack.p99,
    owed: k.owed,
    online: k.devices.online,
    cpu: k.cpu.percent,
    rss: k.memory.rss,
  };
}

/** append drops what is older than an hour. The browser's clock orders the points: the gateway's may jump. */
function append(r: Ring, point: Record<Curve, number>, now: number): Ring {
  const last = r.t[r.t.length - 1];
  if (last !== undefined && now <= last) return r;
  let from = 0;
  while (from < r.t.length && r.t[from]! < now - HOUR) from++;
  const t = [...r.t.slice(from), now];
  const columns = {} as Ring["columns"];
  // A gap of the feed is a gap of the curve.
  const gap = last !== undefined && now - last > 30;
  for (const c of curves) columns[c] = [...r.columns[c].slice(from), gap ? null : point[c]];
  return { t, columns };
}

/** merge puts the hour that the gateway kept before what was seen since. */
function merge(h: Hour, r: Ring, now: number): Ring {
  const length = Math.max(0, ...curves.map((c) => h.series[c]?.length ?? 0));
  const first = r.t[0] ?? Number.POSITIVE_INFINITY;
  const t: number[] = [];
  const columns = emptyRing().columns;
  for (let i = 0; i < length; i++) {
    const at = now - (length - 1 - i) * h.step;
    if (at < now - HOUR || at >= first) continue;
    t.push(at);
    for (const c of curves) columns[c].push(h.series[c]?.[i] ?? null);
  }
  for (const c of curves) columns[c].push(...r.columns[c]);
  return { t: [...t, ...r.t], columns };
}
