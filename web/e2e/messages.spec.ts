import { Gateway } from "./gateway";
import { accessible, expect, fits, person, test } from "./test";

test("compose: who gets it, mistakes in words, watch it delivered, its trace", async ({ inside: page, gateway }) => {
  const token = await gateway.addDevice("lamp5");
  await page.getByRole("link", { name: "Messages", exact: true }).click();
  await page.getByLabel("Topic").fill("device/nobody/in/set");
  await expect(page.getByText("There is no such device.")).toBeVisible();
  await page.getByLabel("Topic").fill("device/lamp5/in/set");
  await expect(page.getByText("1 device, offline: it waits")).toBeVisible();
  await page.getByLabel("Payload").fill("{on");
  await expect(page.getByText("Not JSON")).toBeVisible();
  await expect(page.getByRole("button", { name: "Send", exact: true })).toBeDisabled();
  await page.getByLabel("Payload").fill('{"on": true}');
  await page.getByLabel("Expires after").fill("10m");
  await page.getByLabel("Priority").selectOption("8");
  await accessible(page);
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.getByText("1 waiting")).toBeVisible();
  await page.getByRole("link", { name: /^[a-z2-9]{8}-\d+$/ }).click();
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("offline");
  await accessible(page);
  await gateway.take("lamp5", token);
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("delivered");
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("acknowledged");
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});

test("what waits can be cancelled", async ({ inside: page, gateway }) => {
  await gateway.addDevice("lamp6");
  const { id } = await gateway.send("device/lamp6/in/set", { on: true });
  await page.goto(`${gateway.url}/#/messages/${id}`);
  await page.getByRole("button", { name: "Cancel delivery" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel delivery" }).click();
  await expect(page.getByText("1 delivery cancelled.")).toBeVisible();
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("cancelled");
});

test("a hostile payload is text", async ({ inside: page, gateway }) => {
  await page.goto(`${gateway.url}/#/topics`);
  await expect(page.getByText("Nothing yet")).toBeVisible();
  await page.waitForTimeout(300); // the stream of the page is open
  const evil = `<script>document.title="owned"</script><img src=x onerror='document.title="owned"'>`;
  await gateway.addDevice("evil1", { label: evil.slice(0, 60) });
  const { id } = await gateway.api<{ id: string }>("POST", "/v1/publish?topic=device/evil1/in/%3Cb%3Ex", evil, {
    "Content-Type": "text/html",
  });
  await expect(page.getByText('<script>document.title="owned"</script>').first()).toBeVisible();
  for (const at of [`messages/${id}`, "devices", "devices/evil1"]) {
    await page.goto(`${gateway.url}/#/${at}`);
    await expect(page.getByText("<script>").first()).toBeVisible();
  }
  expect(await page.title()).not.toContain("owned");
  expect(await page.locator("main script, main img").count()).toBe(0);
});

test("kill -9 while the page is open: it says so, recovers by itself and nothing is lost", async ({ page }) => {
  const g = new Gateway();
  try {
    await g.start();
    await g.api("POST", "/v1/setup", { code: g.code, ...person });
    await page.request.post(`${g.url}/v1/session`, { data: person });
    await g.addDevice("lamp1");
    for (let i = 0; i < 25; i++) await g.send("device/lamp1/in/set", { n: i });
    await page.goto(g.url);
    const waiting = page.locator(".tile", { hasText: "Waiting" });
    await expect(waiting).toContainText("25");
    await g.kill();
    await expect(page.getByText("connection lost")).toBeVisible();
    await g.start();
    // Sessions end with the process: they are in memory only.
    await expect(page.getByText("Your session has ended")).toBeVisible();
    await page.getByLabel("Name").fill(person.name);
    await page.getByLabel("Password").fill(person.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByText("live", { exact: true })).toBeVisible();
    await expect(waiting).toContainText("25");
  } finally {
    await g.remove();
  }
});
