import { describe, expect, test } from "vitest";
import type { Message } from "../src/core/nouns";
import { bytesOf, diff, fields, hex, numbers, preview, render, views } from "../src/core/payload";

const of = (m: Partial<Message>): Message => ({ topic: "t", priority: 4, ...m });
const raw = (...b: number[]) => of({ data_base64: btoa(String.fromCharCode(...b)) });

describe("payload", () => {
  test("JSON, as data and as text", () => {
    expect(views(of({ data: { on: true } }))).toEqual(["json", "text", "hex"]);
    expect(render(of({ data: { on: true } }), "json")).toBe('{\n  "on": true\n}');
    expect(render(of({ text: "[1,2]" }), "json")).toBe("[\n  1,\n  2\n]");
    expect(views(of({ text: "{on" }))[0]).toBe("text");
  });

  test("XML is indented and not read", () => {
    const text =
      '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><b x="1">&e;</b><c/></a>';
    expect(views(of({ text }))).toContain("xml");
    expect(render(of({ text: "<a><b>t</b><c/></a>" }), "xml")).toBe("<a>\n  <b>\n    t\n  </b>\n  <c/>\n</a>");
    expect(render(of({ text }), "xml")).toContain("&e;");
  });

  test("what looks like markup stays text", () => {
    const text = "<script>alert(1)</script>";
    expect(preview(of({ text }))).toBe(text);
    expect(render(of({ text }), "text")).toBe(text);
  });

  test("hex", () => {
    expect(hex(new Uint8Array([0x41, 0, 0xff]))).toBe(`000000  41 00 ff${" ".repeat(39)}  A··`);
    expect(views(raw(0xff, 0xfe))).toEqual(["hex"]);
  });

  test("Protobuf without its schema: the examples of the encoding's page", () => {
    expect(fields(new Uint8Array([0x08, 0x96, 0x01]))).toEqual([{ number: 1, type: "varint", value: 150n }]);
    expect(render(raw(0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67), "protobuf")).toBe('2: "testing"');
    expect(render(raw(0x1a, 0x03, 0x08, 0x96, 0x01), "protobuf")).toBe("3 {\n  1: 150\n}");
    expect(render(raw(0x0d, 0, 0, 0x80, 0x3f), "protobuf")).toBe("1: 1065353216 (1)");
    expect(views(raw(0x08, 0x96, 0x01))[0]).toBe("protobuf");
  });

  test("what is no Protobuf is none, whatever the bytes are", () => {
    for (const b of [[0x08], [0x0b], [0x12, 0x05, 1], [0x00, 0x01], [0x09, 1, 2], new Array(12).fill(0xff)]) {
      expect(fields(new Uint8Array(b))).toBeUndefined();
    }
    let seed = 1;
    for (let i = 0; i < 2000; i++) {
      const b = new Uint8Array(i % 40).map(() => {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        return seed >> 16;
      });
      fields(b); // must end and not throw
    }
    const deep = new Uint8Array(400).map((_, i) => (i % 2 === 0 ? 0x0a : Math.min(127, 398 - i)));
    fields(deep);
  });

  test("bytes", () => {
    expect([...bytesOf(of({ text: "é" }))]).toEqual([0xc3, 0xa9]);
    expect(bytesOf(of({}))).toHaveLength(0);
  });

  test("differences", () => {
    expect(diff("a\nb\nc", "a\nx\nc").map((l) => l.sign + l.text)).toEqual([" a", "-b", "+x", " c"]);
    expect(diff("", "")).toEqual([{ sign: " ", text: "" }]);
    expect(diff("a", "a\nb").filter((l) => l.sign !== " ")).toEqual([{ sign: "+", text: "b" }]);
  });

  test("numbers", () => {
    expect(numbers(of({ data: { a: 1, b: { c: [2.5, "x"] }, d: null } }))).toEqual([
      ["a", 1],
      ["b.c.0", 2.5],
    ]);
    expect(numbers(of({ text: "21.5" }))).toEqual([["", 21.5]]);
    expect(numbers(of({ text: "warm" }))).toEqual([]);
  });
});
