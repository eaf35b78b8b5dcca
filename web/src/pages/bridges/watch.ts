// All bridges, also those without a configuration, asked again when the live feed says that something has moved: a page that nothing happens on asks for
// nothing, so that it keeps no session from ending.
import { useEffect } from "preact/hooks";
import { live } from "../../core/live";
import { useGet } from "../../ui/load";
import type { BridgeView } from "./noun";

export function useBridges() {
  const list = useGet<{ bridges: BridgeView[] }>("/v1/bridges");
  const tick = live.value.tick;
  const moved = JSON.stringify([tick?.bridges, tick?.totals]);
  useEffect(() => list.again(), [moved]);
  return list;
}
