import { readdirSync, readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { reason } from "../src/core/reason";
import { language } from "../src/core/words";

afterEach(() => {
  language.value = "en";
});

test("reasons of the gateway are said in the page's language", () => {
  expect(reason("retry 3 of 8 in 12s")).toBe("attempt 3 of 8 failed; the next one in 12s");
  expect(reason("offline since 09:12")).toBe("offline since 09:12");
  language.value = "zh";
  expect(reason("offline since 09:12")).toBe("自 09:12 起离线");
  expect(reason("rejected: <b>no</b>")).toBe("被拒绝：<b>no</b>");
  expect(reason("not subscribed: the connection takes other topics of this inbox only")).toMatch(/^未订阅/);
});

test("a reason that nobody foresaw stays as it is", () => {
  language.value = "zh";
  expect(reason("the valve is stuck")).toBe("the valve is stuck");
  expect(reason(undefined)).toBe("");
});

test("each reason that the gateway settles a message with is known", () => {
  const dir = "../appliance/courier";
  const code = readdirSync(dir)
    .filter((f) => f.endsWith(".go") && !f.endsWith("_test.go"))
    .map((f) => readFileSync(`${dir}/${f}`, "utf8"))
    .join("\n");
  const given = [...code.matchAll(/(?:drop|settle)\(.*message\.(?:Lost|Expired|Cancelled|Dead).*, "([^"]+)"\)/g)].map(
    (m) => m[1]!,
  );
  expect(given.length).toBeGreaterThan(5);
  language.value = "zh";
  expect(given.filter((g) => !/[\u4e00-\u9fff]/.test(reason(g)))).toEqual([]);
});
