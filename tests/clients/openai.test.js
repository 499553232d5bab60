// The official Node library drives calltap: what it returned, and what was recorded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { calls, start } from "./calls.js";

const TEXT = "Whales sing für dich 🐋.";
const ASK = [{ role: "user", content: "Do whales sing?" }];
const wish = (what) => [{ role: "user", content: `wish:${what}` }];
let url, running;

before(async () => {
  running = await start();
  url = running.url;
});

after(() => running.stop());

/** Calls with the official library. */
function call() {
  const { base, session, records } = calls(url);
  const client = new OpenAI({
    baseURL: base, apiKey: "sk-test", maxRetries: 0, defaultHeaders: { "x-calltap-session": session },
  });
  return { client, records, session };
}

test("plain", async () => {
  const { client, records } = call();
  const answer = await client.chat.completions.create({ model: "gpt-4o-mini", messages: ASK });
  assert.equal(answer.choices[0].message.content, TEXT);
  const [record] = await records();
  assert.equal(record.model.served, "gpt-4o-mini-2024-07-18");
  assert.equal(record.usage.output, 6);
  assert.equal(record.client.sdk, "openai-node");
  assert.match(record.client.user_agent, /^OpenAI\/JS \d/);
  assert.equal(record.outcome, "completed");
});

test("a stream sees no usage, the record has it", async () => {
  const { client, records } = call();
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model: "gpt-4o-mini", messages: ASK, stream: true })) {
    assert.equal(chunk.choices.length, 1);
    assert.equal(chunk.usage, undefined);
    text += chunk.choices[0].delta.content ?? "";
  }
  assert.equal(text, TEXT);
  const [record] = await records();
  assert.equal(record.usage.source, "provider");
  assert.equal(record.response.choices[0].message.content, TEXT);
});

test("tools, whole and streamed", async () => {
  for (const stream of [false, true]) {
    const { client, records } = call();
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
    const answer = await client.chat.completions.create({ model: "gpt-4o-mini", messages: ASK, tools, stream });
    let text = "";
    if (stream) {
      for await (const chunk of answer) text += chunk.choices[0].delta.tool_calls?.[0].function.arguments ?? "";
    } else {
      text = answer.choices[0].message.tool_calls[0].function.arguments;
    }
    assert.deepEqual(JSON.parse(text), { city: "Köln" });
    const [record] = await records();
    assert.equal(record.response.choices[0].message.tool_calls[0].function.name, "weather");
  }
});

test("a cancelled stream", async () => {
  const { client, records } = call();
  const stream = await client.chat.completions.create({ model: "gpt-4o-mini", messages: wish("slow"), stream: true });
  let seen = 0;
  for await (const chunk of stream) {
    assert.ok(chunk);
    if (++seen === 3) break;
  }
  const [record] = await records();
  assert.equal(record.outcome, "client_aborted");
});

test("an aborted request", async () => {
  const { client, records } = call();
  const abort = new AbortController();
  const stream = await client.chat.completions.create(
    { model: "gpt-4o-mini", messages: wish("slow"), stream: true }, { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  for await (const chunk of stream) assert.ok(chunk);
  const [record] = await records();
  assert.equal(record.outcome, "client_aborted");
});

test("every attempt is recorded", async () => {
  const { client, records } = call();
  await assert.rejects(client.withOptions({ maxRetries: 2 }).chat.completions.create({ model: "gpt-4o-mini", messages: wish("error-429") }));
  assert.deepEqual((await records(3)).map((record) => record.client.retry).sort(), [0, 1, 2]);
});

test("metadata in the body", async () => {
  const { client, records } = call();
  await client.chat.completions.create({ model: "gpt-4o-mini", messages: ASK, calltap: { prompt: "greet", env: "ci" } });
  const [record] = await records();
  assert.equal(record.tags.prompt, "greet");
  assert.equal(record.tags.environment, "ci");
  assert.equal(record.request.calltap, undefined);
});

test("errors pass unchanged, calltap's own are told apart", async () => {
  for (const [status, code] of [[400, "bad"], [429, "rate_limit_exceeded"]]) {
    const { client, records } = call();
    await assert.rejects(client.chat.completions.create({ model: "gpt-4o-mini", messages: wish(`error-${status}`) }), (error) => {
      assert.equal(error.status, status);
      assert.equal(error.code, code);
      return true;
    });
    assert.equal((await records())[0].outcome, "provider_error");
  }
  const { client, records } = call();
  const lost = client.withOptions({ baseURL: `${url}/nosuch/v1` });
  await assert.rejects(lost.chat.completions.create({ model: "m", messages: ASK }), (error) => {
    assert.equal(error.code, "calltap_unknown_upstream");
    return true;
  });
  assert.equal((await records())[0].outcome, "refused");
});

test("embeddings and metadata in the path", async () => {
  const { session, records } = call();
  const client = new OpenAI({ baseURL: `${url}/-/prompt=embed;session=${session}/v1`, apiKey: "sk-test" });
  const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: "whale", encoding_format: "float" });
  assert.deepEqual(answer.data[0].embedding, [0.25, -1.5]);
  const [record] = await records();
  assert.equal(record.tags.prompt, "embed");
  assert.equal(record.usage.input, 5);
});

test("fifty at once", async () => {
  const { client, records } = call();
  const answers = await Promise.all(Array.from({ length: 50 }, () =>
    client.chat.completions.create({ model: "gpt-4o-mini", messages: ASK })));
  assert.ok(answers.every((answer) => answer.choices[0].message.content === TEXT));
  assert.ok((await records(50)).every((record) => record.outcome === "completed"));
});
