// The JavaScript of the pages runs as it stands there, against this calltap.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { calls, start } from "./calls.js";

const ROOT = new URL("../../", import.meta.url);
// Below node_modules, so that the libraries are found from there.
const FOLDER = new URL("node_modules/.pages/", import.meta.url);
let running;

before(async () => {
  running = await start();
  process.env.OPENAI_API_KEY = "sk-environment";
  mkdirSync(FOLDER, { recursive: true });
});
after(() => running.stop());

const docs = readdirSync(new URL("docs/", ROOT), { recursive: true }).filter((file) => file.endsWith(".md"));
for (const page of ["README.md", ...docs.map((file) => `docs/${file}`).sort()]) {
  const text = readFileSync(new URL(page, ROOT), "utf8");
  for (const [at, [, code]] of [...text.matchAll(/^```js\n(.*?)^```/gms)].entries()) {
    test(`${page} ${at}`, async () => {
      const { session, records, url } = calls(running.url);
      const file = new URL(`${page.replaceAll("/", "-")}-${at}.mjs`, FOLDER);
      writeFileSync(file, code.replaceAll("http://127.0.0.1:4777", `${url}/-/session=${session}`).replaceAll('"s1"', `"${session}"`));
      await import(file);
      const wanted = code.match(/await /g)?.length ?? 0;
      for (const { outcome } of await records(wanted)) assert.equal(outcome, "completed");
    });
  }
}
