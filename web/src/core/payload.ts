// Payloads of others, made readable. Everything here gives text: what a payload holds is never markup. Pure.
import type { Message } from "./nouns";

export type View = "json" | "xml" | "text" | "protobuf" | "hex";

const MOST = 256 << 10; // bytes that are looked at; messages are not larger

export function bytesOf(m: Message): Uint8Array {
  if (m.data_base64 !== undefined) return Uint8Array.from(atob(m.data_base64), (c) => c.charCodeAt(0));
  return new TextEncoder().encode(textOf(m) ?? "");
}

/** The payload where it is text. */
export function textOf(m: Message): string | undefined {
  if (m.text !== undefined) return m.text;
  if (m.data !== undefined) return JSON.stringify(m.data);
  if (m.data_base64 === undefined) return "";
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(m));
  } catch {
    return undefined;
  }
}

/** views are those that make sense of the payload, the best one first. */
export function views(m: Message): View[] {
  const text = textOf(m);
  const out: View[] = [];
  if (text !== undefined) {
    if (jsonOf(text) !== undefined) out.push("json");
    if (/^\s*<[!?/A-Za-z]/.test(text) && text.trimEnd().endsWith(">")) out.push("xml");
    out.push("text");
  }
  if (bytesOf(m).length > 0 && fields(bytesOf(m)) !== undefined) {
    if (text === undefined) out.unshift("protobuf");
    else out.push("protobuf");
  }
  return [...out, "hex"];
}

export function render(m: Message, v: View): string {
  const text = textOf(m) ?? "";
  switch (v) {
    case "json":
      return JSON.stringify(jsonOf(text), null, 2) ?? text;
    case "xml":
      return indentXML(text);
    case "text":
      return text;
    case "protobuf":
      return printFields(fields(bytesOf(m)) ?? [], "");
    case "hex":
      return hex(bytesOf(m));
  }
}

function jsonOf(text: string): unknown {
  if (!/^\s*[[{"\d\-tfn]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** indentXML sets each tag on a line of its own; it reads nothing and resolves nothing. */
function indentXML(text: string): string {
  let depth = 0;
  const lines: string[] = [];
  for (const part of text.match(/<!\[CDATA\[[\s\S]*?\]\]>|<!--[\s\S]*?-->|<[^>]*>|[^<]+/g) ?? []) {
    const line = part.trim();
    if (!line) continue;
    if (line.startsWith("</")) depth = Math.max(0, depth - 1);
    lines.push("  ".repeat(depth) + line);
    if (/^<[^!?/]/.test(line) && !line.endsWith("/>")) depth++;
  }
  return lines.join("\n");
}

export function hex(b: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(b.length, MOST); at += 16) {
    const row = [...b.subarray(at, at + 16)];
    const digits = row.map((x) => x.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((x) => (x >= 32 && x < 127 ? String.fromCharCode(x) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${letters}`);
  }
  return lines.join("\n");
}

/** One field of a Protobuf message whose schema nobody knows (protobuf.dev, Encoding). */
export interface ProtoField {
  number: number;
  type: "varint" | "fixed64" | "bytes" | "fixed32";
  value: bigint | Uint8Array;
  inner?: ProtoField[]; // where the bytes could be a message
}

const DEPTH = 16;

/** fields reads the wire format; undefined when it is none. */
export function fields(b: Uint8Array, depth = 0): ProtoField[] | undefined {
  const out: ProtoField[] = [];
  const data = new DataView(b.buffer, b.byteOffset, b.byteLength);
  let at = 0;
  const varint = (): bigint | undefined => {
    let v = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = b[at++];
      if (byte === undefined) return undefined;
      v |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return v;
    }
    return undefined;
  };
  while (at < b.length) {
    const tag = varint();
    if (tag === undefined) return undefined;
    const number = Number(tag >> 3n);
    if (number < 1 || number > 536_870_911) return undefined;
    switch (Number(tag & 7n)) {
      case 0: {
        const value = varint();
        if (value === undefined) return undefined;
        out.push({ number, type: "varint", value });
        break;
      }
      case 1:
        if (at + 8 > b.length) return undefined;
        out.push({ number, type: "fixed64", value: data.getBigUint64(at, true) });
        at += 8;
        break;
      case 2: {
        const n = Number(varint() ?? -1n);
        if (n < 0 || at + n > b.length) return undefined;
        const value = b.subarray(at, at + n);
        at += n;
        const inner = n > 0 && depth < DEPTH && !isText(value) ? fields(value, depth + 1) : undefined;
        out.push({ number, type: "bytes", value, inner });
        break;
      }
      case 5:
        if (at + 4 > b.length) return undefined;
        out.push({ number, type: "fixed32", value: BigInt(data.getUint32(at, true)) });
        at += 4;
        break;
      default:
        return undefined;
    }
  }
  return out;
}

function isText(b: Uint8Array): boolean {
  try {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what tells text from bytes
    return !/[\u0000-\u0008\u000e-\u001f]/.test(new TextDecoder("utf-8", { fatal: true }).decode(b));
  } catch {
    return false;
  }
}

function printFields(list: ProtoField[], indent: string): string {
  return list
    .map((f) => {
      if (f.inner) return `${indent}${f.number} {\n${printFields(f.inner, `${indent}  `)}\n${indent}}`;
      if (f.value instanceof Uint8Array) {
        const value = isText(f.value)
          ? JSON.stringify(new TextDecoder().decode(f.value))
          : [...f.value].map((x) => x.toString(16).padStart(2, "0")).join(" ");
        return `${indent}${f.number}: ${value}`;
      }
      return `${indent}${f.number}: ${f.value}${real(f)}`;
    })
    .join("\n");
}

/** A fixed-size field may be a number with a fraction. */
function real(f: ProtoField): string {
  const d = new DataView(new ArrayBuffer(8));
  d.setBigUint64(0, f.value as bigint, true);
  if (f.type === "fixed64") return ` (${d.getFloat64(0, true)})`;
  if (f.type === "fixed32") return ` (${d.getFloat32(0, true)})`;
  return "";
}

export interface DiffLine {
  sign: " " | "+" | "-";
  text: string;
}

const LINES = 400; // of each side; more is cut

/** diff is the shortest way from the lines of a to those of b. */
export function diff(a: string, b: string): DiffLine[] {
  const x = a.split("\n").slice(0, LINES);
  const y = b.split("\n").slice(0, LINES);
  const w = y.length + 1;
  const common = new Uint16Array((x.length + 1) * w);
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      common[i * w + j] =
        x[i] === y[j] ? common[(i + 1) * w + j + 1]! + 1 : Math.max(common[(i + 1) * w + j]!, common[i * w + j + 1]!);
    }
  }
  const out: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      out.push({ sign: " ", text: x[i++]! });
      j++;
    } else if (i < x.length && (j === y.length || common[(i + 1) * w + j]! >= common[i * w + j + 1]!)) {
      out.push({ sign: "-", text: x[i++]! });
    } else out.push({ sign: "+", text: y[j++]! });
  }
  return out;
}

/** numbers are the numbers in a payload by their path: "" for a bare one, "a.b.0". */
export function numbers(m: Message): [path: string, value: number][] {
  const text = textOf(m);
  const data = m.data ?? (text === undefined ? undefined : jsonOf(text));
  const out: [string, number][] = [];
  const walk = (v: unknown, path: string): void => {
    if (out.length >= 32) return;
    if (typeof v === "number" && Number.isFinite(v)) out.push([path, v]);
    else if (v && typeof v === "object")
      for (const [k, inner] of Object.entries(v)) walk(inner, path ? `${path}.${k}` : k);
  };
  walk(data, "");
  return out;
}

/** One line of it, for lists. */
export function preview(m: Message, most = 120): string {
  const text = textOf(m);
  if (text === undefined) return `${bytesOf(m).length} B`;
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > most ? `${line.slice(0, most)}…` : line;
}
