import { expect, test } from "vitest";
import { hosts, snippets } from "../src/core/snippets";

const page = { protocol: "http:", hostname: "192.168.1.1", host: "192.168.1.1:8099" };

test("every way to connect has the host, the token, the topic and the ports of this gateway", () => {
  const settings = [
    { key: "http.addr", value: ":9000" },
    { key: "mqtt.addr", value: "0.0.0.0:2883" },
  ];
  const target = { ...hosts(page, settings), id: "lamp1", token: "ep_secret", topic: "device/lamp1/out/hello" };
  expect(target).toMatchObject({ host: "192.168.1.1", http: "192.168.1.1:8099", mqtt: 2883 });
  const all = snippets(target);
  expect(all.map((s) => s.id)).toEqual(["mosquitto", "curl", "browser", "python", "arduino", "micropython"]);
  for (const s of all) {
    expect(s.text, s.id).toContain("ep_secret");
    expect(s.text, s.id).toContain("192.168.1.1");
    expect(s.text, s.id).toContain("device/lamp1/out/hello");
    expect(s.text, s.id).toMatch(/2883|8099/);
  }
});

test("a page over HTTPS, and a gateway whose configuration is not known", () => {
  const secure = { protocol: "https:", hostname: "gw.local", host: "gw.local:8448" };
  expect(hosts(secure, [{ key: "http.addr", value: ":9000" }])).toEqual({
    host: "gw.local",
    http: "gw.local:9000",
    mqtt: 1883,
  });
  expect(hosts(secure)).toEqual({ host: "gw.local", http: "gw.local:8088", mqtt: 1883 });
});
