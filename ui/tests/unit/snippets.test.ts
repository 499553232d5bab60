import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test from "node:test";
import { harmless } from "../../src/lib/clipboard.ts";
import { diff } from "../../src/lib/diff.ts";
import { curl, http, python, pythonSnippet, replay, replayOf, shell } from "../../src/lib/snippets.ts";
import type { Call } from "../../src/lib/types.ts";

const call = (request: Call["request"]): Call => ({ id: "1", method: "POST", path: "/v1/chat/completions", endpoint: "chat.completions", upstream: "openai", tags: { prompt: "greet me" }, request }) as Call;

test("what a shell reads is what was written", () => {
  const nasty = `it's $HOME \`id\` "x" \\ !\n; rm`;
  assert.equal(execFileSync("sh", ["-c", `printf %s ${shell(nasty)}`]).toString(), nasty);
  const command = curl(call({ messages: [{ content: nasty }] }), "http://127.0.0.1:4777");
  const echoed = execFileSync("sh", ["-c", command.replace(/^curl/, 'for a in')+ '; do printf "%s\\n" "$a"; done'], { env: { PATH: process.env["PATH"] ?? "", OPENAI_API_KEY: "k" } }).toString();
  assert.ok(echoed.includes("Authorization: Bearer k"));
  assert.ok(echoed.includes("x-calltap-prompt: greet%20me"));
  assert.ok(echoed.includes(JSON.stringify({ messages: [{ content: nasty }] })));
});

test("Python literals", () => {
  assert.equal(python([true, null, 1.5, "a'b"]), '[\n    True,\n    None,\n    1.5,\n    "a\'b",\n]');
  assert.equal(python({}), "{}");
  assert.ok(pythonSnippet(call({ model: "m", stream: true }), "http://h").includes('client = OpenAI(base_url="http://h/v1"'));
});

test("a terminal gets no control characters from the clipboard", () => {
  assert.equal(harmless("a\u001b[2Jb\tc\nd\u0007"), "a\ufffd[2Jb\tc\nd\ufffd");
});

test("differences of two texts", () => {
  assert.deepEqual(diff("a\nb\nc", "a\nx\nc"), [{ kind: "same", text: "a" }, { kind: "old", text: "b" }, { kind: "new", text: "x" }, { kind: "same", text: "c" }]);
  assert.deepEqual(diff("a", "a"), [{ kind: "same", text: "a" }]);
});

test("a replay names the call that it repeats, however often it is repeated", () => {
  const once = replay(call({ model: "m" }));
  assert.equal(replayOf(call({})), null);
  assert.ok(curl({ ...once, tags: { metadata: { "replay-of": "0193b0aa-7d0e" } } }, "http://h").includes("x-calltap-meta-replay-of: 0193b0aa-7d0e"));
  const first = { ...call({}), id: "0193b0aa-0000" };
  assert.equal(replayOf(replay(replay(first))), first.id);
  assert.equal(replayOf({ ...first, tags: { metadata: { "replay-of": "javascript:alert(1)" } } }), null);
});

test("an HTTP request says how long its body is, in bytes", () => {
  const text = http(call({ content: "é\r\nX: y" }), "http://127.0.0.1:4777");
  assert.ok(text.startsWith("POST /v1/chat/completions HTTP/1.1\nHost: 127.0.0.1:4777\nAuthorization: Bearer {OPENAI_API_KEY}\nx-calltap-prompt: greet%20me\n"), text);
  const [head, body] = text.split("\n\n");
  assert.ok(head?.includes(`Content-Length: ${Buffer.byteLength(body ?? "")}`), text);
});
