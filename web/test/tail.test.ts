import { describe, expect, test } from "vitest";
import type { Message } from "../src/core/nouns";
import { follow, noTail, seen, type Tail, tree } from "../src/core/tail";

const message = (topic: string, data: unknown = 1): Message => ({ topic, priority: 4, data });

describe("tail", () => {
  test("values, the one before, counts", () => {
    let s = seen(noTail, [message("a/b", 1)], 1000);
    s = seen(s, [message("a/b", 2)], 2000);
    const v = s.values.get("a/b")!;
    expect([v.message.data, v.before?.data, v.count, v.at]).toEqual([2, 1, 2, 2000]);
    expect(s.rows.map((r) => r.message.data)).toEqual([2, 1]);
    expect(noTail.values.size).toBe(0);
  });

  test("a flood is counted, not shown, and nothing grows without end", () => {
    let s: Tail = noTail;
    for (let i = 0; i < 50; i++) {
      s = seen(
        s,
        Array.from({ length: 100 }, (_, j) => message(`t/${i * 100 + j}`)),
        5000,
      );
    }
    expect(s.total).toBe(5000);
    expect(s.rows).toHaveLength(20);
    expect(s.skipped).toBe(4980);
    expect(s.values.size).toBe(2000);
    expect(s.unlisted).toBe(3000);
    for (let i = 0; i < 500; i++) s = seen(s, [message("t/1")], 10_000 + i * 1000);
    expect(s.rows).toHaveLength(200);
  });

  test("the tree has a branch for each level, empty ones too", () => {
    let s: Tail = noTail;
    for (const topic of ["b", "a/x", "a/y", "/a", "a"]) s = seen(s, [message(topic)], 0);
    const t = tree(s.values);
    expect(t.map((b) => [b.name, b.count])).toEqual([
      ["", 1],
      ["a", 3],
      ["b", 1],
    ]);
    expect(t[1]!.inner.map((b) => b.topic)).toEqual(["a/x", "a/y"]);
    expect(t[1]!.value).toBeDefined();
    expect(t[0]!.inner[0]!.topic).toBe("/a");
  });

  test("the curve of a number", () => {
    let s = seen(noTail, [message("m", { w: 5 })], 1000);
    s = follow(s, "m", "w");
    for (let i = 0; i < 400; i++) s = seen(s, [message("m", { w: i })], 2000);
    s = seen(s, [message("m", { other: 1 })], 3000);
    s = seen(s, [message("n", { w: 7 })], 3000);
    expect(s.curve.v).toHaveLength(300);
    expect(s.curve.v.slice(-2)).toEqual([399, null]);
    for (let i = 1; i < s.curve.t.length; i++) expect(s.curve.t[i]!).toBeGreaterThan(s.curve.t[i - 1]!);
  });
});
