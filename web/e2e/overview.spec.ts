import { accessible, expect, fits, person, test } from "./test";

test("the overview draws live, in numbers and as a table", async ({ inside: page, gateway }) => {
  await expect(page.getByText("live", { exact: true })).toBeVisible();
  await gateway.addDevice("meter1");
  await gateway.send("device/meter1/in/set", { on: true });
  await expect(page.locator(".tile", { hasText: "Waiting" })).toContainText("1");
  await expect(page.getByRole("link", { name: "meter1" })).toBeVisible(); // who waits for the most
  await expect(page.locator(".tile", { hasText: "Publish to ack" })).toContainText(/\d (µs|ms|s)/);
  await page.getByRole("button", { name: "As a table" }).first().click();
  await expect(page.getByRole("region", { name: "Messages per second" }).getByRole("row")).not.toHaveCount(0);
  await accessible(page);
});

test("it fits a phone, in Chinese and in the dark", async ({ inside: page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("button", { name: "中文" }).click();
  await expect(page.getByRole("heading", { name: "总览" })).toBeVisible();
  await expect(page.locator("html")).toHaveAttribute("lang", "zh-CN");
  await page.getByRole("button", { name: "主题：跟随系统" }).click();
  await accessible(page);
  await page.getByRole("button", { name: "菜单" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await fits(page);
  await accessible(page);
  await page.reload();
  await expect(page.getByRole("heading", { name: "总览" })).toBeVisible(); // remembered
  await page.getByRole("button", { name: "菜单" }).click();
  await expect(page.getByRole("navigation").getByRole("link").first()).toBeVisible();
});

test("Ctrl-K finds pages by keyboard alone", async ({ inside: page }) => {
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("combobox", { name: "Search" })).toBeFocused();
  await accessible(page);
  await page.keyboard.type("dark");
  await page.keyboard.press("Enter");
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.keyboard.press("Control+k");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("combobox")).toHaveCount(0);
});

test("a page that was open for a day shows the last hour and goes on", async ({ page, gateway }) => {
  await page.clock.install();
  await page.request.post(`${gateway.url}/v1/session`, { data: person });
  await page.goto(gateway.url);
  await expect(page.locator(".canvas canvas")).toHaveCount(4);
  const before = await page.evaluate(() => Date.now());
  for (let hour = 0; hour < 24; hour++) {
    await page.clock.fastForward("01:00:00");
    await page.waitForTimeout(300);
  }
  expect((await page.evaluate(() => Date.now())) - before).toBeGreaterThan(86_000_000);
  await gateway.send("day/over", 1);
  await page.clock.runFor(3000);
  await expect(page.getByText("live", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "As a table" }).first().click();
  const rows = page.getByRole("region", { name: "Messages per second" }).getByRole("row");
  await expect(rows).not.toHaveCount(0);
  expect(await rows.count()).toBeLessThanOrEqual(62); // one for a minute of an hour, and the head
});
