// `make screenshots`: each page in both languages, themes and widths, to web/shots, to be looked at. SHOTS=bridge takes
// only those whose name begins so.
import { test as base } from "@playwright/test";
import { Mosquitto } from "./broker";
import { bridge, furnish, unbridge } from "./furnish";
import { expect, test } from "./test";

const pages = {
  "bridges-none": "#/bridges",
  overview: "#/",
  start: "#/start",
  devices: "#/devices",
  device: "#/devices/pump_A1B2",
  timeline: "#/devices/lamp1?tab=timeline",
  credentials: "#/devices/pump_A1B2?tab=credentials",
  messages: "#/messages?topic=group/hall/in/scene",
  trace: "#/messages/ID",
  dead: "#/dead",
  letter: "#/dead/1",
  access: "#/access",
  users: "#/access?tab=users",
  check: "#/access?tab=check",
  tokens: "#/access?tab=tokens",
  sessions: "#/access?tab=sessions",
  config: "#/settings?tab=config",
  backup: "#/settings?tab=backup",
  audit: "#/access?tab=audit",
  settings: "#/settings",
  certificate: "#/settings?tab=certificate",
  approve: "#/approve",
  topics: "#/topics?topic=device/meter1/out/power",
  bridges: "#/bridges",
  "bridge-down": "#/bridges/plant",
  bridge: "#/bridges/central",
};

const wanted = (name: string) => process.env.SHOTS === "1" || name.startsWith(process.env.SHOTS ?? "");
const broker = new Mosquitto();
base.afterAll(() => broker.remove());

(process.env.SHOTS ? base.describe : base.describe.skip)("screenshots", () => {
  for (const language of ["en", "zh"]) {
    for (const theme of ["light", "dark"]) {
      for (const width of [360, 1280]) {
        test(`${language} ${theme} ${width}`, async ({ inside: page, gateway }) => {
          const seen = await furnish(gateway);
          await page.setViewportSize({ width, height: width === 360 ? 740 : 800 });
          await page.evaluate(
            ([l, t]) => {
              localStorage.setItem("edgepost.language", l!);
              localStorage.setItem("edgepost.theme", t!);
            },
            [language, theme],
          );
          await broker.start();
          for (const [name, hash] of Object.entries(pages).filter(([name]) => wanted(name))) {
            if (name !== "bridges-none") await bridge(gateway, broker.url);
            await page.goto(`${gateway.url}/${hash.replace("ID", seen.id)}`);
            await page.reload();
            await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
            if (name === "topics") {
              await page.waitForTimeout(500);
              for (let i = 0; i < 9; i++)
                await gateway.send("device/meter1/out/power", { watt: 230 + 9 * (i % 4) - i, phase: "L1" });
            }
            await page.waitForTimeout(1200);
            await page.screenshot({ path: `shots/${name}-${language}-${theme}-${width}.png`, fullPage: true });
          }
          await unbridge(gateway);
        });
      }
    }
  }
});
