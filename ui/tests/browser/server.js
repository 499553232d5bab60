/** The real calltap over a data directory of its own, and a browser that looks at it. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BINARY = process.env.CALLTAP_BIN ?? join(import.meta.dirname, "../../../target/debug/calltap");
const BROWSER = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** `config` is appended to a minimal calltap.toml. */
export async function startCalltap({ upstream, config = "", admin = false }) {
  const dir = mkdtempSync(join(tmpdir(), "calltap-ui-"));
  const port = await freePort();
  const adminPort = admin ? await freePort() : port;
  writeFileSync(join(dir, "calltap.toml"), `[server]\nlisten = "127.0.0.1:${port}"\n${admin ? `admin_listen = "127.0.0.1:${adminPort}"\n` : ""}[upstreams.openai]\nbase_url = "${upstream}"\n${config}`);
  const child = spawn(BINARY, ["serve", "--config", join(dir, "calltap.toml"), "--data-dir", join(dir, "data")], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: dir } });
  let log = "";
  child.stderr.on("data", (piece) => (log += piece));
  const base = `http://127.0.0.1:${port}`;
  const pages = `http://127.0.0.1:${adminPort}`;
  for (let attempt = 0; ; attempt++) {
    const ready = await fetch(`${pages}/readyz`).catch(() => null);
    if (ready?.ok) break;
    if (attempt > 200 || child.exitCode !== null) throw new Error(`calltap did not start:\n${log}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const stop = async () => {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
    rmSync(dir, { recursive: true, force: true });
  };
  return { base, pages, stop, dir };
}

/** Resolves once `n` calls are stored. */
export async function waitCalls(base, n, headers = {}) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const { items } = await (await fetch(`${base}/api/v1/calls?limit=1000`, { headers })).json();
    if (items.length >= n) return items;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`there are no ${n} calls`);
}

export function startBrowser() {
  return chromium.launch({ executablePath: BROWSER, args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
}

/** A page that notes what it must not do: ask elsewhere, run what came from a record, throw. */
export async function watchedPage(browser, options = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const seen = { foreign: [], errors: [], dialogs: [], navigations: 0, violations: [] };
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && !url.startsWith("blob:") && new URL(url).hostname !== "127.0.0.1") seen.foreign.push(url);
  });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => {
    if (/Content.Security.Policy|Trusted/i.test(message.text())) seen.violations.push(message.text());
  });
  page.on("dialog", (dialog) => (seen.dialogs.push(dialog.message()), void dialog.dismiss()));
  page.on("framenavigated", () => (seen.navigations += 1));
  context.on("page", (other) => other !== page && seen.foreign.push(`window ${other.url()}`));
  return { page, context, seen };
}
