import { accessible, expect, fits, test } from "./test";

test("a key is made, works, and is removed", async ({ inside: page, gateway }) => {
  await page.getByRole("link", { name: "Access", exact: true }).click();
  await page.getByRole("button", { name: "Add a key" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("backend");
  await dialog.getByLabel("publish", { exact: true }).fill("app/#");
  await accessible(page);
  await dialog.getByRole("button", { name: "Add a key" }).click();
  const token = (await dialog.locator("pre").textContent())!;
  const publish = (topic: string) =>
    fetch(`${gateway.url}/v1/publish/${topic}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}` },
      body: "1",
    });
  expect((await publish("app/x")).status).toBe(201);
  expect((await publish("other")).status).toBe(403);
  await dialog.getByRole("button", { name: "Done" }).click();
  const row = page.getByRole("row", { name: /backend/ });
  await expect(row).toContainText("app/#");
  await accessible(page);
  await row.getByRole("button", { name: "Remove backend" }).click();
  await page.getByLabel("Type backend to confirm").fill("backend");
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(row).toHaveCount(0);
  expect((await publish("app/x")).status).toBe(401);
});

test("people: added, edited, the last administrator stays", async ({ inside: page, gateway }) => {
  await page.goto(`${gateway.url}/#/access?tab=users`);
  await page.getByRole("button", { name: "Add a person" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("ann");
  await dialog.getByLabel("Password").fill("a long sentence");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("row", { name: /ann/ })).toBeVisible();
  await page.getByRole("button", { name: "Edit ann" }).click();
  await dialog.getByLabel("Label").fill("Ann of the night shift");
  await accessible(page);
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Ann of the night shift")).toBeVisible();
  await page.getByRole("button", { name: "Remove admin" }).click();
  await dialog.getByLabel("Type admin to confirm").fill("admin");
  await dialog.getByRole("button", { name: "Remove" }).click();
  await expect(dialog.getByText("The last administrator stays")).toBeVisible();
});

test("the dry run names the rule", async ({ inside: page, gateway }) => {
  await gateway.addDevice("lamp8");
  await page.goto(`${gateway.url}/#/access?tab=check`);
  await page.getByLabel("Who").fill("device/lamp8");
  await page.getByLabel("Topic").fill("device/lamp8/out/x");
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByText("allowed")).toBeVisible();
  await page.getByLabel("Topic").fill("device/other/out/x");
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByText("refused")).toBeVisible();
  await expect(page.getByText("no rule allows it")).toBeVisible();
  await accessible(page);
});

test("sessions: one is ended from another", async ({ inside: page, gateway, browser }) => {
  await gateway.api("POST", "/v1/users", { name: "carl", password: "a long sentence" });
  const other = await browser.newContext();
  await other.request.post(`${gateway.url}/v1/session`, { data: { name: "carl", password: "a long sentence" } });
  await page.goto(`${gateway.url}/#/access?tab=sessions`);
  await expect(page.getByRole("row", { name: /this one/ })).toBeVisible();
  await accessible(page);
  await page.getByRole("row", { name: /carl/ }).getByRole("button", { name: "End" }).click();
  await expect(page.getByText("The session of carl has ended.")).toBeVisible();
  expect((await other.request.get(`${gateway.url}/v1/session`)).status()).toBe(401);
  await other.close();
});

test("tokens, a device's code, the audit", async ({ inside: page, gateway }) => {
  await page.goto(`${gateway.url}/#/access?tab=tokens`);
  await expect(page.getByRole("table", { name: "Signing keys" })).toContainText("signs");
  await accessible(page);
  await gateway.addDevice("tv1");
  const form = new URLSearchParams({ client_id: "tv1", scope: "subscribe:device/tv1/in/#" });
  const asked = (await (
    await fetch(`${gateway.url}/oauth2/device_authorization`, { method: "POST", body: form })
  ).json()) as { user_code: string };
  await page.goto(`${gateway.url}/device?user_code=${asked.user_code}`);
  await page.getByRole("button", { name: "Look" }).click();
  await expect(page.getByText("device/tv1", { exact: true })).toBeVisible();
  await accessible(page);
  await page.getByRole("button", { name: "Grant" }).click();
  await expect(page.getByText("granted")).toBeVisible();

  await page.goto(`${gateway.url}/#/access?tab=audit`);
  const audit = page.getByRole("table", { name: "Audit" });
  await expect(audit.getByRole("row").nth(1)).toContainText("oauth.approve"); // the newest first
  await expect(audit).toContainText("setup");
  await accessible(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});
