// What every test of the page has: a gateway that is set up, a signed-in page, and the checks that hold on each page.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test as base, expect, type Page } from "@playwright/test";
import { Gateway, person } from "./gateway";

export { expect, person };

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const test = base.extend<{ inside: Page; quiet: undefined }, { gateway: Gateway }>({
  gateway: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the parameter's pattern
    async ({}, use) => {
      const g = new Gateway();
      await g.start();
      await g.api("POST", "/v1/setup", { code: g.code, ...person });
      await use(g);
      await g.remove();
    },
    { scope: "worker" },
  ],
  /** A page that complains about nothing: no error, nothing that the policy blocked. */
  quiet: [
    async ({ page }, use) => {
      const said: string[] = [];
      page.on("pageerror", (e) => said.push(String(e)));
      page.on("console", (m) => {
        if (
          m.type() === "error" &&
          !/status of (401|403|404|409)|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(
            m.text(),
          )
        )
          said.push(m.text());
      });
      await use(undefined);
      expect(said, "errors on the page's console").toEqual([]);
    },
    { auto: true },
  ],
  /** The overview, signed in. */
  inside: async ({ page, gateway }, use) => {
    const answer = await page.request.post(`${gateway.url}/v1/session`, { data: person });
    expect(answer.status()).toBe(201);
    await page.goto(gateway.url);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await use(page);
  },
});

/** accessible fails when axe-core finds something serious (WCAG 2.2 A and AA). */
export async function accessible(page: Page): Promise<void> {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    // What fades in has little contrast until it is there.
    const ends = document.getAnimations().filter((a) => Number.isFinite(a.effect?.getComputedTiming().endTime));
    await Promise.allSettled(ends.map((a) => a.finished));
    const run = (
      globalThis as unknown as { axe: { run: (c: unknown, o: unknown) => Promise<{ violations: Violation[] }> } }
    ).axe.run;
    interface Violation {
      id: string;
      impact: string;
      help: string;
      nodes: { html: string; failureSummary: string }[];
    }
    const r = await run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return r.violations
      .filter((v) => v.impact === "serious" || v.impact === "critical")
      .map((v) => `${v.id}: ${v.help}\n${v.nodes.map((n) => `  ${n.html}\n  ${n.failureSummary}`).join("\n")}`);
  });
  expect(found).toEqual([]);
}

/** fits fails when the page is wider than the window. */
export async function fits(page: Page): Promise<void> {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth] as const);
  expect(content, "the page is wider than the window").toBeLessThanOrEqual(window);
}
