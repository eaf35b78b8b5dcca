import { execFileSync } from "node:child_process";
import { Gateway } from "./gateway";
import { accessible, expect, fits, person, test } from "./test";

test("from zero: set up, name, first device, its first message, one back, delivered", async ({ page }) => {
  const g = new Gateway();
  try {
    await g.start();
    await page.goto(g.url);
    await expect(page.getByRole("heading", { name: "Set up this gateway" })).toBeVisible();
    await accessible(page);

    await page.getByLabel("Set-up code").fill("AAAA-AAAA");
    await page.getByLabel("Password", { exact: true }).fill(person.password);
    await page.getByLabel("Password again").fill("another one");
    await expect(page.getByText("The two are not the same.")).toBeVisible();
    await page.getByLabel("Password again").fill(person.password);
    await page.getByRole("button", { name: "Set up" }).click();
    await expect(page.getByRole("alert")).toContainText("code");
    await page.getByLabel("Set-up code").fill(g.code);
    await page.getByRole("button", { name: "Set up" }).click();

    await expect(page.getByRole("heading", { name: "First steps" })).toBeVisible();
    await page.getByLabel("Name").fill("attic");
    await page.getByRole("button", { name: "Save" }).click();
    await expect(page.getByRole("link", { name: "attic" })).toBeVisible();
    await expect(page.getByText("as this device")).toBeVisible(); // its clock
    await page.getByLabel("Device id").fill("lamp1");
    await page.getByRole("button", { name: "Add a device" }).click();
    await expect(page.getByText("waits for the first message")).toBeVisible();
    await accessible(page);
    const token = (await page.locator("code", { hasText: /^ep_/ }).first().textContent())!;

    // The snippet of the page is what a person runs.
    await page.getByRole("tab", { name: "curl" }).click();
    const snippet = (await page.getByRole("tabpanel").locator("pre").textContent())!;
    expect(snippet).toContain(token);
    execFileSync("sh", ["-c", snippet], { stdio: "ignore" });
    await expect(page.getByText("heard on device/lamp1/out/hello")).toBeVisible();

    await page.getByRole("button", { name: "Send something to it" }).click();
    await expect(page.getByRole("link", { name: "Where is" })).toBeVisible();
    expect(await g.take("lamp1", token)).toBe(1);

    await page.setViewportSize({ width: 360, height: 740 });
    await fits(page);
  } finally {
    await g.remove();
  }
});

test("signing in and out; a wrong password says so", async ({ page, gateway }) => {
  await page.goto(gateway.url);
  await page.getByLabel("Name").fill(person.name);
  await page.getByLabel("Password").fill("not it at all");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("not a known name");
  await accessible(page);
  await page.getByLabel("Password").fill(person.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("button", { name: "Sign in" })).toBeVisible();
});

test("the policy is strict and everything comes from the gateway", async ({ page, gateway }) => {
  const foreign: string[] = [];
  page.on("request", (r) => r.url().startsWith(gateway.url) || r.url().startsWith("data:") || foreign.push(r.url()));
  const answer = await page.goto(gateway.url);
  const policy = answer!.headers()["content-security-policy"]!;
  expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self';");
  expect(policy).not.toContain("unsafe");
  await expect(page.getByRole("button", { name: "Sign in" })).toBeVisible();
  expect(foreign).toEqual([]);
});
