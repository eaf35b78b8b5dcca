import { accessible, expect, fits, test } from "./test";

test("tree and tail, the difference, a curve, pause, other formats", async ({ inside: page, gateway }) => {
  await gateway.addDevice("meter9");
  await page.getByRole("link", { name: "Topics", exact: true }).click();
  await expect(page.getByText("Nothing yet")).toBeVisible();
  await page.waitForTimeout(300); // the stream of the page is open
  for (let i = 0; i < 3; i++) await gateway.send("device/meter9/out/power", { watt: 230 + i, phase: "L1" });
  await expect(page.getByRole("button", { name: /^power/ })).toBeVisible();
  await accessible(page);
  await page.getByRole("button", { name: /^power/ }).click();
  await expect(page.getByRole("heading", { name: "device/meter9/out/power" })).toBeVisible();
  await expect(page.locator("pre .added")).toContainText("232");
  await expect(page.locator("pre .gone")).toContainText("231");
  await gateway.send("device/meter9/out/power", { watt: 500, phase: "L1" });
  await expect(page.locator(".legend")).toContainText("500");
  await accessible(page);

  await page.getByRole("button", { name: "Pause" }).click();
  await expect(page.getByRole("button", { name: "Go on" })).toBeVisible();
  await gateway.send("device/meter9/out/power", { watt: 999 });
  await page.waitForTimeout(600);
  await expect(page.locator(".legend")).toContainText("500");
  await page.getByRole("button", { name: "Go on" }).click();

  await page.getByLabel("Topic filter").fill("raw/#");
  await page.getByRole("button", { name: "Follow" }).click();
  await expect(page.getByText("Nothing yet")).toBeVisible();
  await page.waitForTimeout(300);
  const headers = {
    Authorization: `Bearer ${(await gateway.api<{ token: string }>("POST", "/v1/keys", { name: "bin", rules: { publish: ["raw/#"] } })).token}`,
  };
  await fetch(`${gateway.url}/v1/publish/raw/pb`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/x-protobuf" },
    body: new Uint8Array([8, 150, 1, 0x1d, 0, 0, 0xc0, 0x3f]),
  });
  await fetch(`${gateway.url}/v1/publish/raw/xml`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/xml" },
    body: "<a><b>1</b></a>",
  });
  await page.getByRole("button", { name: /^pb/ }).click();
  await expect(page.locator("pre.payload").first()).toContainText("1: 150");
  await page.getByRole("button", { name: "Hex" }).click();
  await expect(page.locator("pre.payload").first()).toContainText("08 96 01");
  await page.getByRole("button", { name: /^xml/ }).click();
  await page.getByRole("button", { name: "XML", exact: true }).click();
  await expect(page.locator("pre.payload").first()).toContainText("<b>");
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});
