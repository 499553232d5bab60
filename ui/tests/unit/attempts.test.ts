import assert from "node:assert/strict";
import test from "node:test";
import type { Row } from "../../src/lib/types.ts";
import { attempts } from "../../src/lib/attempts.ts";

const row = (id: string, second: number, retry: number, sha = "a"): Row => ({ id, started_at: new Date(second * 1000).toISOString(), path: "/v1/chat/completions", client: { retry }, bytes: { request_sha256: sha } }) as unknown as Row;

test("attempts are calls with one body, of one round of retries", () => {
  const rows = [row("r2", 4, 2), row("r1", 2, 1), row("first", 1, 0), row("other", 3, 1, "b"), row("next", 5, 0), row("next r1", 6, 1)];
  for (const id of ["first", "r1", "r2"]) assert.deepEqual(attempts(rows.find((one) => one.id === id) as Row, rows).map((one) => one.id), ["first", "r1", "r2"]);
  assert.deepEqual(attempts(rows[4] as Row, rows).map((one) => one.id), ["next", "next r1"]);
  assert.deepEqual(attempts(rows[3] as Row, rows).map((one) => one.id), ["other"]);
});
