/** Hostile content in every field that is shown: it stays text. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answerWith } from "./fixtures.js";
import { PAYLOADS } from "./payloads.js";
import { call, startProvider } from "./provider.js";
import { startBrowser, startCalltap, waitCalls, watchedPage } from "./server.js";

let provider;
let tap;
let browser;
const ids = [];

before(async () => {
  provider = await startProvider();
  tap = await startCalltap({ upstream: provider.url });
  browser = await startBrowser();
  for (const [at, text] of PAYLOADS.entries()) ids.push(await hostileCall(text, at));
  await waitCalls(tap.base, PAYLOADS.length);
});
after(async () => {
  await browser?.close();
  await tap?.stop();
  provider?.close();
});

/** A call that has `text` wherever a caller, a model or a provider can put it. The provider echoes `hostile` messages. */
async function hostileCall(text, at) {
  const header = encodeURIComponent(text);
  const metadata = { order: text, [text.slice(0, 60)]: text };
  const body = {
    model: text.slice(0, 100), stream: at % 2 === 0,
    tools: [{ type: "function", function: { name: text.slice(0, 60), parameters: { type: "object", properties: { [text]: { type: "string" } }, required: [text] } } }],
    messages: [
      { role: "system", content: text }, { role: text.slice(0, 30), name: text, content: text },
      { role: "assistant", content: text, reasoning_content: text, refusal: text, tool_calls: [{ id: text, type: "function", function: { name: text, arguments: JSON.stringify({ [text]: text }) } }, { id: "b", type: "function", function: { name: text, arguments: text } }] },
      { role: "tool", tool_call_id: text, content: text },
      { role: "user", content: [{ type: "text", text }, { type: "image_url", image_url: { url: text } }, { type: "image_url", image_url: { url: `data:image/svg+xml;base64,${Buffer.from("<svg xmlns='http://www.w3.org/2000/svg' onload='__xss()'/>").toString("base64")}` } }, { type: "input_audio", input_audio: { data: text, format: text } }, { type: "file", file: { filename: text } }, { type: text, value: text }] },
      { role: "user", content: `hostile ${text}` },
    ],
    calltap: { prompt: text, prompt_version: text, session: text, session_name: text, session_path: text, environment: text, customer: text, user: text, reference: text, labels: [text], metadata, inputs: { [text]: text }, context: text, expected: text, user_query: text },
  };
  const { id } = await call(tap.base, body, { "x-calltap-meta-header": header, "user-agent": text.replace(/[^\x20-\x7e]/g, "?") });
  assert.ok(id, `no id for ${text}`);
  return id;
}

async function visit(page, path) {
  await page.evaluate((to) => {
    history.pushState(null, "", to);
    dispatchEvent(new PopStateEvent("popstate"));
  }, path);
  await page.waitForFunction(() => !document.querySelector(".skeleton"));
}

/** Opens whatever is folded, so that everything is in the page. */
const unfold = (page) => page.evaluate(() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const box of document.querySelectorAll("main .options input[type=checkbox]:not(:checked)")) box.click();
});

test("no field runs a script, asks elsewhere or leads away", async () => {
  assert.ok(PAYLOADS.length >= 80);
  const { page, seen, context } = await watchedPage(browser);
  let ran = 0;
  let navigations = 0;
  await page.exposeFunction("__xss", () => (ran += 1));
  page.on("request", (request) => request.isNavigationRequest() && (navigations += 1));
  await page.addInitScript(() => localStorage.setItem("calltap.columns", JSON.stringify(["time", "status", "model", "prompt", "session", "customer", "text", "finish", "env", "user", "client", "key", "upstream", "endpoint", "meta.order"])));
  const rows = (await (await fetch(`${tap.base}/api/v1/calls?limit=5`)).json()).items;
  await page.goto(tap.pages);
  await page.locator(".row:not(.head)").first().waitFor();
  const shownAt = async () => page.evaluate(() => document.body.innerText);
  for (let at = 0; at < 8; at++) {
    await page.locator(".grid").evaluate((element, part) => (element.scrollTop = element.scrollHeight * part), at / 8);
    await page.waitForTimeout(60);
  }
  for (const [at, id] of ids.entries()) {
    const text = PAYLOADS[at];
    await visit(page, `/calls/${id}`);
    await unfold(page);
    const probe = text.replace(/[\s\u0000-\u001f\u007f-\u009f\u200b\u202e\ufeff]+/g, "").slice(0, 24);
    const shown = (await shownAt()).replace(/[\s\u0000-\u001f\u007f-\u009f\u200b\u202e\ufeff]+/g, "");
    assert.ok(shown.includes(probe), `not shown: ${text}`);
    for (const tab of ["raw", "metadata"]) {
      await visit(page, `/calls/${id}/${tab}`);
      await unfold(page);
    }
    if (at % 8 === 0) await visit(page, `/?peek=${id}`);
    if (at % 4 === 0) {
      await visit(page, `/sessions/${encodeURIComponent(text)}?view=tree`);
      if (at === 20) await page.locator(".branches a").first().waitFor();
      await unfold(page);
    }
  }
  // The same in what the other endpoints answer: one item of every list for each payload.
  await answerWith(page, { rows, ids: ids.slice(0, 3), texts: PAYLOADS });
  for (const path of ["/", "/sessions", "/sessions/ticket-1003", "/prompts", "/prompts/support-reply", "/stats", "/sinks", "/sinks/athina", "/settings", `/calls/${ids[0]}/delivery`]) {
    await visit(page, path);
    await unfold(page);
    await page.waitForTimeout(300);
    assert.ok((await shownAt()).includes(PAYLOADS[20]), `not shown on ${path}`);
  }
  assert.deepEqual({ ran, navigations, foreign: seen.foreign, dialogs: seen.dialogs, errors: seen.errors, violations: seen.violations }, { ran: 0, navigations: 1, foreign: [], dialogs: [], errors: [], violations: [] });
  await context.close();
});

test("hostile text in the address is text", async () => {
  const { page, seen, context } = await watchedPage(browser);
  let ran = 0;
  await page.exposeFunction("__xss", () => (ran += 1));
  for (const text of PAYLOADS.filter((_, at) => at % 16 === 0)) {
    for (const path of [`/?q=${encodeURIComponent(text)}`, `/?by=${encodeURIComponent(text)}`, `/?peek=${encodeURIComponent(text)}`, `/calls/${encodeURIComponent(text)}`, `/sessions/${encodeURIComponent(text)}`]) {
      await page.goto(tap.pages + path);
      await page.locator("main").waitFor();
    }
  }
  await page.goto(`${tap.pages}/calls/%`);
  await page.goto(`${tap.pages}/calls/..%2f..%2fapi`);
  await page.locator("main").waitFor();
  assert.deepEqual({ ran, foreign: seen.foreign, dialogs: seen.dialogs, errors: seen.errors }, { ran: 0, foreign: [], dialogs: [], errors: [] });
  await context.close();
});
