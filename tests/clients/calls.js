// Calls of a test: a session of their own, and what calltap recorded under it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import net from "node:net";
import { createInterface } from "node:readline";

export const SLUG = "greet";

// Whichever library asks: no connection leaves the machine.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host, path } = Array.isArray(given[0]) ? given[0][0] : given[0];
  assert.ok(path || !host || ["127.0.0.1", "::1", "localhost"].includes(host), `the tests stay on loopback: ${host}`);
  return connect.apply(this, given);
};

/** Provider and calltap; `stop` ends both. */
export async function start() {
  const running = spawn("python3", ["start.py"], { stdio: ["pipe", "pipe", "inherit"] });
  const line = await new Promise((resolve) => createInterface({ input: running.stdout }).once("line", resolve));
  return { url: JSON.parse(line).url, stop: () => running.stdin.end() };
}

/** A session of its own, and the records under it. */
export function calls(url) {
  const session = randomUUID();
  const headers = { "x-calltap-session": session, "x-calltap-prompt": SLUG };
  const read = async (path) => (await fetch(`${url}/api/v1/${path}`)).json();
  /** The records of the session, oldest first, as soon as there are so many. */
  const records = async (count = 1, atLeast = false) => {
    for (const deadline = Date.now() + 20_000; ;) {
      const { items } = await read(`calls?q=session:${session}&limit=1000`);
      if (items.length >= count) {
        assert.ok(atLeast || items.length === count);
        return Promise.all(items.reverse().map(({ id }) => read(`calls/${id}`)));
      }
      assert.ok(Date.now() < deadline, "no record in time");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return { session, headers, records, url, base: `${url}/v1` };
}
