import { Gateway } from "./gateway";
import { accessible, expect, fits, person, test } from "./test";

test("language, theme, the gateway, the certificate", async ({ inside: page, gateway }) => {
  await page.getByRole("link", { name: "Settings", exact: true }).click();
  await expect(page.getByText("Epoch of its log")).toBeVisible();
  await accessible(page);
  const tab = page.getByRole("tabpanel");
  await tab.getByRole("button", { name: "dark" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await tab.getByRole("button", { name: "中文" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "设置" })).toBeVisible();
  await tab.getByRole("button", { name: "English" }).click();
  await page.getByRole("tab", { name: "Certificate" }).click();
  const fingerprint = gateway.cli("fingerprint");
  await expect(page.getByText(fingerprint)).toBeVisible();
  await expect(page.getByRole("img", { name: "The fingerprint as a QR code" })).toBeVisible();
  const file = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save as a file" }).click();
  expect((await file).suggestedFilename()).toBe("gateway.pem");
  await accessible(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});

test("the configuration in force, and a file checked before it is used", async ({ inside: page, gateway }) => {
  await page.goto(`${gateway.url}/#/settings?tab=config`);
  const table = page.getByRole("table", { name: "Configuration" });
  await expect(table.getByRole("row", { name: /http\.addr/ })).toContainText("flag");
  await page.getByLabel("Search", { exact: true }).fill("delivery.");
  await expect(table.getByRole("row", { name: /delivery\.ttl/ })).toContainText("default");
  await page.getByLabel("edgepost.toml").fill("[delivery]\nwindow = -1\nwnidow = 2\n");
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByText("wnidow")).not.toHaveCount(0);
  await accessible(page);
  await page.getByLabel("edgepost.toml").fill("[delivery]\nwindow = 8\n");
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByText("no mistake")).toBeVisible();
});

test("one's own password: the present one must be right", async ({ page, gateway }) => {
  await gateway.api("POST", "/v1/users", { name: "bob", password: "a first password", admin: true });
  await page.request.post(`${gateway.url}/v1/session`, { data: { name: "bob", password: "a first password" } });
  await page.goto(`${gateway.url}/#/settings`);
  await page.getByLabel("Present password").fill("not this one");
  await page.getByLabel("New password").fill("a second password");
  await page.getByRole("button", { name: "Set password" }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await page.getByLabel("Present password").fill("a first password");
  await page.getByRole("button", { name: "Set password" }).click();
  await expect(page.getByText("The password is set.")).toBeVisible();
});

test("a backup of one gateway is restored on another", async ({ page }) => {
  const [from, to] = [new Gateway(), new Gateway()];
  try {
    for (const g of [from, to]) {
      await g.start();
      await g.api("POST", "/v1/setup", { code: g.code, ...person });
    }
    await from.addDevice("heirloom");
    await page.request.post(`${from.url}/v1/session`, { data: person });
    await page.goto(`${from.url}/#/settings?tab=backup`);
    await page.getByLabel("Passphrase", { exact: true }).fill("a long passphrase");
    await page.getByLabel("Passphrase again").fill("a long passphrase");
    await accessible(page);
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save the backup" }).click();
    const file = await (await saved).path();
    const bundle = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save the bundle" }).click();
    expect((await bundle).suggestedFilename()).toMatch(/diagnostics\.tar$/);

    await page.request.post(`${to.url}/v1/session`, { data: person });
    await page.goto(`${to.url}/#/settings?tab=backup`);
    await page.getByLabel("File").setInputFiles(file);
    await page.getByLabel("Its passphrase").fill("not the passphrase");
    await page.getByRole("button", { name: "Restore" }).click();
    const dialog = page.getByRole("dialog");
    const name = (await page.locator(".brand").textContent())!;
    await dialog.getByRole("textbox").fill(name);
    await dialog.getByRole("button", { name: "Restore" }).click();
    await expect(dialog.getByRole("alert")).toBeVisible();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await page.getByLabel("Its passphrase").fill("a long passphrase");
    await page.getByRole("button", { name: "Restore" }).click();
    await dialog.getByRole("textbox").fill(name);
    await dialog.getByRole("button", { name: "Restore" }).click();
    await expect(page.getByText("Restored: 1 devices")).toBeVisible();
    expect(to.cli("device", "list")).toContain("heirloom");
  } finally {
    await from.remove();
    await to.remove();
  }
});
