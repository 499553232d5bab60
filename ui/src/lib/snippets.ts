/** Code to copy: a stored call for curl, Python, TypeScript; and the lines that point a client here. */

import { isObject } from "./conversation.ts";
import { own } from "./own.ts";
import type { Call, Json } from "./types.ts";

/** The credential is never in a record; its usual variable stands in its place. */
const VARIABLES: Record<string, string> = { openai: "OPENAI_API_KEY", azure: "AZURE_OPENAI_API_KEY", groq: "GROQ_API_KEY", anthropic: "ANTHROPIC_API_KEY", mistral: "MISTRAL_API_KEY", openrouter: "OPENROUTER_API_KEY", together: "TOGETHER_API_KEY", deepseek: "DEEPSEEK_API_KEY", xai: "XAI_API_KEY", gemini: "GEMINI_API_KEY" };
const variable = (upstream: string): string => own(VARIABLES, upstream) ?? "API_KEY";

/** For a POSIX shell: nothing inside single quotes means anything. */
export const shell = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Headers that say who a call belongs to, as calltap reads them. */
function labels(call: Call): [string, string][] {
  const { tags } = call;
  const pairs: [string, string | null | undefined][] = [
    ["x-calltap-prompt", tags.prompt], ["x-calltap-prompt-version", tags.prompt_version], ["x-calltap-session", tags.session],
    ["x-calltap-env", tags.environment], ["x-calltap-customer", tags.customer], ["x-calltap-user", tags.user],
  ];
  const original = replayOf(call);
  if (original) pairs.push([REPLAY_HEADER, original]);
  return pairs.filter((pair): pair is [string, string] => typeof pair[1] === "string").map(([name, value]) => [name, encodeURIComponent(value)]);
}

/** Metadata that says which call a call repeats. */
export const REPLAY = "replay-of";
const REPLAY_HEADER = `x-calltap-meta-${REPLAY}`;

/** The id of the call that `call` repeats. */
export function replayOf(call: Call): string | null {
  const id = call.tags.metadata && own(call.tags.metadata, REPLAY);
  return typeof id === "string" && /^[0-9a-f-]{8,36}$/i.test(id) ? id : null;
}

/** The same call once more, marked as a replay of the first. */
export const replay = (call: Call): Call => ({ ...call, tags: { ...call.tags, metadata: { ...call.tags.metadata, [REPLAY]: call.id } } });

/** As it crosses the wire; the credential is left to fill in. */
export function http(call: Call, base: string): string {
  const body = call.request === null || call.request === undefined ? "" : typeof call.request === "string" ? call.request : JSON.stringify(call.request);
  const azure = call.path.startsWith("/openai/");
  const key = `{${variable(call.upstream)}}`;
  const lines = [`${call.method.replace(/[^A-Z]/g, "")} ${call.path.replace(/[^\x21-\x7e]/g, (c) => encodeURIComponent(c))} HTTP/1.1`, `Host: ${base.replace(/^https?:\/\//, "")}`, azure ? `api-key: ${key}` : `Authorization: Bearer ${key}`];
  for (const [name, value] of labels(call)) lines.push(`${name}: ${value}`);
  if (body) lines.push("Content-Type: application/json", `Content-Length: ${new TextEncoder().encode(body).length}`);
  return `${lines.join("\n")}\n\n${body}`;
}

export function curl(call: Call, base: string): string {
  const azure = call.path.startsWith("/openai/");
  const credential = azure ? `-H "api-key: $${variable(call.upstream)}"` : `-H "Authorization: Bearer $${variable(call.upstream)}"`;
  const lines = [`curl ${shell(base + call.path)}${call.method === "POST" ? "" : ` -X ${call.method.replace(/[^A-Z]/g, "")}`}`, credential];
  for (const [name, value] of labels(call)) lines.push(`-H ${shell(`${name}: ${value}`)}`);
  if (call.request !== null && call.request !== undefined) {
    lines.push("-H 'Content-Type: application/json'", `-d ${shell(typeof call.request === "string" ? call.request : JSON.stringify(call.request))}`);
  }
  return lines.join(" \\\n  ");
}

/** A JSON value as Python writes it. */
export function python(value: Json, indent = 0): string {
  const inner = "    ".repeat(indent + 1);
  const end = "    ".repeat(indent);
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  // JSON's escapes are Python's, except for the surrogate pairs that JSON.stringify writes as characters.
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return value.length ? `[\n${value.map((item) => `${inner}${python(item, indent + 1)},\n`).join("")}${end}]` : "[]";
  const pairs = Object.entries(value);
  return pairs.length ? `{\n${pairs.map(([name, item]) => `${inner}${JSON.stringify(name)}: ${python(item, indent + 1)},\n`).join("")}${end}}` : "{}";
}

/** The libraries' method for an endpoint. */
const METHODS: Record<string, { python: string; node: string }> = {
  "chat.completions": { python: "chat.completions.create", node: "chat.completions.create" },
  completions: { python: "completions.create", node: "completions.create" },
  embeddings: { python: "embeddings.create", node: "embeddings.create" },
  responses: { python: "responses.create", node: "responses.create" },
  moderations: { python: "moderations.create", node: "moderations.create" },
  "images.generations": { python: "images.generate", node: "images.generate" },
};

const baseUrl = (call: Call, base: string): string => {
  const at = call.path.search(/\/(chat\/completions|completions|embeddings|responses|moderations|images\/generations)\/?$/);
  return base + (at > 0 ? call.path.slice(0, at) : "/v1");
};

export function pythonSnippet(call: Call, base: string): string {
  const method = own(METHODS, call.endpoint)?.python;
  const headers = Object.fromEntries(labels(call));
  if (!method || !isObject(call.request)) {
    return `import os\n\nimport httpx\n\nanswer = httpx.request(\n    ${JSON.stringify(call.method)},\n    ${JSON.stringify(base + call.path)},\n    headers={"Authorization": f"Bearer {os.environ['${variable(call.upstream)}']}"},\n    json=${python(call.request, 1)},\n)\nprint(answer.text)\n`;
  }
  const known = Object.entries(call.request).map(([name, value]) => (/^[a-z_][a-z0-9_]*$/i.test(name) ? `    ${name}=${python(value, 1)},\n` : "")).join("");
  const extra = Object.keys(headers).length ? `    extra_headers=${python(headers, 1)},\n` : "";
  const printing = call.request["stream"] === true ? "for event in answer:\n    print(event)\n" : "print(answer)\n";
  return `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(baseUrl(call, base))}, api_key=os.environ["${variable(call.upstream)}"])\nanswer = client.${method}(\n${known}${extra})\n${printing}`;
}

export function typescriptSnippet(call: Call, base: string): string {
  const method = own(METHODS, call.endpoint)?.node;
  const headers = Object.fromEntries(labels(call));
  const body = JSON.stringify(call.request, null, 2);
  if (!method || !isObject(call.request)) {
    return `const answer = await fetch(${JSON.stringify(base + call.path)}, {\n  method: ${JSON.stringify(call.method)},\n  headers: { authorization: \`Bearer \${process.env.${variable(call.upstream)}}\`, "content-type": "application/json" },\n  body: JSON.stringify(${body}),\n});\nconsole.log(await answer.text());\n`;
  }
  const options = Object.keys(headers).length ? `, { headers: ${JSON.stringify(headers)} }` : "";
  const printing = call.request["stream"] === true ? "for await (const event of answer) console.log(event);\n" : "console.log(answer);\n";
  return `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${JSON.stringify(baseUrl(call, base))}, apiKey: process.env.${variable(call.upstream)} });\nconst answer = await client.${method}(${body}${options});\n${printing}`;
}

/** Lines that point the common clients at this address: [name, code]. */
export function connect(base: string): [string, string][] {
  const v1 = `${base}/v1`;
  return [
    ["curl", `curl ${v1}/chat/completions \\\n  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -H "x-calltap-prompt: first-call" \\\n  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "ping"}]}'`],
    ["Environment", `export OPENAI_BASE_URL=${v1}\n# then start your program as ever; or, for one program:\ncalltap run -- python app.py`],
    ["Python", `from openai import OpenAI\n\nclient = OpenAI(base_url="${v1}")\nanswer = client.chat.completions.create(\n    model="gpt-4o-mini",\n    messages=[{"role": "user", "content": "ping"}],\n    extra_headers={"x-calltap-prompt": "first-call"},\n)`],
    ["TypeScript", `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${v1}" });\nawait client.chat.completions.create(\n  { model: "gpt-4o-mini", messages: [{ role: "user", content: "ping" }] },\n  { headers: { "x-calltap-prompt": "first-call" } },\n);`],
    ["LangChain", `from langchain_openai import ChatOpenAI\n\nmodel = ChatOpenAI(\n    model="gpt-4o-mini",\n    base_url="${v1}",\n    default_headers={"x-calltap-prompt": "first-call"},\n)\nmodel.invoke("ping")`],
    ["LlamaIndex", `from llama_index.llms.openai import OpenAI\n\nllm = OpenAI(\n    model="gpt-4o-mini",\n    api_base="${v1}",\n    default_headers={"x-calltap-prompt": "first-call"},\n)\nllm.complete("ping")`],
    ["Vercel AI SDK", `import { createOpenAI } from "@ai-sdk/openai";\nimport { generateText } from "ai";\n\nconst openai = createOpenAI({\n  baseURL: "${v1}",\n  headers: { "x-calltap-prompt": "first-call" },\n});\nawait generateText({ model: openai("gpt-4o-mini"), prompt: "ping" });`],
    ["Azure", `from openai import AzureOpenAI\n\n# calltap.toml: [upstreams.azure] base_url = "https://YOUR-RESOURCE.openai.azure.com"\nclient = AzureOpenAI(\n    azure_endpoint="${base}",\n    api_version="2024-10-21",\n)`],
    ["Another provider", `from openai import OpenAI\n\n# built in: groq, together, mistral, deepseek, xai, openrouter, ollama, vllm, …\nclient = OpenAI(base_url="${base}/groq/v1", api_key="…")`],
  ];
}
