import { describe, expect, test } from "vitest";
import { bytes, count, latency, moment, rate, seconds, span } from "../src/core/format";
import { format, parse } from "../src/core/router";

describe("format", () => {
  test("numbers", () => {
    expect(count(1234567, "en")).toBe("1,234,567");
    expect([0, 0.123, 9.876, 12.34, 123.4].map((n) => rate(n, "en"))).toEqual(["0", "0.12", "9.88", "12.3", "123"]);
  });

  test("sizes", () => {
    expect([0, 999, 1000, 1_250_000, 64e9].map((n) => bytes(n, "en"))).toEqual([
      "0 B",
      "999 B",
      "1 KB",
      "1.3 MB",
      "64 GB",
    ]);
  });

  test("spans", () => {
    expect([0, 1, 59, 60, 90, 3600, 90_000, 86_400 * 3].map((n) => span(n, "en"))).toEqual([
      "0 s",
      "1 s",
      "59 s",
      "1 min",
      "1 min 30 s",
      "1 h",
      "1 d 1 h",
      "3 d",
    ]);
    expect(span(3725, "zh")).toBe("1 小时 2 分");
    expect(span(-5, "en")).toBe("0 s");
  });

  test("latencies", () => {
    expect([0.0000125, 0.0012, 0.34, 2, 75].map((n) => latency(n, "en"))).toEqual([
      "12.5 µs",
      "1.2 ms",
      "340 ms",
      "2 s",
      "1 min 15 s",
    ]);
  });

  test("moments", () => {
    const now = new Date(2027, 0, 15, 12, 0, 0);
    expect(moment(new Date(2027, 0, 15, 9, 5, 7).toISOString(), "en", now)).toBe("09:05:07");
    expect(moment(new Date(2027, 0, 14, 9, 5, 7).toISOString(), "en", now)).toBe("14/01/2027, 09:05:07");
    for (const nothing of [undefined, "", "no time", "1970-01-01T00:00:00Z"])
      expect(moment(nothing, "en", now)).toBe("–");
  });

  test("durations that people type", () => {
    for (const [text, want] of Object.entries({
      "90": 90,
      "10m": 600,
      "1h30m": 5400,
      "1.5h": 5400,
      "500ms": 0.5,
      "2d": 172_800,
    })) {
      expect(seconds(text), text).toBe(want);
    }
    for (const text of ["", "-1", "soon", "10 m", "m", "1x"]) expect(seconds(text), text).toBeUndefined();
  });
});

describe("router", () => {
  test("every address leads back to itself", () => {
    for (const [page, arg, query] of [
      ["", "", {}],
      ["devices", "", { search: "灯 &=#?", group: "hall" }],
      ["devices", "a:b.c", { tab: "queue" }],
      ["topics", "", { filter: "device/+/out/#" }],
      ["messages", "k3f9w2xq-4712", {}],
      ["files", "a/b%2F?c", {}],
    ] as const) {
      expect(parse(format(page, arg, query))).toEqual({ page, arg, query });
    }
  });

  test("empty parts of a query are left out", () => {
    expect(format("devices", "", { search: "", group: undefined })).toBe("#/devices");
  });

  test("what nobody wrote is read all the same", () => {
    expect(parse("")).toEqual({ page: "", arg: "", query: {} });
    expect(parse("#")).toEqual({ page: "", arg: "", query: {} });
    expect(parse("#/%zz/%?a=1?b=2")).toEqual({ page: "%zz", arg: "%", query: { a: "1?b=2" } });
  });
});
