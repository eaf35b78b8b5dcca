import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fill } from "../src/core/words";
import en from "../src/words/en.json";
import zh from "../src/words/zh.json";

const english: Record<string, string> = en;
const chinese: Record<string, string> = zh;
const holes = (s: string) => [...new Set(s.match(/\{\w+\}/g) ?? [])].sort();

function sources(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory()
      ? sources(join(dir, e.name))
      : /\.tsx?$/.test(e.name)
        ? [readFileSync(join(dir, e.name), "utf8")]
        : [],
  );
}

describe("words", () => {
  test("both languages have the same keys", () => {
    expect(Object.keys(chinese)).toEqual(Object.keys(english));
  });

  test("each is said in its language, with the same values in it", () => {
    for (const key of Object.keys(english)) {
      expect(english[key], key).toMatch(/\S/);
      expect(english[key], key).not.toMatch(/[\u4e00-\u9fff]/);
      expect(chinese[key], key).toMatch(/\S/);
      expect(holes(chinese[key]!), key).toEqual(holes(english[key]!));
    }
  });

  test("Chinese is Chinese, but for names and what is the same", () => {
    const same = Object.keys(chinese).filter(
      (k) => !/[\u4e00-\u9fff]/.test(chinese[k]!) && /[a-z]{4}/i.test(chinese[k]!.replace(/\{\w+\}/g, "")),
    );
    expect(same).toEqual([]);
  });

  test("no word is there for nobody", () => {
    const all = sources("src").join("\n");
    // Codes of problems and states come from the gateway; their keys are made.
    const made = /^(error|state|reason|theme|origin|kind|action|conversion)\./;
    const unused = Object.keys(english).filter((k) => !made.test(k) && !k.endsWith(".one") && !all.includes(`"${k}"`));
    expect(unused).toEqual([]);
  });

  test("every problem of the interface is in words", () => {
    const openapi = readFileSync("../appliance/listener/httpapi/static/openapi.yaml", "utf8");
    const codes = /enum: \[(bad-request, [^\]]*)\]/.exec(openapi)![1]!.split(", ");
    expect(codes.length).toBeGreaterThan(20);
    expect(codes.filter((c) => !english[`error.${c}`])).toEqual([]);
  });

  test("text is not markup: what a person writes is a source's string or a word", () => {
    for (const s of sources("src")) expect(s).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write|\beval\(/);
  });

  test("fill puts values in, and leaves what it does not know", () => {
    expect(fill("{a} of {b}, {c}", { a: 1, b: "two" })).toBe("1 of two, {c}");
    expect(fill("{a}", { a: "{b}", b: "no" })).toBe("{b}");
  });
});
