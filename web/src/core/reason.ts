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
  [/^(stopping|the appliance is stopping)$/, "reason.stopping"],
  [/^has not fetched for a while$/, "reason.not-fetched"],
  [/^the token has ended$/, "reason.token"],
  [/revoked$/, "reason.revoked"],
  [/too many attempts$/, "reason.attempts"],
  [/^its time to live ended( before it could be sent)?$/, "reason.ttl"],
  [/^older than this subscription keeps messages$/, "reason.kept"],
  [/^the record is damaged or gone$/, "reason.damaged"],
  [/^the first copy was faster$/, "reason.faster"],
  [/^no longer subscribed$/, "reason.unsubscribed"],
  [/^forbidden: the rules no longer allow it$/, "reason.rules"],
  [/^its session ended before it was acknowledged/, "reason.session-ended"],
  [/^its session ended, and so has the shared subscription/, "reason.group-ended"],
  [/^rejected: (.+)$/, "reason.rejected-because"],
  [/^rejected$/, "reason.rejected"],
];

export function reason(text: string | undefined): string {
  if (!text) return "";
  for (const [pattern, key] of known) {
    const m = pattern.exec(text);
    if (m) return maybe(key, { a: m[1] ?? "", b: m[2] ?? "", c: m[3] ?? "" }) ?? text;
  }
  return text;
}
