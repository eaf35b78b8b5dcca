// A gateway that has seen some life, for pictures.
import type { Gateway } from "./gateway";

/** What was made: id is a message to a group, half of which took it. */
export interface Furnished {
  id: string;
}

const done = new WeakMap<Gateway, Furnished>();

export async function furnish(g: Gateway): Promise<Furnished> {
  const before = done.get(g);
  if (before) return before;
  await g.api("POST", "/v1/groups", { name: "hall", label: "Hall, first floor" });
  const tokens: Record<string, string> = {};
  for (const [id, label, groups] of [
    ["lamp1", "Ceiling lamp", ["hall"]],
    ["lamp2", "走廊灯", ["hall"]],
    ["meter1", "Energy meter", []],
    ["door-front", "Front door", []],
    ["pump_A1B2", "", []],
  ] as [string, string, string[]][]) {
    tokens[id] = await g.addDevice(id, { label, groups });
  }
  for (let i = 0; i < 40; i++) await g.send(`device/lamp1/in/set`, { on: i % 2 === 0, brightness: i });
  await g.take("lamp1", tokens.lamp1!);
  for (let i = 0; i < 3; i++) await g.send("device/door-front/in/cmd", { open: true, n: i });
  await g.reject("door-front", tokens["door-front"]!, "the lock is jammed");
  for (let i = 0; i < 7; i++) await g.send("device/pump_A1B2/in/set", { speed: i });
  const { id } = await g.send("group/hall/in/scene", { scene: "evening" });
  await g.take("lamp1", tokens.lamp1!);
  for (let i = 0; i < 12; i++) await g.send("device/meter1/out/power", { watt: 230 + i * 3, phase: "L1" });
  done.set(g, { id });
  return { id };
}

const bridged = new WeakSet<Gateway>();

/** bridge makes one that is connected, and one whose upstream is down. */
export async function bridge(g: Gateway, upstream: string): Promise<void> {
  if (bridged.has(g)) return;
  bridged.add(g);
  const fields = (url: string, filter: string) => ({
    kind: "mqtt",
    urls: [url],
    up: { filters: [filter] },
    down: { from: ["ep/v1/default/+/down/#"], to: "device/$" + "{topic[5]}/in/$" + "{topic[6:]}" },
  });
  await g.api("PUT", "/v1/bridges/central", fields(upstream, "device/+/out/#"));
  await g.api("PUT", "/v1/bridges/plant", fields("mqtt://127.0.0.1:1", "device/meter1/out/#"));
  for (let i = 0; i < 12; i++) await g.send("device/meter1/out/power", { watt: 240 + i, phase: "L1" });
}

/** unbridge takes them away again. */
export async function unbridge(g: Gateway): Promise<void> {
  if (!bridged.delete(g)) return;
  for (const name of ["central", "plant"]) await g.api("DELETE", `/v1/bridges/${name}`);
}
