/** A stored call as code in the clipboard. */

import { get } from "../lib/api.ts";
import { copy } from "../lib/clipboard.ts";
import { curl, pythonSnippet, typescriptSnippet } from "../lib/snippets.ts";
import type { Call } from "../lib/types.ts";
import { proxyBase } from "./where.ts";

export type Kind = "curl" | "Python" | "TypeScript" | "JSON" | "link";

export function copyCall(call: Call, kind: Kind): Promise<void> {
  const base = proxyBase();
  switch (kind) {
    case "curl":
      return copy(curl(call, base), "curl command");
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

export async function copyCurl(id: string): Promise<void> {
  await copyCall(await get<Call>(`/api/v1/calls/${encodeURIComponent(id)}`), "curl");
}
