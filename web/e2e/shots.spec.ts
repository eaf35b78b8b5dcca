// `make screenshots`: each page in both languages, themes and widths, to web/shots, to be looked at.
import { test as base } from "@playwright/test";
import { furnish } from "./furnish";
import { expect, test } from "./test";

const pages = { overview: "#/", start: "#/start" };

(process.env.SHOTS ? base.describe : base.describe.skip)("screenshots", () => {
  for (const language of ["en", "zh"]) {
    for (const theme of ["light", "dark"]) {
      for (const width of [360, 1280]) {
        test(`${language} ${theme} ${width}`, async ({ inside: page, gateway }) => {
          await furnish(gateway);
          await page.setViewportSize({ width, height: width === 360 ? 740 : 800 });
          await page.evaluate(
            ([l, t]) => {
              localStorage.setItem("edgepost.language", l!);
              localStorage.setItem("edgepost.theme", t!);
            },
            [language, theme],
          );
          for (const [name, hash] of Object.entries(pages)) {
            await page.goto(`${gateway.url}/${hash}`);
            await page.reload();
            await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
            await page.waitForTimeout(1500);
            await page.screenshot({ path: `shots/${name}-${language}-${theme}-${width}.png`, fullPage: true });
          }
        });
      }
    }
  }
});
