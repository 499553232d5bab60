/** A provider of sample answers, and traffic with something of everything the dashboard shows. */

import { createServer } from "node:http";
import { once } from "node:events";
import { deflateSync } from "node:zlib";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Answers by what the last message says: `stall`, `tool`, `reason`, `image`, `json`, `fail 429`, `long`, `hang`. */
export async function startProvider() {
  let strict = true;
  const server = createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      // As a sink it refuses what says `poison`, until it is told to forgive.
      const text = Buffer.concat(pieces).toString();
      if (request.url === "/hook") return void response.writeHead(strict && text.includes("poison") ? 400 : 200).end();
      void answer(request, text, response).catch(() => response.destroy());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}/v1`, forgive: (yes = true) => (strict = !yes), close: () => (server.closeAllConnections(), server.close()) };
}

async function answer(request, text, response) {
  const body = text ? JSON.parse(text) : {};
  const asked = JSON.stringify(body.messages?.at(-1)?.content ?? body.input ?? "");
  const json = (status, value, headers = {}) => response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
  if (request.url.endsWith("/embeddings")) return json(200, { object: "list", model: body.model, data: [{ object: "embedding", index: 0, embedding: Array.from({ length: 256 }, (_, at) => Math.sin(at)) }], usage: { prompt_tokens: 9, total_tokens: 9 } });
  const failure = /fail (\d+)/.exec(asked);
  if (failure) return json(Number(failure[1]), { error: { message: failure[1] === "429" ? "Rate limit reached for this model. Try again in 2 s." : `The provider says ${failure[1]}`, type: "requests", param: null, code: failure[1] === "429" ? "rate_limit_exceeded" : "server_error" } });
  if (asked.includes("hang")) await sleep(Number(/hang (\d+)/.exec(asked)?.[1] ?? 3000));
  const message = said(body, asked);
  const finish = asked.includes("long") ? "length" : message.tool_calls ? "tool_calls" : "stop";
  const output = Math.ceil(JSON.stringify(message).length / 4);
  const usage = { prompt_tokens: Math.ceil(text.length / 4), completion_tokens: output, total_tokens: Math.ceil(text.length / 4) + output, prompt_tokens_details: { cached_tokens: text.length > 3000 ? 1024 : 0 }, completion_tokens_details: { reasoning_tokens: message.reasoning_content ? 64 : 0 } };
  if (!body.stream) {
    await sleep(20 + (text.length % 60));
    return json(200, { id: "chatcmpl-1", object: "chat.completion", created: 1763000000, model: body.model, choices: [{ index: 0, message: { role: "assistant", ...message }, finish_reason: finish }], usage });
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (choices, extra = {}) => response.write(`data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1763000000, model: body.model, choices, ...extra })}\n\n`);
  const delta = (value, finish_reason = null) => send([{ index: 0, delta: value, finish_reason }]);
  delta({ role: "assistant", content: "" });
  await sleep(120);
  for (const word of (message.reasoning_content ?? "").match(/\S+\s*/g) ?? []) {
    delta({ reasoning_content: word });
    await sleep(8);
  }
  const words = (message.content ?? "").match(/\S+\s*/g) ?? [];
  for (const [at, word] of words.entries()) {
    delta({ content: word });
    await sleep(asked.includes("stall") && at === 8 ? 1400 : 6 + (at % 5) * 4);
  }
  for (const [index, call] of (message.tool_calls ?? []).entries()) delta({ tool_calls: [{ index, ...call }] });
  delta({}, finish);
  if (body.stream_options?.include_usage) send([], { usage });
  response.end("data: [DONE]\n\n");
}

/** A small picture: a disc on paper, as a PNG. */
function picture() {
  const size = 64;
  const rows = Buffer.alloc(size * (size * 3 + 1));
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const isDisc = (x - 32) ** 2 + (y - 28) ** 2 < 400;
      rows.set(isDisc ? [60 + x * 2, 140 + y, 180 - x] : [245, 240, 230], y * (size * 3 + 1) + 1 + x * 3);
    }
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(size, 0);
  head.writeUInt32BE(size, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]).toString("base64");
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

function said(body, asked) {
  if (asked.includes("tool")) return { content: null, tool_calls: [{ id: "call_a1", type: "function", function: { name: "find_order", arguments: '{"order":"77","include":["lines","refunds"]}' } }, { id: "call_a2", type: "function", function: { name: "get_weather", arguments: '{"city":"Graz","unit":"kelvin"}' } }] };
  if (asked.includes("json")) return { content: '{"intent":"refund","confidence":0.93,"order":{"id":77,"lines":[{"sku":"A-1","count":2}]}}' };
  if (asked.includes("reason")) return { reasoning_content: "The person wants to know why the bill is higher. Two orders were placed on the 3rd, and one was split. I compare the sums first.", content: "Your bill is higher because order 77 was **split into two parcels**:\n\n1. the lamp, sent on the 3rd\n2. the shade, sent on the 5th\n\nShipping was charged once; `refund_total` is 0." };
  if (asked.includes("hostile")) return { content: body.messages.at(-1).content };
  return { content: "A proxy stands beside the stream and notes what passes by. It forwards each byte as it comes, keeps a copy with the time of its arrival, and works out afterwards what the call meant: the answer, the tokens and what they cost." };
}

const TOOLS = [
  { type: "function", function: { name: "find_order", description: "Finds an order", parameters: { type: "object", properties: { order: { type: "string" }, include: { type: "array", items: { type: "string" } } }, required: ["order"] } } },
  { type: "function", function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" }, unit: { type: "string", enum: ["celsius", "fahrenheit"] } }, required: ["city"] } } },
];

export async function call(base, body, headers = {}, options = {}) {
  const response = await fetch(`${base}${options.path ?? "/v1/chat/completions"}`, { method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-none", "user-agent": "OpenAI/Python 2.54.0", "x-stainless-lang": "python", "x-stainless-package-version": "2.54.0", ...headers }, body: JSON.stringify(body), signal: options.signal });
  return { id: response.headers.get("x-calltap-id"), status: response.status, text: await response.text().catch(() => "") };
}

const chat = (content, more = {}) => ({ model: "gpt-4o-mini", messages: [{ role: "system", content: "You answer for a small lamp shop. Be brief, be exact, and name order numbers." }, { role: "user", content }], ...more });

/** A day of a small shop: sessions, prompts, customers, errors, a stall, a client that leaves. */
export async function traffic(base, { rounds = 3 } = {}) {
  const ids = {};
  for (let round = 0; round < rounds; round++) {
    const customer = ["acme", "globex", "initech"][round % 3];
    const common = { "x-calltap-env": round % 2 ? "staging" : "prod", "x-calltap-customer": customer, "x-calltap-user": `u${round}`, "x-calltap-meta-order": String(70 + round) };
    const session = { ...common, "x-calltap-session": `ticket-${1000 + round}`, "x-calltap-session-name": `Ticket ${1000 + round}` };
    const first = chat("reason with me: why is my bill higher this month?", { stream: true, model: "gpt-4o" });
    ids.reasoned = (await call(base, first, { ...session, "x-calltap-prompt": "support-reply", "x-calltap-prompt-version": "3" })).id;
    const withTools = { ...first, tools: TOOLS, messages: [...first.messages, { role: "assistant", content: "Order 77 was split." }, { role: "user", content: "Use a tool to look it up" }] };
    ids.tools = (await call(base, withTools, { ...session, "x-calltap-prompt": "support-reply", "x-calltap-prompt-version": "3" })).id;
    const results = { ...withTools, messages: [...withTools.messages, { role: "assistant", ...said({}, "tool") }, { role: "tool", tool_call_id: "call_a1", content: '{"order":"77","state":"sent","parcels":2}' }, { role: "tool", tool_call_id: "call_a2", content: "No such unit" }, { role: "user", content: "And what does that mean?" }] };
    ids.results = (await call(base, results, { ...session, "x-calltap-prompt": "support-reply", "x-calltap-prompt-version": "3" })).id;
    ids.stalled = (await call(base, chat("Tell me more and stall in between", { stream: true }), { ...common, "x-calltap-prompt": "product-text", "x-calltap-prompt-version": "1" })).id;
    ids.structured = (await call(base, chat("json: what does this customer want?", { response_format: { type: "json_schema", json_schema: { name: "intent", schema: {} } } }), { ...common, "x-calltap-prompt": "classify", "x-calltap-prompt-version": String(1 + (round % 2)) })).id;
    ids.image = (await call(base, chat([{ type: "text", text: "What is in this picture?" }, { type: "image_url", image_url: { url: `data:image/png;base64,${picture()}` } }, { type: "image_url", image_url: { url: "http://images.invalid/lamp.png" } }]), { ...common, "x-calltap-prompt": "describe" })).id;
    ids.embedding = (await call(base, { model: "text-embedding-3-small", input: "brass lamp, 40 cm" }, common, { path: "/v1/embeddings" })).id;
    ids.first = (await call(base, chat("fail 429"), { ...common, "x-calltap-prompt": "support-reply" })).id;
    ids.limited = (await call(base, chat("fail 429"), { ...common, "x-calltap-prompt": "support-reply", "x-stainless-retry-count": "1" })).id;
    ids.broken = (await call(base, chat("fail 500"), { ...common, "x-calltap-prompt": "classify" })).id;
    ids.cut = (await call(base, chat("write a long text", { max_tokens: 40 }), { ...common, "x-calltap-prompt": "product-text", "x-calltap-prompt-version": "2" })).id;
    ids.unpriced = (await call(base, chat("hello", { model: "house-model-7b" }), common)).id;
    const step = (path, content, more = {}) => call(base, chat(content), { ...common, "x-calltap-session": `run-${round}`, "x-calltap-session-path": path, traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ...more });
    ids.planned = (await step("/plan", "Plan the day")).id;
    await step("/plan/search", "fail 429");
    await step("/plan/search", "Find a lamp", { "x-stainless-retry-count": "1" });
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 260);
    await call(base, chat("Tell me everything", { stream: true }), { ...common, "x-calltap-session": "left" }, { signal: leaving.signal }).catch(() => null);
  }
  return ids;
}
