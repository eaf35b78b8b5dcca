// The gateway gives reasons in plain English. The known ones are said in the page's language; another one stays as it is.
import { maybe } from "./words";

const known: [RegExp, string][] = [
  [/^offline since (.+)$/, "reason.offline-since"],
  [/^offline$/, "reason.offline"],
  [/^nobody reads the subscription since (.+)$/, "reason.unread-since"],
  [/^nobody reads the subscription$/, "reason.unread"],
  [/^not subscribed: .*$/, "reason.not-subscribed"],
  [/^window full: .*$/, "reason.window"],
  [/^retry (\d+) of (\d+) in (.+)$/, "reason.retry"],
  [/^waits for its delay: goes out in (.+)$/, "reason.delay"],
  [/^waits for the next fetch$/, "reason.fetch"],
  [/^next to go$/, "reason.next"],
  [/^not acknowledged yet$/, "reason.unacknowledged"],
  [/^withdrawn before anybody owed it$/, "reason.withdrawn"],
  [/^disconnected$/, "reason.disconnected"],
  [/^the connection broke$/, "reason.broke"],
  [/^no sign of life in time$/, "reason.silent"],
  [/^taken over$/, "reason.taken-over"],
  [/^removed$/, "reason.removed"],
  [/^stopping$/, "reason.stopping"],
  [/^too many attempts$/, "reason.attempts"],
  [/^rejected: (.+)$/, "reason.rejected-because"],
  [/^rejected$/, "reason.rejected"],
  [/^expired$/, "reason.expired"],
];

export function reason(text: string | undefined): string {
  if (!text) return "";
  for (const [pattern, key] of known) {
    const m = pattern.exec(text);
    if (m) return maybe(key, { a: m[1] ?? "", b: m[2] ?? "", c: m[3] ?? "" }) ?? text;
  }
  return text;
}
