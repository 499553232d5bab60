/** The dashboard in a browser, over a real calltap. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { answerWith } from "./fixtures.js";
import { call, startProvider, traffic } from "./provider.js";
import { startBrowser, startCalltap, waitCalls, watchedPage } from "./server.js";

/** Most that a first visit loads, compressed. */
const FIRST_LOAD_BYTES_MAX = 80 * 1024;

let provider;
let tap;
let browser;
let ids;

before(async () => {
  provider = await startProvider();
  tap = await startCalltap({ upstream: provider.url });
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await tap?.stop();
  provider?.close();
});

async function open(path, options = {}) {
  const watched = await watchedPage(browser, options);
  await watched.page.goto(tap.pages + path);
  return watched;
}

/** Nothing was asked elsewhere, nothing threw, nothing had to be blocked. */
function assertClean(seen) {
  assert.deepEqual({ foreign: seen.foreign, errors: seen.errors, violations: seen.violations }, { foreign: [], errors: [], violations: [] });
}

async function waitFor(what) {
  for (let attempt = 0; attempt < 200 && !(await what()); attempt++) await new Promise((resolve) => setTimeout(resolve, 50));
}

const ask = (text, more = {}) => ({ model: "gpt-4o-mini", messages: [{ role: "user", content: text }], ...more });

test("an empty store teaches, a first call that failed is explained, and calls appear by themselves", async () => {
  const { page, seen, context } = await open("/");
  await page.getByRole("heading", { name: "Make the first call" }).waitFor();
  await page.getByText("Waiting for the first call").waitFor();
  assert.ok((await page.locator("pre").innerText()).includes(`${tap.base}/v1/chat/completions`));
  await page.getByRole("button", { name: "LangChain" }).click();
  assert.ok((await page.locator("pre").innerText()).includes("ChatOpenAI"));
  await page.evaluate(() => (window.stays = true));

  await call(tap.base, ask("fail 401"));
  await page.getByText("Something arrived, but no call has succeeded yet").waitFor();
  await page.getByText("The provider did not accept the key").waitFor();

  const waits = [];
  for (let at = 0; at < 5; at++) {
    await call(tap.base, ask(`is this row ${at}?`));
    const ended = performance.now();
    await page.getByText(`is this row ${at}?`).waitFor();
    waits.push(performance.now() - ended);
  }
  assert.ok(Math.min(...waits) < 1000, `shown after ${waits.map(Math.round)} ms`);
  assert.ok(await page.evaluate(() => window.stays), "the page was loaded again");
  await page.getByText("The first call is here").waitFor();
  assertClean(seen);
  await context.close();
});

test("a running call is shown, and settles in its place", async () => {
  const { page, context } = await open("/");
  const running = call(tap.base, ask("hang 2500 please"));
  await page.locator(".row.running").waitFor();
  await running;
  await page.getByText("hang 2500 please").waitFor();
  await page.locator(".row.running").waitFor({ state: "detached" });
  await context.close();
});

test("a first visit loads little", async () => {
  const { page, context } = await watchedPage(browser);
  const bodies = [];
  page.on("response", (response) => response.url().startsWith(tap.pages) && !response.url().includes("/api/") && bodies.push(response.body().then((body) => gzipSync(body).length)));
  await page.goto(tap.pages);
  await page.locator(".row:not(.head)").first().waitFor();
  const size = (await Promise.all(bodies)).reduce((sum, one) => sum + one, 0);
  assert.ok(size > 10_000 && size <= FIRST_LOAD_BYTES_MAX, `${size} bytes`);
  await context.close();
});

test("everything can be done with the keyboard", async () => {
  ids = await traffic(tap.base, { rounds: 2 });
  const { page, seen, context } = await open("/");
  await page.locator(".row:not(.head)").nth(5).waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.locator("aside.peek .summary").waitFor();
  assert.ok(page.url().includes("peek="));
  assert.equal(await page.locator('.row[aria-selected="true"]').count(), 1);
  await page.keyboard.press("Escape");
  await page.locator("aside.peek").waitFor({ state: "detached" });
  await page.keyboard.press("/");
  await page.keyboard.type("mod");
  await page.getByRole("option", { name: "model:" }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.keyboard.type("gpt-4o status:ok");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=model:gpt-4o\+status:ok/);
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  for (const [keys, name] of [["gs", "Sessions"], ["gp", "Prompts"], ["gm", "Metrics"], ["gk", "Sinks"], ["g,", "Settings"]]) {
    for (const key of keys) await page.keyboard.press(key);
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }
  const before = await page.evaluate(() => document.documentElement.dataset.theme);
  await page.keyboard.press("t");
  assert.notEqual(await page.evaluate(() => document.documentElement.dataset.theme), before);
  await page.getByLabel("Single keys are shortcuts").uncheck();
  await page.locator("h1").click();
  await page.keyboard.press("g");
  await page.keyboard.press("c");
  assert.ok(page.url().endsWith("/settings"));
  await page.keyboard.press("Control+k");
  await page.getByRole("dialog", { name: "Go to" }).waitFor();
  await page.keyboard.type("calls");
  await page.keyboard.press("Enter");
  await page.locator(".grid").waitFor();
  assertClean(seen);
  await context.close();
});

test("addresses hold the state", async () => {
  const { page, seen, context } = await open("/?q=outcome:provider_error");
  await page.getByText("Rate limit reached").first().waitFor();
  assert.equal(await page.getByRole("combobox", { name: "Search calls" }).inputValue(), "outcome:provider_error");
  for (const [tab, text] of [["", "fits its schema"], ["/timeline", "until the first token"], ["/raw", "chat.completion"], ["/metadata", "gpt-4o"], ["/delivery", ""]]) {
    await page.goto(`${tap.pages}/calls/${tab === "" ? ids.tools : ids.reasoned}${tab}`);
    await page.locator(".summary").waitFor();
    if (text) await page.getByText(text).first().waitFor();
  }
  await page.getByRole("link", { name: "Timeline" }).click();
  await page.goBack();
  await page.waitForURL(/\/delivery$/);
  await page.goto(`${tap.pages}/?q=modle:x`);
  await page.getByRole("alert").filter({ hasText: "model" }).waitFor();
  await page.goto(`${tap.pages}/?q=${encodeURIComponent("model:nothing-like-it")}`);
  await page.getByRole("heading", { name: "No call matches" }).waitFor();
  await page.goto(`${tap.pages}/calls/00000000-0000-0000-0000-000000000000`);
  await page.getByText("No call has this id").waitFor();
  await page.goto(`${tap.pages}/?by=prompt`);
  await page.getByRole("link", { name: "support-reply" }).click();
  await page.waitForURL(/q=prompt:support-reply/);
  assertClean(seen);
  await context.close();
});

test("sessions, prompts, metrics and settings tell of the stored calls", async () => {
  const { page, seen, context } = await open("/sessions");
  await page.getByRole("link", { name: "Ticket 1000" }).click();
  await page.getByText("2 earlier messages sent again").waitFor();
  await page.getByText("find_order").first().waitFor();
  await page.goto(`${tap.pages}/prompts`);
  await page.getByRole("link", { name: "classify" }).click();
  await page.getByText("What differs").waitFor();
  await page.locator("canvas").first().waitFor();
  await page.goto(`${tap.pages}/stats?by=customer&range=1h`);
  await page.getByRole("region", { name: "Totals by customer" }).getByText("globex").waitFor();
  await page.locator("canvas").first().waitFor();
  await page.goto(`${tap.pages}/settings`);
  await page.getByText("server.listen").waitFor();
  await page.getByRole("region", { name: "Models without a price" }).getByText("house-model-7b").waitFor();
  assertClean(seen);
  await context.close();
});

test("a stored call leaves as code, without a key", async () => {
  const { page, context } = await watchedPage(browser, { permissions: ["clipboard-read", "clipboard-write"] });
  await page.goto(`${tap.pages}/calls/${ids.structured}`);
  const copied = async (kind) => {
    await page.getByLabel("Copy as").selectOption(kind);
    await page.getByRole("status").filter({ hasText: "copied" }).first().waitFor();
    await page.waitForTimeout(100);
    return page.evaluate(() => navigator.clipboard.readText());
  };
  assert.match(await copied("curl"), /^curl '.*\/v1\/chat\/completions'[\s\S]*\$OPENAI_API_KEY/);
  assert.match(await copied("Python"), /client\.chat\.completions\.create\(/);
  assert.match(await copied("TypeScript"), /new OpenAI\(/);
  assert.equal(JSON.parse(await copied("JSON")).id, ids.structured);
  assert.match(await copied("HTTP request"), /^POST \/v1\/chat\/completions HTTP\/1\.1\nHost: [\s\S]*Bearer \{OPENAI_API_KEY\}/);
  const replay = await copied("curl, as a replay");
  assert.ok(replay.includes(`x-calltap-meta-replay-of: ${ids.structured}`), replay);
  const again = await call(tap.base, ask("once more"), { "x-calltap-meta-replay-of": ids.structured });
  await waitFor(() => fetch(`${tap.base}/api/v1/calls/${again.id}`).then((answer) => answer.ok));
  await page.goto(`${tap.pages}/calls/${again.id}`);
  await page.getByRole("link", { name: `replay of ${ids.structured.slice(0, 13)}` }).click();
  await page.waitForURL(new RegExp(ids.structured));
  await context.close();
});

test("calls that are chosen leave together", async () => {
  const { page, seen, context } = await watchedPage(browser, { permissions: ["clipboard-read", "clipboard-write"] });
  await page.goto(tap.pages);
  await page.locator(".row:not(.head)").nth(5).waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByText("1 call chosen").waitFor();
  await page.locator(".row:not(.head) input").nth(3).click({ modifiers: ["Shift"] });
  await page.getByText("4 calls chosen").waitFor();
  assert.equal(await page.locator("aside.peek").count(), 0, "a chosen call is not opened");
  const rows = (await (await fetch(`${tap.base}/api/v1/calls?limit=4`)).json()).items.map((row) => row.id);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save as JSON Lines" }).click()]);
  const saved = readFileSync(await download.path(), "utf8").trimEnd().split("\n").map((text) => JSON.parse(text));
  assert.deepEqual([download.suggestedFilename(), saved.map((call) => call.id)], ["calls.jsonl", rows]);
  assert.ok(saved.every((call) => call.request !== undefined));
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await page.getByRole("status").filter({ hasText: "copied" }).first().waitFor();
  const script = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(script.match(/^curl /gm).length, 4);
  await page.getByRole("button", { name: "Deliver again" }).click();
  await page.getByRole("status").filter({ hasText: "No sink has given up any of these calls" }).waitFor();
  await call(tap.base, ask("while some are chosen"));
  await page.getByRole("button", { name: /new call/ }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("calls chosen").waitFor({ state: "detached" });
  assertClean(seen);
  await context.close();
});

test("a session with paths is a tree too", async () => {
  const { page, seen, context } = await open("/sessions/run-0");
  await page.getByRole("link", { name: "Tree" }).click();
  await page.waitForURL(/view=tree/);
  const tree = page.getByRole("region", { name: "Calls as a tree" });
  await tree.getByText("3 calls").waitFor();
  assert.deepEqual((await tree.locator("summary b").allInnerTexts()), ["plan", "search"]);
  assert.equal(await tree.locator("a").count(), 3);
  await tree.getByText("retry 1").waitFor();
  await tree.getByText("Plan the day").click();
  await page.waitForURL(new RegExp(`/calls/`));
  assertClean(seen);
  await context.close();
});

test("a call that was tried again stands beside its other attempts", async () => {
  const { page, seen, context } = await open(`/calls/${ids.limited}/timeline`);
  const section = page.getByRole("region", { name: "Attempts" });
  await section.waitFor();
  assert.equal(await section.locator("li").count(), 2);
  await section.getByRole("link", { name: "first" }).click();
  await page.waitForURL(new RegExp(ids.first));
  await section.getByRole("link", { name: "retry 1" }).waitFor();
  await page.goto(`${tap.pages}/calls/${ids.reasoned}/timeline`);
  await page.getByRole("region", { name: "Phases" }).waitFor();
  assert.equal(await section.count(), 0);
  assertClean(seen);
  await context.close();
});

test("a long list stays a short one in the page, and scrolls into the past", async () => {
  for (let at = 0; at < 20; at++) await Promise.all(Array.from({ length: 25 }, () => call(tap.base, { model: "text-embedding-3-small", input: "x" }, {}, { path: "/v1/embeddings" })));
  await waitCalls(tap.base, 500);
  const { page, seen, context } = await watchedPage(browser);
  const requests = [];
  page.on("request", (request) => request.url().includes("/api/v1/calls?") && requests.push(request.url()));
  await page.goto(tap.pages);
  await page.locator(".row:not(.head)").first().waitFor();
  await page.waitForTimeout(300);
  assert.deepEqual(requests.map((url) => new URL(url).search), ["?limit=100"], "one request shows the list");
  const grid = page.locator(".grid");
  for (let at = 0; at < 40 && (await page.getByText("There is nothing older").count()) === 0; at++) {
    await grid.evaluate((element) => (element.scrollTop = element.scrollHeight));
    await page.waitForTimeout(150);
    assert.ok((await page.locator(".row").count()) < 120);
  }
  await page.getByText("There is nothing older").waitFor();
  assert.ok(requests.length >= 5 && requests.length <= 10, requests.join("\n"));
  await call(tap.base, ask("while you look elsewhere"));
  await page.getByRole("button", { name: /new call/ }).click();
  await page.getByText("while you look elsewhere").waitFor();
  assertClean(seen);
  await context.close();
});

test("a tab that slept asks for the newest calls, not for all that it missed", async () => {
  const { page, context } = await open("/");
  await page.getByRole("button", { name: "Live" }).waitFor();
  const followed = [];
  page.on("request", (request) => request.url().includes("/api/v1/events") && followed.push(new URL(request.url()).searchParams.get("since")));
  const sleep = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await sleep(true);
  await call(tap.base, ask("while the tab slept"));
  await page.evaluate(() => {
    const { now } = Date;
    Date.now = () => now() + 3_600_000;
  });
  assert.equal(await page.getByText("while the tab slept").count(), 0);
  await sleep(false);
  await page.getByText("while the tab slept").waitFor();
  assert.equal(followed[0], null);
  await context.close();
});

test("views and columns are remembered", async () => {
  const { page, context } = await open("/?q=model:gpt-4o");
  await page.getByRole("button", { name: "Save this view" }).click();
  await page.getByLabel("Name of the view").fill("Big ones");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Columns" }).click();
  await page.getByRole("checkbox", { name: "Retry" }).check();
  await page.getByLabel("Column of the metadata").fill("order");
  await page.getByRole("button", { name: "Add" }).click();
  await page.keyboard.press("Escape");
  await page.goto(tap.pages);
  await page.getByRole("link", { name: "Big ones" }).click();
  await page.waitForURL(/q=model:gpt-4o$/);
  await page.getByRole("columnheader", { name: "order" }).waitFor();
  await context.close();
});

test("charts are drawn under a locale that the browser itself does not know", async () => {
  const { page, seen, context } = await watchedPage(browser);
  await page.addInitScript(() => Object.defineProperty(navigator, "language", { value: "en-US@posix", configurable: true }));
  await answerWith(page);
  await page.goto(`${tap.pages}/stats`);
  await page.locator("canvas").nth(4).waitFor();
  assertClean(seen);
  await context.close();
});

test("dead records are delivered again, and discarded only when asked twice", async () => {
  const { page, seen, context } = await watchedPage(browser);
  const posted = [];
  page.on("request", (request) => request.method() === "POST" && posted.push([new URL(request.url()).pathname, request.postData()]));
  await answerWith(page, { ids: [ids.tools, ids.image] });
  await page.goto(`${tap.pages}/sinks/athina`);
  await page.getByLabel(`Choose ${ids.tools}`).check();
  await page.getByRole("button", { name: "Deliver 1 record again" }).click();
  await page.getByText("12 records are to be delivered again").first().waitFor();
  await page.getByRole("button", { name: "Discard all…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Keep" }).click();
  assert.deepEqual(posted, [["/api/v1/sinks/athina/redrive", JSON.stringify({ ids: [ids.tools] })]]);
  assertClean(seen);
  await context.close();
});
