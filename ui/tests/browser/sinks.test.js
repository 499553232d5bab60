/** Real sinks: a folder, and a webhook that refuses one record. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, startProvider } from "./provider.js";
import { startBrowser, startCalltap, waitCalls, watchedPage } from "./server.js";

let provider;
let tap;
let browser;

before(async () => {
  provider = await startProvider();
  const hook = provider.url.replace(/\/v1$/, "/hook");
  tap = await startCalltap({ upstream: provider.url, config: `[sinks.archive]\ntype = "jsonl"\n[sinks.hook]\ntype = "webhook"\nbase_url = "${hook}"\nsecret = "for these tests only"\n` });
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await tap?.stop();
  provider?.close();
});

test("what a sink refuses is seen, and delivered once it takes it", async () => {
  const ask = (content) => call(tap.base, { model: "gpt-4o-mini", messages: [{ role: "user", content }] });
  await ask("one");
  const { id } = await ask("poison for the hook");
  await ask("two");
  await waitCalls(tap.base, 3);
  const { page, seen, context } = await watchedPage(browser);
  await page.goto(`${tap.pages}/sinks`);
  const card = page.locator(".card", { hasText: "hook" });
  await card.getByText("1 record", { exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "hook" }).waitFor();
  await page.locator("tbody").getByRole("link", { name: id.slice(0, 13) }).waitFor();

  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Pause" }).waitFor();

  // The list of what is not delivered holds it, and lets go of it by itself.
  await page.goto(`${tap.pages}/?q=delivery:dead`);
  await page.getByText("poison for the hook").waitFor();
  assert.equal(await page.locator(".row:not(.head)").count(), 1);
  await page.goto(`${tap.pages}/calls/${id}/delivery`);
  await page.locator(".card", { hasText: "archive" }).getByText("delivered").waitFor();
  provider.forgive();
  await page.locator(".card", { hasText: "hook" }).getByRole("button", { name: "Deliver again" }).click();
  await page.locator(".card", { hasText: "hook" }).getByText("delivered").waitFor();
  await page.goto(`${tap.pages}/sinks/hook`);
  await page.getByText("No record was given up").waitFor();
  await page.getByRole("button", { name: "Send a test event" }).click();
  await page.locator("p.note[role=status]").waitFor();
  assert.deepEqual([seen.foreign, seen.errors, seen.violations], [[], [], []]);
  await context.close();
});

test("undelivered calls are a list of their own, and are delivered again together", async () => {
  provider.forgive(false);
  const ids = [];
  for (const text of ["poison once more", "poison and again"]) ids.push((await call(tap.base, { model: "gpt-4o-mini", messages: [{ role: "user", content: text }] })).id);
  const { page, seen, context } = await watchedPage(browser);
  await page.goto(tap.pages);
  await page.getByRole("link", { name: "Undelivered" }).click();
  await page.waitForURL(/q=delivery:undelivered/);
  for (const id of ids) await page.getByLabel(`Choose ${id.slice(0, 13)}`).check();
  await page.getByText("2 calls chosen").waitFor();
  provider.forgive();
  await page.getByRole("button", { name: "Deliver again" }).click();
  await page.getByRole("status").filter({ hasText: "2 records to be delivered again" }).waitFor();
  await page.getByText("Every call has reached every sink").waitFor();
  assert.deepEqual([seen.foreign, seen.errors, seen.violations], [[], [], []]);
  await context.close();
});
