import { Device } from "./device";
import { Devices } from "./list";

export function DevicesPage({ arg, query }: { arg: string; query: Record<string, string> }) {
  return arg ? <Device key={arg} id={arg} tab={query.tab ?? "queue"} /> : <Devices query={query} />;
}
