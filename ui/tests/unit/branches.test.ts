import assert from "node:assert/strict";
import test from "node:test";
import { branches, pathOf, type Branch } from "../../src/lib/branches.ts";
import type { Row } from "../../src/lib/types.ts";

let clock = 0;
const row = (path: string | null, more: Partial<Row> = {}): Row => ({ id: String(++clock), started_at: new Date(clock * 1000).toISOString(), outcome: "completed", tags: { session_path: path }, trace: {}, cost: { total: "0.25" }, timing: { latency_ms: 10 }, ...more }) as Row;

/** Names and calls, as text. */
const drawn = ({ name, calls, branches: below }: Branch): string => `${name}(${[...calls.map((call) => call.id), ...below.map(drawn)].join(" ")})`;

test("calls hang where their path says, in the order in which they began", () => {
  clock = 0;
  const rows = [row("/plan"), row("/plan/search"), row(null), row("plan//search/"), row("/answer", { outcome: "refused" })];
  const root = branches([...rows].reverse());
  assert.equal(drawn(root), "(3 plan(1 search(2 4)) answer(5))");
  assert.deepEqual([root.count, root.errors, root.cost, root.model_ms], [5, 1, 1.25, 50]);
  assert.deepEqual([root.branches[0]?.count, root.branches[0]?.errors], [3, 0]);
});

test("without a path a call hangs at its trace", () => {
  assert.deepEqual(pathOf(row(null, { trace: { trace_id: "a1", parent_id: "b2" } })), ["trace a1", "span b2"]);
  assert.deepEqual(pathOf(row("/x", { trace: { trace_id: "a1" } })), ["x"]);
  assert.deepEqual(pathOf(row(null)), []);
});

test("names of every object are names like others, and depth has an end", () => {
  assert.equal(drawn(branches([row("/__proto__/constructor", { id: "a" })])), "(__proto__(constructor(a)))");
  const path = pathOf(row("/x".repeat(4000)));
  assert.equal(path.length, 12);
  assert.equal(path.join("/").length, 4000 * 2 - 1);
});
