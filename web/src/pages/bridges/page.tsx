// Bridges to upstreams: all of them, or one.
import { Bridge } from "./bridge";
import { BridgeList } from "./list";

export function BridgesPage({ arg }: { arg: string }) {
  return arg ? <Bridge key={arg} name={arg} /> : <BridgeList />;
}
