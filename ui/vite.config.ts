import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Writes `name.br` beside every asset, so that the server never compresses. */
let out = "";
const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  configResolved({ root, build }) {
    out = resolve(root, build.outDir, "assets");
  },
  closeBundle() {
    for (const name of readdirSync(out)) {
      if (/\.(js|css|svg)$/.test(name)) writeFileSync(join(out, `${name}.br`), brotliCompressSync(readFileSync(join(out, name))));
    }
  },
};

export default defineConfig({
  plugins: [compressed],
  build: {
    target: "es2022",
    // Every asset is a file of its own: the content security policy allows nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": process.env["CALLTAP_URL"] ?? "http://127.0.0.1:4777", "/version": process.env["CALLTAP_URL"] ?? "http://127.0.0.1:4777" } },
});
