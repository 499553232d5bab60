import assert from "node:assert/strict";
import test from "node:test";
import { EventReader, recorded } from "../../src/lib/sse.ts";

test("events are the same however the text is cut", () => {
  const text = "event: call\nid: 7\ndata: {\"a\":1}\ndata: 2\n\n: comment\r\n\r\ndata:x\r\n\r\n";
  const whole = new EventReader().push(text);
  assert.deepEqual(whole, [{ event: "call", data: '{"a":1}\n2', id: "7" }, { event: "message", data: "x", id: "7" }]);
  for (let at = 1; at < text.length; at++) {
    const reader = new EventReader();
    assert.deepEqual([...reader.push(text.slice(0, at)), ...reader.push(text.slice(at))], whole, `cut at ${at}`);
  }
});

test("recorded events are dated by the chunk that completed them", () => {
  const text = "data: one\n\ndata: zwö\n\ndata: [DONE]\n\n";
  const events = recorded(text, [[5, 1000], [18, 2000], [14, 9000]], true);
  assert.deepEqual(events.map((event) => [event.data, event.at_us]), [["one", 2000], ["zwö", 2000], ["[DONE]", 9000]]);
  assert.equal(events.reduce((sum, event) => sum + event.bytes, 0), new TextEncoder().encode(text).length);
  assert.equal(recorded(text, [], false)[0]?.at_us, null);
});

test("a body that is no stream is one event of text", () => {
  assert.equal(recorded("data: half", [[10, 5]], true)[0]?.data, "half");
});
