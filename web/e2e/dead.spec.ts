import { accessible, expect, fits, test } from "./test";

test("dead letters: by cause, one looked at, edited and sent again, many at a rate", async ({
  inside: page,
  gateway,
}) => {
  await page.getByRole("link", { name: "Dead letters", exact: true }).click();
  await expect(page.getByRole("heading", { name: "Nothing was given up" })).toBeVisible();
  await accessible(page);

  const token = await gateway.addDevice("lock1");
  for (let n = 0; n < 3; n++) await gateway.send("device/lock1/in/cmd", { open: n });
  await gateway.reject("lock1", token, "the lock is jammed");
  const causes = page.getByRole("table", { name: "By cause" });
  await expect(causes).toContainText("the lock is jammed");
  await expect(causes).toContainText("3");
  await expect(page.getByRole("navigation").getByRole("link", { name: /Dead letters/ })).toContainText("3");
  await causes.getByRole("button").first().click();
  await expect(page).toHaveURL(/cause=/);
  await accessible(page);

  await page.getByRole("table", { name: "Dead letters" }).getByRole("link").first().click();
  await expect(page.getByRole("heading", { name: "Why it is here" })).toBeVisible();
  await page.getByLabel("Payload").fill('{"open": 7}');
  await accessible(page);
  await page.getByRole("button", { name: "Send edited" }).click();
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("lock1");
  expect(await gateway.take("lock1", token)).toBe(1);
  await expect(page.getByRole("table", { name: "Where it is" })).toContainText("delivered");

  await page.goto(`${gateway.url}/#/dead`);
  await page.getByRole("button", { name: "Send all again" }).click();
  await page.getByLabel("How fast").selectOption("100");
  await accessible(page);
  await page.getByRole("button", { name: "Begin" }).click();
  await expect(page.getByText("done", { exact: true })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Nothing was given up" })).toBeVisible();
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page);
});

test("one is discarded", async ({ inside: page, gateway }) => {
  const token = await gateway.addDevice("lock2");
  await gateway.send("device/lock2/in/cmd", { open: true });
  await gateway.reject("lock2", token, "no");
  await page.goto(`${gateway.url}/#/dead`);
  await page.getByRole("table", { name: "Dead letters" }).getByRole("link", { name: "device/lock2/in/cmd" }).click();
  await page.getByRole("button", { name: "Discard" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Discard" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Dead letters" })).toBeVisible();
  await expect(page.getByRole("link", { name: "device/lock2/in/cmd" })).toHaveCount(0);
});
