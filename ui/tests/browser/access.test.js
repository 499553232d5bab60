/** Who may look, and whether everyone can. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { answerWith } from "./fixtures.js";
import { call, startProvider, traffic } from "./provider.js";
import { startBrowser, startCalltap, waitCalls, watchedPage } from "./server.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let provider;
let tap;
let browser;
let ids;

before(async () => {
  provider = await startProvider();
  tap = await startCalltap({ upstream: provider.url });
  browser = await startBrowser();
  ids = await traffic(tap.base, { rounds: 1 });
  await waitCalls(tap.base, 10);
});
after(async () => {
  await browser?.close();
  await tap?.stop();
  provider?.close();
});

const screens = () => ["/", `/?peek=${ids.results}`, "/?by=model", "/?q=model:nothing-like-it", "/?q=delivery:undelivered", ...["", "/timeline", "/raw", "/metadata", "/delivery"].map((tab) => `/calls/${ids.results}${tab}`), `/calls/${ids.limited}`, `/calls/${ids.limited}/timeline`, "/sessions", "/sessions/ticket-1000", "/sessions/run-0?view=tree", "/prompts", "/prompts/support-reply", "/stats", "/sinks", "/sinks/athina", "/settings", "/no-such-screen"];

async function visit(page, path) {
  await page.evaluate((to) => {
    history.pushState(null, "", to);
    dispatchEvent(new PopStateEvent("popstate"));
  }, path);
  await page.waitForFunction(() => !document.querySelector(".skeleton"));
  await page.waitForTimeout(200);
}

/** A picture to look at, where CALLTAP_SHOTS names a folder. */
async function shoot(page, name) {
  if (process.env.CALLTAP_SHOTS) await page.screenshot({ path: `${process.env.CALLTAP_SHOTS}/${name}.png` });
}

/** Serious and critical faults of the page as it stands. */
async function faultsOf(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return grave.map(({ id, nodes }) => `${name}: ${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

for (const [colorScheme, width] of [["light", 1440], ["dark", 1440], ["light", 390], ["dark", 390]]) {
  test(`no screen keeps anyone out (${colorScheme}, ${width} wide)`, async () => {
    const { page, seen, context } = await watchedPage(browser, { colorScheme, reducedMotion: "reduce", viewport: { width, height: 900 } });
    const rows = (await (await fetch(`${tap.base}/api/v1/calls?limit=4`)).json()).items;
    await answerWith(page, { rows, ids: Object.values(ids) });
    await page.goto(tap.pages);
    await page.locator(".row:not(.head)").first().waitFor();
    const faults = [];
    for (const path of screens()) {
      await visit(page, path);
      faults.push(...(await faultsOf(page, path)));
    }
    assert.deepEqual(faults, []);
    assert.deepEqual({ foreign: seen.foreign, errors: seen.errors, violations: seen.violations }, { foreign: [], errors: [], violations: [] });
    await context.close();
  });
}

test("a phone, and twice the size of text, need no scrolling sideways", async () => {
  for (const viewport of [{ width: 390, height: 800 }, { width: 720, height: 450 }]) {
    const { page, context } = await watchedPage(browser, { viewport });
    const rows = (await (await fetch(`${tap.base}/api/v1/calls?limit=4`)).json()).items;
    await answerWith(page, { rows, ids: Object.values(ids) });
    await page.goto(tap.pages);
    for (const path of screens()) {
      await visit(page, path);
      const wide = await page.evaluate(() => [document.documentElement.scrollWidth - innerWidth, (document.querySelector("main")?.scrollWidth ?? 0) - (document.querySelector("main")?.clientWidth ?? 0)]);
      assert.ok(wide.every((excess) => excess <= 1), `${path} at ${viewport.width}: ${wide}`);
    }
    await context.close();
  }
});

test("on a phone a call and the facets lie over the list, and go again", async () => {
  const { page, seen, context } = await watchedPage(browser, { viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true });
  await page.goto(tap.pages);
  await page.locator(".row:not(.head)").nth(2).tap();
  const peek = page.locator("aside.peek");
  await peek.locator(".summary").waitFor();
  const box = await peek.boundingBox();
  assert.ok(box.x === 0 && box.y === 0 && box.width === 390 && box.height > 700, JSON.stringify(box));
  await page.getByRole("button", { name: "Close" }).tap();
  await peek.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Facets" }).tap();
  await page.locator("aside.facets").getByRole("button", { name: /text-embedding-3-small/ }).tap();
  await page.waitForURL(/q=model:text-embedding-3-small/);
  await page.locator("aside.facets").waitFor({ state: "detached" });
  await page.getByRole("link", { name: "Sessions", exact: true }).tap();
  await page.getByRole("heading", { level: 1, name: "Sessions" }).waitFor();
  assert.deepEqual([seen.foreign, seen.errors, seen.violations], [[], [], []]);
  await context.close();
});

test("the first sight and the door keep nobody out either", async () => {
  const empty = await startCalltap({ upstream: provider.url });
  const guarded = await startCalltap({ upstream: provider.url, config: '[auth]\nadmin_token = "correct horse battery staple"\n' });
  try {
    for (const [colorScheme, width] of [["light", 1440], ["dark", 1440], ["light", 390], ["dark", 390]]) {
      const { page, context } = await watchedPage(browser, { colorScheme, reducedMotion: "reduce", viewport: { width, height: 900 } });
      await page.goto(empty.pages);
      await page.getByText("Waiting for the first call").waitFor();
      await shoot(page, `empty-${colorScheme}-${width}`);
      const faults = await faultsOf(page, "empty");
      await page.goto(guarded.pages);
      await page.getByLabel("Admin token").waitFor();
      await shoot(page, `door-${colorScheme}-${width}`);
      faults.push(...(await faultsOf(page, "door")));
      assert.deepEqual(faults, [], `${colorScheme}, ${width} wide`);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
      await context.close();
    }
  } finally {
    await empty.stop();
    await guarded.stop();
  }
});

test("with an admin token the page asks for it, and nothing is shown before", async () => {
  const guarded = await startCalltap({ upstream: provider.url, config: '[auth]\nadmin_token = "correct horse battery staple"\n' });
  try {
    const authorization = "Bearer correct horse battery staple";
    await call(guarded.base, { model: "gpt-4o-mini", messages: [{ role: "user", content: "for eyes that may" }] });
    await waitCalls(guarded.base, 1, { authorization });
    assert.equal((await fetch(`${guarded.base}/api/v1/calls`)).status, 401);
    const { page, seen, context } = await watchedPage(browser);
    await page.goto(`${guarded.pages}/?q=model:gpt-4o-mini`);
    await page.getByLabel("Admin token").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("This is not the token").waitFor();
    assert.equal(await page.getByText("for eyes that may").count(), 0);
    await page.getByLabel("Admin token").fill("correct horse battery staple");
    await page.keyboard.press("Enter");
    await page.getByText("for eyes that may").waitFor();
    await page.reload();
    await page.getByText("for eyes that may").waitFor();
    await call(guarded.base, { model: "gpt-4o-mini", messages: [{ role: "user", content: "and one more, live" }] });
    await page.getByText("and one more, live").waitFor();
    await page.goto(`${guarded.pages}/settings`);
    await page.getByRole("main").getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Admin token").waitFor();
    assert.deepEqual([seen.foreign, seen.errors], [[], []]);
    await context.close();
  } finally {
    await guarded.stop();
  }
});

test("on an address of its own the dashboard still follows the calls", async () => {
  const split = await startCalltap({ upstream: provider.url, admin: true });
  try {
    const { page, context } = await watchedPage(browser);
    await page.goto(split.pages);
    await page.getByText("Waiting for the first call").waitFor();
    await call(split.base, { model: "gpt-4o-mini", messages: [{ role: "user", content: "seen from next door" }] });
    await page.getByText("seen from next door").waitFor();
    await context.close();
  } finally {
    await split.stop();
  }
});

test("the page may not be framed, and runs only its own scripts", async () => {
  const response = await fetch(tap.pages);
  const policy = response.headers.get("content-security-policy");
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "base-uri 'none'"]) assert.ok(policy.includes(part), policy);
  assert.ok(!policy.includes("unsafe"));
  const page = await response.text();
  assert.ok(!/<script(?![^>]*\ssrc="\/assets\/)/.test(page) && !/<style|\son\w+=|\sstyle=/.test(page), page);
  const [name] = /\/assets\/index-[\w-]+\.js/.exec(page);
  const asset = await fetch(tap.pages + name, { headers: { "accept-encoding": "br" } });
  assert.equal(asset.headers.get("content-encoding"), "br");
  assert.match(asset.headers.get("cache-control"), /immutable/);
  assert.equal((await fetch(`${tap.pages}/assets/..%2findex.html`)).status, 404);
});
