// Bridges against a real Mosquitto: the outage, and every order that a person can give.
import { test as base, type Page } from "@playwright/test";
import { Mosquitto } from "./broker";
import { accessible, expect, fits, test } from "./test";

let broker: Mosquitto;

base.beforeAll(async () => {
  broker = new Mosquitto();
  await broker.start();
});
base.afterAll(() => broker.remove());

const bridge = (url: string) => ({
  kind: "mqtt",
  urls: [url],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the gateway fills them in
  up: { filters: ["device/+/out/#"], to: "ep/v1/test/${gw}/up/${topic}" },
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the gateway fills them in
  down: { from: ["ep/v1/test/+/down/#"], to: "device/${topic[5]}/in/${topic[6:]}" },
});

const tile = (page: Page, name: string) => page.locator(".tile", { has: page.getByText(name, { exact: true }) });
const state = (page: Page) => page.locator(".head [role=status]");
const fact = (page: Page, name: string) =>
  page.locator("dt").getByText(name, { exact: true }).locator("xpath=following-sibling::dd[1]");

test("no bridge yet: lines to copy for each kind, which the gateway itself takes", async ({
  inside: page,
  gateway,
}) => {
  await page.getByRole("link", { name: "Bridges", exact: true }).click();
  await expect(page.getByRole("heading", { name: "No bridge yet" })).toBeVisible();
  const tabs = page.getByRole("tab");
  await expect(tabs.first()).toBeVisible();
  const kinds = await tabs.allTextContents();
  expect(kinds).toEqual(expect.arrayContaining(["MQTT", "Webhook"]));
  for (const kind of kinds) {
    await page.getByRole("tab", { name: kind }).click();
    const text = (await page.locator(".code pre").textContent()) ?? "";
    const answer = await gateway.api<{ ok: boolean; mistakes?: unknown }>("POST", "/v1/config/validate", text, {
      "Content-Type": "application/toml",
    });
    expect(answer, text).toMatchObject({ ok: true });
  }
  await tabs.first().click();
  await page.keyboard.press("ArrowRight");
  await expect(tabs.nth(1)).toHaveAttribute("aria-selected", "true");
  await accessible(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});

test("an outage: what waits, for how long, why, and that it drains", async ({ inside: page, gateway }) => {
  test.setTimeout(120_000);
  await gateway.addDevice("sensor1");
  await gateway.api("PUT", "/v1/bridges/central", bridge(broker.url));
  await page.goto(`${gateway.url}/#/bridges`);
  const row = page.getByRole("row", { name: /central/ });
  await expect(row).toContainText("connected");
  await accessible(page);
  await row.getByRole("link").click();
  await expect(page.getByRole("heading", { level: 1, name: "central" })).toBeVisible();
  await expect(state(page)).toContainText("connected");

  for (let n = 0; n < 3; n++) await gateway.send("device/sensor1/out/t", { n });
  await expect(fact(page, "Confirmed")).toHaveText("3");
  await expect(tile(page, "Waiting")).toContainText("nothing waits");
  await page.getByRole("button", { name: "Test the connection" }).click();
  await expect(page.getByText(`127.0.0.1:${broker.port} takes connections.`)).toBeVisible();

  broker.publish("ep/v1/test/gw/down/sensor1/cmd", '{"reboot":true}');
  await expect(fact(page, "Stored")).toHaveText("1");
  const inbox = await gateway.api<{ inbox: { depth: number } }>("GET", "/v1/devices/sensor1");
  expect(inbox.inbox.depth).toBe(1);

  await broker.kill();
  for (let n = 0; n < 5; n++) await gateway.send("device/sensor1/out/t", { n });
  await expect(tile(page, "Waiting").locator(".value")).toHaveText("5");
  await expect(tile(page, "Waiting")).toContainText("about");
  await expect(tile(page, "Oldest")).toContainText(/\d+ s/);
  await expect(page.getByText("Nothing is lost meanwhile")).toBeVisible();
  await expect(page.getByText("Nothing listens at the upstream's address").first()).toBeVisible();
  await page.getByRole("button", { name: "Test the connection" }).click();
  const test1 = page.locator(".card", { has: page.getByRole("heading", { name: "Test", exact: true }) });
  await expect(test1.getByRole("alert")).toContainText("Nothing listens at the upstream's address");
  await expect(test1.getByRole("alert")).toContainText("connection refused");
  await accessible(page);
  await page.goto(`${gateway.url}/#/bridges`);
  await expect(page.getByRole("row", { name: /central/ })).toContainText("Nothing listens");
  await page.goBack();

  await broker.start();
  await page.getByRole("button", { name: "Try now" }).click();
  await expect(state(page)).toContainText("connected");
  await expect(tile(page, "Waiting").locator(".value")).toHaveText("0");
  await expect(fact(page, "Confirmed")).toHaveText("8");
});

test("paused, resumed, drained, skipped, sent again, removed", async ({ inside: page, gateway }) => {
  test.setTimeout(120_000);
  await gateway.addDevice("sensor2");
  await gateway.api("PUT", "/v1/bridges/steered", bridge(broker.url));
  await page.goto(`${gateway.url}/#/bridges/steered`);
  const waits = tile(page, "Waiting").locator(".value");
  await expect(state(page)).toContainText("connected");

  await page.getByRole("button", { name: "Pause" }).click();
  await expect(state(page)).toContainText("paused");
  for (let n = 0; n < 4; n++) await gateway.send("device/sensor2/out/t", { n });
  await expect(waits).toHaveText("4");
  await accessible(page);
  await page.getByRole("button", { name: "Resume" }).click();
  await expect(state(page)).toContainText("connected");
  await expect(waits).toHaveText("0");
  await expect(fact(page, "Confirmed")).toHaveText("4");

  await page.getByRole("button", { name: "Pause" }).click();
  await expect(state(page)).toContainText("paused");
  for (let n = 0; n < 2; n++) await gateway.send("device/sensor2/out/t", { n });
  await expect(waits).toHaveText("2");
  await page.getByRole("button", { name: "Skip…" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("button", { name: "Skip" })).toBeDisabled();
  await accessible(page);
  await dialog.getByLabel("Type steered to confirm").fill("steered");
  await dialog.getByRole("button", { name: "Skip" }).click();
  await expect(page.getByText("2 messages skipped")).toBeVisible();
  await expect(waits).toHaveText("0");

  await page.getByRole("button", { name: "Rewind…" }).click();
  await accessible(page);
  await dialog.getByRole("button", { name: "All that is kept" }).click();
  await dialog.getByRole("button", { name: "Rewind" }).click();
  await expect(page.getByText("It sends again what is kept.")).toBeVisible();
  await expect(waits).not.toHaveText("0");
  // Draining connects, and pauses again once nothing waits.
  await page.getByRole("button", { name: "Drain" }).click();
  await expect(waits).toHaveText("0");
  await expect(state(page)).toContainText("paused");

  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
  await page.getByRole("button", { name: "Remove…" }).click();
  await dialog.getByLabel("Type steered to confirm").fill("steered");
  await dialog.getByRole("button", { name: "Remove" }).click();
  await expect(page).toHaveURL(/#\/bridges$/);
  await expect(page.getByRole("row", { name: /steered/ })).toHaveCount(0);
});

test("what waits for the hours in which a bridge sends says so", async ({ inside: page, gateway }) => {
  await gateway.addDevice("sensor3");
  const at = (hours: number) => new Date(Date.now() + hours * 3_600_000).toTimeString().slice(0, 5);
  const fields = bridge(broker.url);
  await gateway.api("PUT", "/v1/bridges/metered", { ...fields, up: { ...fields.up, schedule: [`${at(2)}-${at(3)}`] } });
  await gateway.send("device/sensor3/out/t", { n: 1 });
  await page.goto(`${gateway.url}/#/bridges/metered`);
  await expect(page.locator(".banner")).toContainText("Outside of the hours in which it sends");
  await expect(page.locator(".banner")).toContainText("1 message waits");
  await accessible(page);
  await page.goto(`${gateway.url}/#/bridges`);
  await expect(page.getByRole("row", { name: /metered/ })).toContainText("Outside of the hours");
  await gateway.api("PUT", "/v1/bridges/metered", fields);
  await page.goto(`${gateway.url}/#/bridges/metered`);
  await expect(tile(page, "Waiting").locator(".value")).toHaveText("0");
  await gateway.api("DELETE", "/v1/bridges/metered");
});

test("a bridge that is not there says so, and one whose configuration is wrong names the file", async ({
  inside: page,
  gateway,
}) => {
  await page.goto(`${gateway.url}/#/bridges/nobody`);
  await expect(page.getByRole("heading", { name: "There is no such bridge" })).toBeVisible();
  await gateway.api("PUT", "/v1/bridges/secret", { ...bridge(broker.url), password_file: "/nowhere/password" });
  await page.goto(`${gateway.url}/#/bridges/secret`);
  await expect(state(page)).toContainText("needs a change");
  await expect(page.getByRole("alert")).toContainText("A file that the configuration names is missing");
  await expect(page.getByRole("alert")).toContainText("/nowhere/password");
  await accessible(page);
  await gateway.api("DELETE", "/v1/bridges/secret");
});
