/** A stored call as code in the clipboard. */

import { get } from "../lib/api.ts";
import { copy } from "../lib/clipboard.ts";
import { curl, http, pythonSnippet, replay, typescriptSnippet } from "../lib/snippets.ts";
import type { Call } from "../lib/types.ts";
import { proxyBase } from "./where.ts";

export type Kind = "curl" | "replay" | "Python" | "TypeScript" | "HTTP" | "JSON" | "link";

export function copyCall(call: Call, kind: Kind): Promise<void> {
  const base = proxyBase();
  switch (kind) {
    case "curl":
      return copy(curl(call, base), "curl command");
    case "replay":
      return copy(curl(replay(call), base), "curl command, marked as a replay,");
    case "HTTP":
      return copy(http(call, base), "HTTP request");
    case "Python":
      return copy(pythonSnippet(call, base), "Python code");
    case "TypeScript":
      return copy(typescriptSnippet(call, base), "TypeScript code");
    case "JSON":
      return copy(JSON.stringify(call, null, 2), "Record");
    case "link":
      return copy(`${location.origin}/calls/${call.id}`, "Link");
  }
}

/** Several calls as one script. */
export const copyCurls = (calls: Call[]): Promise<void> => copy(calls.map((call) => `# ${call.id}\n${curl(call, proxyBase())}\n`).join("\n"), "curl commands");

export async function copyCurl(id: string): Promise<void> {
  await copyCall(await get<Call>(`/api/v1/calls/${encodeURIComponent(id)}`), "curl");
}
