import { describe, expect, test } from "vitest";
import type { Tick } from "../src/core/nouns";
import { curves, HOUR, type Live, nothing, reduce } from "../src/core/store";

function tick(over: Partial<Tick> = {}): Tick {
  return {
    time: "2027-01-15T08:00:00Z",
    clock_trusted: true,
    uptime: 1,
    rates: { in: 1, out: 2, delivered: 3 },
    totals: {},
    ack: { p50: 0.001, p99: 0.002 },
    owed: 4,
    oldest_age: 5,
    devices: { total: 2, online: 1 },
    dead_letters: 0,
    connections: 1,
    backlog: null,
    storage: {
      state: "ok",
      log_bytes: 1,
      log_limit: 2,
      disk_free: 3,
      device_bytes: 4,
      payload_bytes: 5,
      flash_years: null,
    },
    cpu: { percent: 7, cores: 2 },
    memory: { rss: 8, budget: 16 },
    tune: { why: null },
    bridges: null,
    anonymous: false,
    warnings: null,
    ...over,
  };
}

/** What must hold of the points whatever happened. */
function check(s: Live, now: number): void {
  const { t, columns } = s.ring;
  for (const c of curves) expect(columns[c]).toHaveLength(t.length);
  for (let i = 1; i < t.length; i++) expect(t[i]!).toBeGreaterThan(t[i - 1]!);
  expect(t.length).toBeLessThanOrEqual(HOUR + 1);
  if (t.length) expect(t[0]!).toBeGreaterThanOrEqual(now - HOUR);
}

describe("store", () => {
  test("a tick is the present and a point of each curve", () => {
    const s = reduce(nothing, { kind: "tick", tick: tick(), now: 100 });
    expect(s.link).toBe("live");
    expect(s.since).toBe(100);
    expect(s.ring.t).toEqual([100]);
    expect(s.ring.columns).toEqual({
      in: [1],
      out: [2],
      p50: [0.001],
      p99: [0.002],
      owed: [4],
      online: [1],
      cpu: [7],
      rss: [8],
    });
    expect(nothing.ring.t).toEqual([]); // the state before is untouched
  });

  test("a day of ticks keeps an hour", () => {
    let s = nothing;
    let now = 0;
    for (; now < 24 * HOUR; now += 5) s = reduce(s, { kind: "tick", tick: tick({ owed: now }), now });
    check(s, now - 5);
    expect(s.ring.t).toHaveLength(HOUR / 5 + 1);
    expect(s.ring.columns.owed[0]).toBe(23 * HOUR - 5);
  });

  test("the clock of this browser goes back: points stay in order", () => {
    let s = reduce(nothing, { kind: "tick", tick: tick(), now: 100 });
    s = reduce(s, { kind: "tick", tick: tick({ owed: 9 }), now: 90 });
    expect(s.ring.t).toEqual([100]);
    expect(s.tick?.owed).toBe(9);
  });

  test("the feed was away: the curve has a hole", () => {
    let s = reduce(nothing, { kind: "tick", tick: tick(), now: 100 });
    s = reduce(s, { kind: "link", link: "lost", now: 101 });
    expect([s.link, s.since]).toEqual(["lost", 101]);
    s = reduce(s, { kind: "tick", tick: tick(), now: 200 });
    s = reduce(s, { kind: "tick", tick: tick(), now: 201 });
    expect([s.link, s.since]).toEqual(["live", 200]);
    expect(s.ring.columns.in).toEqual([1, null, 1]);
  });

  test("the hour of the gateway comes before what was seen", () => {
    let s = reduce(nothing, { kind: "tick", tick: tick(), now: 10_000 });
    s = reduce(s, { kind: "tick", tick: tick(), now: 10_001 });
    const series = { in: Array.from({ length: 400 }, (_, i) => i), owed: [null, 5] };
    s = reduce(s, { kind: "hour", hour: { step: 10, until: "", series }, now: 10_001 });
    check(s, 10_001);
    expect(s.ring.t.slice(-3)).toEqual([9991, 10_000, 10_001]);
    expect(s.ring.columns.in.slice(-3)).toEqual([398, 1, 1]);
    expect(s.ring.columns.cpu.slice(-3)).toEqual([null, 7, 7]);
    // The feed came back and the same hour comes again: nothing is there twice.
    s = reduce(s, { kind: "hour", hour: { step: 10, until: "", series }, now: 10_002 });
    check(s, 10_001);
  });

  test("any order of events keeps the points sound", () => {
    let seed = 7;
    const random = (n: number) => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed % n;
    };
    for (let round = 0; round < 50; round++) {
      let s = nothing;
      let now = 50_000;
      for (let i = 0; i < 60; i++) {
        now += random(5) === 0 ? random(4000) : random(3);
        const what = random(10);
        if (what === 0) s = reduce(s, { kind: "link", link: "lost", now });
        else if (what === 1) {
          s = reduce(s, {
            kind: "hour",
            hour: { step: 10, until: "", series: { in: new Array(random(400)).fill(1) } },
            now,
          });
        } else s = reduce(s, { kind: "tick", tick: tick(), now });
      }
      const { t, columns } = s.ring;
      for (const c of curves) expect(columns[c]).toHaveLength(t.length);
      for (let i = 1; i < t.length; i++) expect(t[i]!).toBeGreaterThan(t[i - 1]!);
    }
  });
});
