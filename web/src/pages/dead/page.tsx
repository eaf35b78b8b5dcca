// What was given up: by cause, one by one, sent again.

import { Letter } from "./letter";
import { DeadList } from "./list";

export function DeadPage({ arg, query }: { arg: string; query: Record<string, string> }) {
  return arg ? <Letter key={arg} entry={arg} /> : <DeadList cause={query.cause} />;
}
