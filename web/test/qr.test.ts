import jsqr from "jsqr";
import { describe, expect, test } from "vitest";
import { encode } from "../src/core/qr";

// jsqr is somebody else's reader.
const read = (jsqr as unknown as { default?: typeof jsqr }).default ?? jsqr;

function scan(modules: boolean[][]): string | undefined {
  const scale = 4;
  const quiet = 4;
  const size = (modules.length + 2 * quiet) * scale;
  const pixels = new Uint8ClampedArray(size * size * 4).fill(255);
  modules.forEach((row, y) => {
    row.forEach((dark, x) => {
      if (!dark) return;
      for (let i = 0; i < scale; i++) {
        for (let j = 0; j < scale; j++) {
          const at = (((y + quiet) * scale + i) * size + (x + quiet) * scale + j) * 4;
          pixels.fill(0, at, at + 3);
        }
      }
    });
  });
  return read(pixels, size, size)?.data;
}

describe("qr", () => {
  test("another reader reads what was written, in every version", () => {
    for (const n of [1, 14, 15, 26, 42, 62, 84, 106, 122, 152, 180, 213]) {
      const text = "sha256/90Xlv2z5kqGtf50DRTSpFKLMZm".repeat(8).slice(0, n);
      expect(scan(encode(text)), `${n} bytes`).toBe(text);
    }
    expect(scan(encode("edgepost:claim?code=BCDF-GHJK"))).toBe("edgepost:claim?code=BCDF-GHJK");
  });

  test("what does not fit is refused", () => {
    expect(() => encode("x".repeat(214))).toThrow(RangeError);
  });
});
