import assert from "node:assert/strict";
import test from "node:test";
import { add, below, has, quote, set, term, terms, toggle, valueOf, without, wordAt } from "../../src/lib/query.ts";

test("values are quoted where the language needs it", () => {
  assert.equal(quote("gpt-4o"), "gpt-4o");
  assert.equal(quote("two words"), '"two words"');
  assert.equal(quote('say "hi"'), '"say \\"hi\\""');
  assert.equal(quote("a*"), '"a*"');
  assert.equal(quote("OR"), '"OR"');
});

test("terms split outside of quotes and brackets", () => {
  assert.deepEqual(terms('model:x  "two words" (a OR b) -env:prod'), ["model:x", '"two words"', "(a OR b)", "-env:prod"]);
  assert.deepEqual(terms('session:"a \\" b" c'), ['session:"a \\" b"', "c"]);
  assert.deepEqual(terms(""), []);
});

test("terms come and go", () => {
  const wanted = term("customer", "big corp");
  assert.equal(toggle("", wanted), 'customer:"big corp"');
  assert.equal(toggle(`model:x ${wanted}`, wanted), "model:x");
  assert.equal(add("a OR b", "model:x"), "(a OR b) model:x");
  assert.equal(without("a OR b", "a"), "a OR b");
  assert.equal(has("a OR b", "a"), false);
  assert.equal(set("since:1h model:x", "since", "24h"), "model:x since:24h");
  assert.equal(set("since:1h model:x", "since", null), "model:x");
  assert.equal(valueOf("model:x since:1h", "since"), "1h");
  assert.equal(below("", 7), "seq:<7");
  assert.equal(below("a OR b", 7), "(a OR b) seq:<7");
});

test("the word under the cursor", () => {
  assert.deepEqual(wordAt("model:gp cost", 8), { from: 6, to: 8, field: "model", text: "gp" });
  assert.deepEqual(wordAt("mod", 3), { from: 0, to: 3, field: null, text: "mod" });
  assert.deepEqual(wordAt("x -env:pr", 9), { from: 7, to: 9, field: "env", text: "pr" });
  assert.deepEqual(wordAt("x ", 2), { from: 2, to: 2, field: null, text: "" });
});
