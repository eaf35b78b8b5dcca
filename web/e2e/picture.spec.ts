// The picture in the README: `SHOTS=1 npx playwright test picture` after `make build`. Traffic runs for a minute and a half.
import { furnish } from "./furnish";
import type { Gateway } from "./gateway";
import { test } from "./test";

const SECONDS = 90;

/** One second of a small house: sensors report, lamps are switched and answer. */
async function second(g: Gateway, n: number, tokens: string[]): Promise<void> {
  const load = 6 + Math.round(4 * Math.sin(n / 9)) + (n % 17 === 0 ? 9 : 0);
  for (let i = 0; i < load; i++) {
    await g.send(`device/meter1/out/power`, { watt: 230 + i });
    await g.send(`device/desk${i % 3}/in/set`, { level: i });
  }
  if (n % 4 !== 3) for (const [i, token] of tokens.entries()) await g.take(`desk${i}`, token);
}

(process.env.SHOTS ? test : test.skip)("overview", async ({ inside: page, gateway }) => {
  test.setTimeout((SECONDS + 60) * 1000);
  await gateway.api("PUT", "/v1/gateway", { name: "attic" });
  await furnish(gateway);
  const tokens: string[] = [];
  for (let i = 0; i < 3; i++) tokens.push(await gateway.addDevice(`desk${i}`, { label: `Desk lamp ${i + 1}` }));
  await page.evaluate(() => localStorage.setItem("edgepost.theme", "light"));
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.reload();
  for (let n = 0; n < SECONDS; n++) {
    const next = Date.now() + 1000;
    await second(gateway, n, tokens);
    await page.waitForTimeout(Math.max(0, next - Date.now()));
  }
  await page.screenshot({ path: "overview.png" });
});
