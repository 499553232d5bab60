import assert from "node:assert/strict";
import test from "node:test";
import { ago, bytes, count, dollars, line, ms, percent, short } from "../../src/lib/format.ts";

test("numbers keep their size at a glance", () => {
  assert.equal(count(1234567), "1\u202f234\u202f567");
  assert.equal(count(null), "–");
  assert.equal(short(1_234_567), "1.23M");
  assert.equal(short(999), "999");
  assert.equal(bytes(1536), "1.5\u00a0KiB");
  assert.equal(percent(1, 3), "33\u202f%");
  assert.equal(percent(1, 0), "–");
});

test("money is never rounded to nothing", () => {
  assert.equal(dollars("0.0000138"), "$0.000014");
  assert.equal(dollars("0.0000001"), "<$0.00001");
  assert.equal(dollars("12.5"), "$12.50");
  assert.equal(dollars("0.125"), "$0.125");
  assert.equal(dollars("0"), "$0");
  assert.equal(dollars(null), "–");
  assert.equal(dollars("no number"), "–");
});

test("durations", () => {
  assert.equal(ms(0.42), "0.42\u00a0ms");
  assert.equal(ms(83.4), "83\u00a0ms");
  assert.equal(ms(2810), "2.81\u00a0s");
  assert.equal(ms(184_000), "3\u00a0m 04\u00a0s");
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T02:00:00Z")), "2\u00a0h ago");
  assert.equal(ago("nonsense"), "–");
});

test("a line is one line, without controls and without direction marks", () => {
  assert.equal(line("a\nb\u0000c\u202ed"), "a b c d");
  assert.equal(line("x".repeat(500), 10), `${"x".repeat(10)}…`);
  assert.equal(line(null), "");
  assert.equal(line(["a", 1]), '["a",1]');
});
