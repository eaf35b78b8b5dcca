import { accessible, expect, fits, test } from "./test";

test("a device is added, found, edited and removed", async ({ inside: page, gateway }) => {
  await page.getByRole("link", { name: "Devices", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Devices" })).toBeVisible();
  await page.getByRole("button", { name: "Add a device" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Device id").fill("valve7");
  await dialog.getByLabel("Label").fill("阀门");
  await accessible(page);
  await dialog.getByRole("button", { name: "Add a device" }).click();
  await expect(dialog.getByText("shown only this once")).toBeVisible();
  const token = (await dialog.locator("code", { hasText: /^ep_/ }).first().textContent())!;
  await accessible(page);
  await page.keyboard.press("Escape");
  await expect(dialog).toHaveCount(0);

  await page.getByLabel("Search", { exact: true }).fill("阀");
  await expect(page.getByRole("link", { name: "valve7" })).toBeVisible();
  await expect(page).toHaveURL(/search=/); // the view has an address
  await page.getByRole("link", { name: "valve7" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "valve7" })).toBeVisible();

  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Label").fill("Main valve");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Main valve")).toBeVisible();

  expect(await gateway.take("valve7", token)).toBe(0); // the token works
  await page.getByRole("button", { name: "Remove" }).click();
  const sure = page.getByRole("dialog").getByRole("button", { name: "Remove" });
  await expect(sure).toBeDisabled();
  await page.getByLabel("Type valve7 to confirm").fill("valve7");
  await sure.click();
  await expect(page.getByText("valve7 is removed.")).toBeVisible();
  await expect(page.getByRole("heading", { level: 1, name: "Devices" })).toBeVisible();
});

test("its queue can be looked at, put in another order and emptied", async ({ inside: page, gateway }) => {
  await gateway.addDevice("pump1");
  await gateway.send("device/pump1/in/first", { n: 1 });
  await gateway.send("device/pump1/in/second", { n: 2 });
  await page.goto(`${gateway.url}/#/devices/pump1`);
  const rows = page.getByRole("tabpanel").getByRole("row");
  await expect(rows).toHaveCount(3);
  await expect(rows.nth(1)).toContainText("device/pump1/in/first");
  await expect(rows.nth(1)).toContainText("offline");
  await accessible(page);
  await rows.nth(2).getByRole("button", { name: "Send before the others" }).click();
  await expect(rows.nth(1)).toContainText("device/pump1/in/second");
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(rows.nth(1)).toContainText("device/pump1/in/first");
  await rows.nth(2).getByRole("button", { name: "Cancel this message" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel this message" }).click();
  await expect(rows).toHaveCount(2);
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});

test("a box sends to it, and the receipt comes alive", async ({ inside: page, gateway }) => {
  const token = await gateway.addDevice("siren1");
  await page.goto(`${gateway.url}/#/devices/siren1?tab=send`);
  await expect(page.getByText("1 device, offline: it waits")).toBeVisible();
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.getByText("1 waiting")).toBeVisible();
  await accessible(page);
  await gateway.take("siren1", token);
  await expect(page.getByText("1 delivered")).toBeVisible();
});

test("its timeline: what it said, what it took, when it came", async ({ inside: page, gateway }) => {
  const token = await gateway.addDevice("bell1");
  const { id } = await gateway.send("device/bell1/in/ring", { times: 2 });
  expect(gateway.be("bell1", token, 1)).toContain("device/bell1/in/ring");
  await fetch(`${gateway.url}/v1/publish/device/bell1/out/rang`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}` },
    body: "2",
  });
  await page.goto(`${gateway.url}/#/devices/bell1`);
  await page.getByRole("tab", { name: "Timeline" }).click();
  const table = page.getByRole("table", { name: "Timeline" });
  await expect(table.getByRole("row", { name: /published/ })).toContainText("device/bell1/out/rang");
  await expect(table.getByRole("row", { name: /delivered/ })).toContainText("ms");
  await expect(table.getByRole("row", { name: /online/ })).not.toHaveCount(0);
  await accessible(page);
  await table.getByRole("link", { name: "device/bell1/in/ring" }).click();
  await expect(page.getByRole("heading", { level: 1, name: id })).toBeVisible();
});

test("credentials: a new token, a claim code", async ({ inside: page, gateway }) => {
  const old = await gateway.addDevice("cam1");
  await page.goto(`${gateway.url}/#/devices/cam1?tab=credentials`);
  await page.getByRole("button", { name: "Make a code" }).click();
  await expect(page.getByRole("img", { name: "The claim code as a QR code" })).toBeVisible();
  await page.getByRole("button", { name: "New token" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "New token" }).click();
  await expect(page.getByText("shown only this once")).toBeVisible();
  await accessible(page);
  const answer = await fetch(`${gateway.url}/v1/devices/cam1/messages`, {
    headers: { Authorization: `Bearer ${old}` },
  });
  expect(answer.status).toBe(401);
});

test("an unknown device knocks and is let in", async ({ inside: page, gateway }) => {
  await page.goto(`${gateway.url}/#/devices`);
  await page.getByRole("button", { name: "Permit joining" }).click();
  await expect(page.getByText("Nobody is waiting yet")).toBeVisible();
  const basic = `Basic ${Buffer.from("plug9:its own secret").toString("base64")}`;
  const knock = () => fetch(`${gateway.url}/v1/devices/plug9/messages`, { headers: { Authorization: basic } });
  expect((await knock()).status).toBe(403);
  await page.getByRole("button", { name: "Let in" }).click();
  await expect(page.getByText("plug9 is a device now.")).toBeVisible();
  expect((await knock()).status).toBe(200);
  await accessible(page);
  await page.getByRole("button", { name: "Permit no longer" }).click();
  await expect(page.getByRole("button", { name: "Permit joining" })).toBeVisible();
});

test("5,000 devices: the list is there at once, and finds one", async ({ inside: page, gateway }) => {
  const lines = Array.from({ length: 5000 }, (_, i) => `bulk${String(i).padStart(4, "0")},Sensor ${i}`);
  await gateway.api("POST", "/v1/import/devices", `id,label\n${lines.join("\n")}\n`, { "Content-Type": "text/csv" });
  await page.goto(`${gateway.url}/#/devices`);
  await expect(page.getByText(/5,0\d\d devices/)).toBeVisible();
  const table = page.getByRole("table", { name: "Devices" });
  await expect(table.getByRole("row")).toHaveCount(101);
  await page.getByRole("button", { name: "Show more" }).click();
  await expect(table.getByRole("row")).toHaveCount(201);
  await page.getByLabel("Search", { exact: true }).fill("bulk4711");
  await expect(table.getByRole("row")).toHaveCount(2);
  await expect(table.getByRole("link", { name: "bulk4711" })).toBeVisible();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("bulk3210");
  await page.getByRole("option", { name: "bulk3210" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "bulk3210" })).toBeVisible();
});
