// Numbers, sizes and times for people. Pure: the language and the present are arguments.
import type { Language } from "./words";

const locale = (l: Language) => (l === "zh" ? "zh-CN" : "en-GB");

export function count(n: number, l: Language): string {
  return new Intl.NumberFormat(locale(l), { maximumFractionDigits: 0 }).format(n);
}

/** A number that changes all the time: three digits are enough. */
export function rate(n: number, l: Language): string {
  const digits = n >= 100 || n === 0 ? 0 : n >= 10 ? 1 : 2;
  return new Intl.NumberFormat(locale(l), { maximumFractionDigits: digits }).format(n);
}

export function bytes(n: number, l: Language): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  let v = n;
  while (Math.abs(v) >= 1000 && i < units.length - 1) {
    v /= 1000;
    i++;
  }
  const digits = i === 0 || Math.abs(v) >= 100 ? 0 : 1;
  return `${new Intl.NumberFormat(locale(l), { maximumFractionDigits: digits }).format(v)} ${units[i]}`;
}

/** A short time in seconds, as exact as it is short: 1.2 ms, 340 ms, 12 s. */
export function latency(seconds: number, l: Language): string {
  if (seconds < 0.001) return `${rate(seconds * 1e6, l)} µs`;
  if (seconds < 1) return `${rate(seconds * 1e3, l)} ms`;
  return span(seconds, l);
}

const steps: [number, string, string][] = [
  [86400, "d", "天"],
  [3600, "h", "小时"],
  [60, "min", "分"],
  [1, "s", "秒"],
];

/** A span of time in its two largest units: 3 d 4 h. */
export function span(seconds: number, l: Language): string {
  const whole = Math.max(0, Math.round(seconds));
  const word = (i: number) => (l === "zh" ? steps[i]![2] : steps[i]![1]);
  const i = Math.max(0, whole < 1 ? 3 : steps.findIndex(([size]) => whole >= size));
  const text = `${Math.floor(whole / steps[i]![0])} ${word(i)}`;
  const rest = whole % steps[i]![0];
  if (i === 3 || rest < steps[i + 1]![0]) return text;
  return `${text} ${Math.floor(rest / steps[i + 1]![0])} ${word(i + 1)}`;
}

/** A moment: the time alone when it is today's, else with its date. */
export function moment(iso: string | number | undefined, l: Language, now: Date): string {
  if (iso === undefined || iso === "") return "–";
  const d = new Date(iso);
  if (Number.isNaN(d.getTime()) || d.getFullYear() < 2000) return "–";
  const today = d.toDateString() === now.toDateString();
  return new Intl.DateTimeFormat(locale(l), {
    ...(today ? {} : { year: "numeric", month: "2-digit", day: "2-digit" }),
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  }).format(d);
}

/** "90", "10m", "1h30m", "2d" as seconds; undefined when it is not a duration. */
export function seconds(text: string): number | undefined {
  const s = text.trim().toLowerCase();
  if (/^\d+$/.test(s)) return Number(s);
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(s)) return undefined;
  const size: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
  let sum = 0;
  for (const [, n, unit] of s.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) sum += Number(n) * size[unit!]!;
  return sum;
}
