import { expect, test } from "vitest";
import { last } from "../src/core/last";

test("the end of a list is found by halving", async () => {
  for (const n of [0, 1, 2, 3, 4, 7, 8, 9, 1000, 1023, 1024, 1025, 123_456]) {
    let asked = 0;
    const any = async (after: number) => {
      asked++;
      return after < n;
    };
    expect(await last(any)).toBe(n);
    expect(asked).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(n + 1)) + 2);
  }
});
