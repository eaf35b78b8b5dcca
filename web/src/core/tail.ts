// What the topics page remembers of what it saw: bounded, whatever comes. Pure.
import type { Message } from "./nouns";
import { numbers } from "./payload";

const TOPICS = 2000; // nodes that have a value
const ROWS = 200;
const POINTS = 300;
const PER_SECOND = 20; // rows that a person can still look at; more are counted

export interface Value {
  message: Message;
  before?: Message; // the one before it, for the difference
  count: number;
  at: number; // when it was seen, Unix milliseconds
}

export interface Row {
  n: number;
  at: number;
  message: Message;
}

export interface Tail {
  values: ReadonlyMap<string, Value>;
  rows: readonly Row[]; // newest first
  total: number;
  skipped: number; // messages without a row, because too many came at once
  unlisted: number; // messages on topics beyond those that fit
  second: number; // that the count is of
  inSecond: number;
  curve: { topic: string; path: string; t: number[]; v: (number | null)[] };
}

export const noTail: Tail = {
  values: new Map(),
  rows: [],
  total: 0,
  skipped: 0,
  unlisted: 0,
  second: 0,
  inSecond: 0,
  curve: { topic: "", path: "", t: [], v: [] },
};

/** seen takes in what came since the last time; now is in milliseconds. */
export function seen(s: Tail, messages: Message[], now: number): Tail {
  const second = Math.floor(now / 1000);
  const values = new Map(s.values);
  let inSecond = second === s.second ? s.inSecond : 0;
  let { total, skipped, unlisted, curve } = s;
  const fresh: Row[] = [];
  for (const message of messages) {
    total++;
    if (++inSecond <= PER_SECOND) fresh.unshift({ n: total, at: now, message });
    else skipped++;
    const known = values.get(message.topic);
    if (known || values.size < TOPICS) {
      values.set(message.topic, { message, before: known?.message, count: (known?.count ?? 0) + 1, at: now });
    } else unlisted++;
    if (curve.topic === message.topic) curve = extend(curve, message, now);
  }
  return { values, rows: [...fresh, ...s.rows].slice(0, ROWS), total, skipped, unlisted, second, inSecond, curve };
}

/** follow begins the curve of one number of one topic. */
export function follow(s: Tail, topic: string, path: string): Tail {
  const empty = { topic, path, t: [], v: [] };
  const v = s.values.get(topic);
  return { ...s, curve: v ? extend(empty, v.message, v.at) : empty };
}

function extend(c: Tail["curve"], m: Message, now: number): Tail["curve"] {
  const found = numbers(m).find(([path]) => path === c.path);
  const last = c.t[c.t.length - 1] ?? 0;
  const t = Math.max(now / 1000, last + 0.001); // the curve needs times that grow
  return { ...c, t: [...c.t.slice(1 - POINTS), t], v: [...c.v.slice(1 - POINTS), found ? found[1] : null] };
}

export interface Branch {
  name: string; // one level
  topic: string; // the whole way to it
  value?: Value;
  count: number; // messages at it and below
  inner: Branch[];
}

/** tree sorts the topics by their levels. */
export function tree(values: ReadonlyMap<string, Value>): Branch[] {
  const root: Branch = { name: "", topic: "", count: 0, inner: [] };
  for (const [topic, value] of [...values].sort(([a], [b]) => (a < b ? -1 : 1))) {
    let at = root;
    let way = "";
    topic.split("/").forEach((name, i) => {
      way = i === 0 ? name : `${way}/${name}`;
      let next = at.inner.find((b) => b.topic === way);
      if (!next) {
        next = { name, topic: way, count: 0, inner: [] };
        at.inner.push(next);
      }
      next.count += value.count;
      at = next;
    });
    at.value = value;
  }
  return root.inner;
}
