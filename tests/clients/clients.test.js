// The same cases for every client library: what it returned, and what calltap recorded.
//
// A client is a file in js/ that exports what the adapters of test_clients.py hold: `name`, `sdk`, `agent`, perhaps
// `endpoint` and `without` (cases), and `connect(base, headers, retries)`, which gives the calls that it offers:
// plain, stream, tools, structured, responses, embed. Without a base it finds that, and the key, in the environment.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { SLUG, calls, start } from "./calls.js";

const TEXT = "Whales sing für dich 🐋.";
const ASK = "Do whales sing für mich? 🐋";
const CITY = { city: "Köln" };
const VECTOR = [0.25, -1.5];
// 9 × $0.15 a million, and $0.60 a million for each token of the answer
const COST = { 3: "0.00000315", 6: "0.00000495" };
const matrix = {};
let running;

before(async () => {
  running = await start();
});

after(() => {
  running.stop();
  if (process.env.CALLTAP_MATRIX) writeFileSync(process.env.CALLTAP_MATRIX, JSON.stringify(matrix));
});

const collected = async (pieces) => {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
};

const said = ({ endpoint, response }) => endpoint === "responses"
  ? response.output.flatMap(({ content }) => content ?? []).map(({ text }) => text).join("")
  : response.choices[0].message.content;

const called = ({ endpoint, response }) => endpoint === "responses"
  ? response.output.find(({ type }) => type === "function_call")?.arguments
  : response.choices[0].message.tool_calls?.[0].function.arguments;

function checkCaller(client, call, record) {
  assert.equal(record.tags.session, call.session);
  assert.equal(record.tags.prompt, SLUG);
  assert.equal(record.client.sdk, client.sdk);
  assert.match(record.client.user_agent, client.agent);
  assert.match(record.client.key, /^fp_/);
}

/** What holds for the record of every answered call. */
function check(client, call, record, output = 6, endpoint = client.endpoint ?? "chat.completions") {
  assert.equal(record.outcome, "completed");
  assert.equal(record.status, 200);
  assert.equal(record.endpoint, endpoint);
  assert.deepEqual(record.model, { requested: "gpt-4o-mini", served: "gpt-4o-mini-2024-07-18" });
  assert.deepEqual([record.usage.source, record.usage.input, record.usage.output], ["provider", 9, output]);
  assert.deepEqual([record.cost.status, record.cost.total], ["priced", COST[output]]);
  checkCaller(client, call, record);
}

/** The HTTP status in an error, or in one that it came from. */
function statusOf(error) {
  for (; error; error = error.cause ?? error.lastError) {
    const status = error.status ?? error.statusCode;
    if (status) return status;
  }
  return undefined;
}

const CASES = {
  plain: ["plain", async (client, call) => {
    assert.equal(await client.connect(call.base, call.headers, 0).plain(ASK), TEXT);
    const [record] = await call.records();
    check(client, call, record);
    assert.equal(said(record), TEXT);
    assert.equal(record.stream, false);
    assert.ok(record.tags.user_query.includes(ASK));
  }],
  stream: ["stream", async (client, call) => {
    assert.equal(await collected(client.connect(call.base, call.headers, 0).stream(ASK)), TEXT);
    const [record] = await call.records();
    check(client, call, record);
    assert.equal(said(record), TEXT);
    assert.ok(record.stream && record.timing.ttft_ms !== null);
  }],
  "cancelled stream": ["stream", async (client, call) => {
    const abort = new AbortController();
    let seen = 0;
    try {
      for await (const piece of client.connect(call.base, call.headers, 0).stream(`${ASK} wish:slow`, abort.signal)) {
        if (piece !== undefined && ++seen === 3) abort.abort();
      }
    } catch (error) {
      assert.ok(abort.signal.aborted, error);
    }
    const [record] = await call.records();
    // The provider sent no usage: an estimate may stand there, or nothing, but not a figure that it never gave.
    assert.equal(record.outcome, "client_aborted");
    assert.notEqual(record.usage.source, "provider");
    assert.ok(said(record).startsWith("Whales "));
    checkCaller(client, call, record);
  }],
  tools: ["tools", async (client, call) => {
    assert.deepEqual(await client.connect(call.base, call.headers, 0).tools(ASK), CITY);
    const [first, ...rest] = await call.records(1, true);
    check(client, call, first, 3);
    assert.equal(called(first), '{"city":"Köln"}');
    for (const record of rest) check(client, call, record);
  }],
  "structured output": ["structured", async (client, call) => {
    assert.deepEqual(await client.connect(call.base, call.headers, 0).structured(ASK), CITY);
    const [record] = await call.records();
    check(client, call, record, 3);
    assert.equal(called(record) ?? said(record), '{"city":"Köln"}');
  }],
  responses: ["responses", async (client, call) => {
    assert.equal(await client.connect(call.base, call.headers, 0).responses(ASK), TEXT);
    const [record] = await call.records();
    check(client, call, record, 6, "responses");
    assert.equal(said(record), TEXT);
  }],
  embeddings: ["embed", async (client, call) => {
    assert.deepEqual(await client.connect(call.base, call.headers, 0).embed(["whale", ASK]), [VECTOR, VECTOR]);
    const [record] = await call.records();
    assert.equal(record.endpoint, "embeddings");
    assert.equal(record.model.requested, "text-embedding-3-small");
    // 5 × $0.02 a million
    assert.deepEqual([record.usage.input, record.cost.total], [5, "0.0000001"]);
    checkCaller(client, call, record);
  }],
  "a compressed answer": ["plain", async (client, call) => {
    assert.equal(await client.connect(call.base, call.headers, 0).plain(`${ASK} wish:gzip`), TEXT);
    const [record] = await call.records();
    check(client, call, record);
    assert.equal(said(record), TEXT);
  }],
  "comments in a stream": ["stream", async (client, call) => {
    assert.equal(await collected(client.connect(call.base, call.headers, 0).stream(`${ASK} wish:quiet`)), TEXT);
    const [record] = await call.records();
    check(client, call, record);
    // The provider says nothing but comments for a quarter of a second; the first token comes after that.
    assert.equal(said(record), TEXT);
    assert.ok(record.timing.ttft_ms - record.timing.first_byte_ms > 200);
  }],
  ...Object.fromEntries([400, 401, 404, 429, 500, 503].map((status) => [`error answers: ${status}`, ["plain", async (client, call) => {
    await assert.rejects(client.connect(call.base, call.headers, 0).plain(`${ASK} wish:error-${status}`), (error) => {
      assert.equal(statusOf(error), status);
      assert.match(String(error), /the provider says/);
      return true;
    });
    const [record] = await call.records();
    assert.deepEqual([record.outcome, record.status, record.error.source], ["provider_error", status, "provider"]);
    checkCaller(client, call, record);
  }]])),
  "retry after 429": ["plain", async (client, call) => {
    assert.equal(await client.connect(call.base, call.headers, 2).plain(`${ASK} wish:busy-${randomUUID()}`), TEXT);
    const [refused, answered] = await call.records(2);
    assert.deepEqual([refused.outcome, refused.status], ["provider_error", 429]);
    checkCaller(client, call, refused);
    check(client, call, answered);
  }],
  ...Object.fromEntries([["broken", "provider_error"], ["cut", "upstream_truncated"]].map(([fault, outcome]) => [
    `fault inside a stream: ${fault}`, ["stream", async (client, call) => {
      await assert.rejects(collected(client.connect(call.base, call.headers, 0).stream(`${ASK} wish:${fault}`)));
      const [record] = await call.records();
      // Also where the library closes at the error, before the stream has ended.
      assert.equal(record.outcome, outcome);
      checkCaller(client, call, record);
    }]])),
  "a large body": ["plain", async (client, call) => {
    const prompt = "é🐋 ".repeat(160_000);
    assert.equal(await client.connect(call.base, call.headers, 0).plain(prompt), TEXT);
    const [record] = await call.records();
    check(client, call, record);
    assert.ok(record.bytes.request > 1 << 20);
    assert.ok(JSON.stringify(record.request).includes(prompt.trim()));
  }],
  "the environment only with metadata in the path": ["plain", async (client, call) => {
    process.env.OPENAI_BASE_URL = `${call.url}/-/prompt=${SLUG};session=${call.session}/v1`;
    process.env.OPENAI_API_KEY = "sk-environment";
    try {
      assert.equal(await client.connect(undefined, {}, 0).plain(ASK), TEXT);
    } finally {
      delete process.env.OPENAI_BASE_URL;
      delete process.env.OPENAI_API_KEY;
    }
    check(client, call, (await call.records())[0]);
  }],
};

for (const file of readdirSync(new URL("js/", import.meta.url)).sort()) {
  const client = await import(`./js/${file}`);
  const manifest = new URL(`node_modules/${client.name}/package.json`, import.meta.url);
  const label = `${client.name} ${JSON.parse(readFileSync(manifest)).version}`;
  const offers = client.connect("http://127.0.0.1", {}, 0);
  const counts = (matrix[label] ??= {});
  for (const [name, [needs, run]] of Object.entries(CASES)) {
    if (!offers[needs] || client.without?.includes(name)) continue;
    test(`${client.name}: ${name}`, async () => {
      const count = (counts[name.split(":")[0]] ??= [0, 0]);
      count[1] += 1;
      await run(client, calls(running.url));
      count[0] += 1;
    });
  }
}
