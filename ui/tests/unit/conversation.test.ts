import assert from "node:assert/strict";
import test from "node:test";
import { conversation, isDrawable, mismatches, type Part } from "../../src/lib/conversation.ts";
import type { Json } from "../../src/lib/types.ts";

const kinds = (parts: Part[] | undefined) => parts?.map((part) => part.kind);

test("chat completions with tools, reasoning and pictures", () => {
  const { input, output } = conversation(
    {
      tools: [{ type: "function", function: { name: "find", parameters: { type: "object", properties: { id: { type: "integer" } }, required: ["id"] } } }],
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: [{ type: "text", text: "look" }, { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }] },
        { role: "tool", tool_call_id: "c1", content: '{"ok":true}' },
      ],
    },
    { choices: [{ index: 0, finish_reason: "tool_calls", message: { role: "assistant", content: null, reasoning_content: "hm", tool_calls: [{ id: "c2", type: "function", function: { name: "find", arguments: '{"id":"x"}' } }] } }] },
  );
  assert.deepEqual(input.map((turn) => turn.role), ["system", "user", "tool"]);
  assert.deepEqual(kinds(input[1]?.parts), ["text", "media"]);
  assert.deepEqual(kinds(output[0]?.parts), ["reasoning", "call"]);
  const call = output[0]?.parts[1];
  assert.ok(call?.kind === "call");
  assert.deepEqual(mismatches(call.arguments, call.schema), ["`id` is no integer"]);
});

test("responses, legacy completions, embeddings, images, messages of others", () => {
  const responses = conversation({ instructions: "Brief.", input: "hi" }, { output: [{ type: "reasoning", summary: [{ type: "summary_text", text: "thinking" }] }, { type: "message", role: "assistant", content: [{ type: "output_text", text: "hello" }] }, { type: "function_call", call_id: "c", name: "f", arguments: "{}" }] });
  assert.deepEqual(responses.input.map((turn) => turn.role), ["system", "user"]);
  assert.deepEqual(responses.output.flatMap((turn) => kinds(turn.parts)), ["reasoning", "text", "call"]);
  assert.equal(conversation({ prompt: "Once" }, { choices: [{ text: " upon" }] }).output[0]?.parts[0]?.kind, "text");
  assert.equal(conversation({ input: "x" }, { data: [{ embedding: [1, 2] }] }).output[0]?.parts[0]?.kind, "json");
  assert.equal(conversation({ prompt: "x" }, { data: [{ b64_json: "iVBORw0" }] }).output[0]?.parts[0]?.kind, "media");
  const anthropic = conversation({ system: "s", messages: [] }, { role: "assistant", content: [{ type: "thinking", thinking: "t" }, { type: "text", text: "x" }, { type: "tool_use", id: "1", name: "f", input: {} }] });
  assert.deepEqual(kinds(anthropic.output[0]?.parts), ["reasoning", "text", "call"]);
});

test("structured output is a tree where it was asked for", () => {
  const answer = { choices: [{ message: { role: "assistant", content: '{"a":1}' } }] };
  assert.equal(conversation({ response_format: { type: "json_schema" } }, answer).output[0]?.parts[0]?.kind, "structured");
  assert.equal(conversation({}, answer).output[0]?.parts[0]?.kind, "text");
});

test("nothing that a record can hold throws", () => {
  const odd: Json[] = [null, 1, "text", [], [null], {}, { messages: 7 }, { messages: [null, 1, "x", { role: 7, content: 7 }, { content: [null, 7, {}] }] }, { input: [null, { type: 7 }] }, { choices: [null, {}, { message: null }, { message: { tool_calls: [null, { function: null }] } }] }, { output: [null, 7, {}] }, { data: [null] }, { data: {} }, { tools: [null, { function: 7 }] }, { prompt: [1, null, "x"] }];
  for (const request of odd) for (const response of odd) assert.doesNotThrow(() => conversation(request, response));
});

test("only pictures that can hold no script are drawn", () => {
  assert.ok(isDrawable("data:image/png;base64,AAAA"));
  for (const source of ["data:image/svg+xml;base64,AAAA", "https://x.invalid/a.png", "data:text/html,x", "javascript:alert(1)", "data:image/png,<svg>", null]) assert.ok(!isDrawable(source), String(source));
});
