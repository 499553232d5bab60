/**
 * A call as turns of a conversation, whatever endpoint it went through. Reads hostile data: every access is
 * checked, and what is not understood stays as JSON.
 */

import type { Json, Object_ } from "./types.ts";

export type Part =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  | { kind: "refusal"; text: string }
  | { kind: "structured"; value: Json }
  | { kind: "call"; id: string | null; name: string; arguments: Json; raw: string | null; schema: Json }
  | { kind: "result"; id: string | null; name: string | null; value: Json }
  | { kind: "media"; media: "image" | "audio" | "file"; source: string | null; label: string }
  | { kind: "json"; label: string; value: Json };

export interface Turn { role: string; name: string | null; parts: Part[]; choice?: number; finish?: string | null }

export const isObject = (value: Json | undefined): value is Object_ => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: Json | undefined): string | null => (typeof value === "string" ? value : null);
const list = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);
const field = (value: Json | undefined, name: string): Json | undefined => (isObject(value) ? value[name] : undefined);

/** JSON text as a value; null where it is none. */
export function parse(source: string): { value: Json } | null {
  try {
    return { value: JSON.parse(source) as Json };
  } catch {
    return null;
  }
}

/** Turns of the request and of the answer. */
export function conversation(request: Json, response: Json): { input: Turn[]; output: Turn[] } {
  const schemas = toolSchemas(request);
  const wantsJson = /json/.test(text(field(field(request, "response_format"), "type")) ?? text(field(field(field(request, "text"), "format"), "type")) ?? "");
  return { input: inputTurns(request, schemas), output: outputTurns(response, schemas, wantsJson) };
}

function toolSchemas(request: Json): Map<string, Json> {
  const found = new Map<string, Json>();
  for (const tool of list(field(request, "tools"))) {
    const made = isObject(field(tool, "function")) ? field(tool, "function") : tool;
    const name = text(field(made, "name"));
    if (name !== null) found.set(name, field(made, "parameters") ?? null);
  }
  return found;
}

function inputTurns(request: Json, schemas: Map<string, Json>): Turn[] {
  const turns: Turn[] = [];
  const instructions = field(request, "instructions");
  if (typeof instructions === "string") turns.push(turn("system", [{ kind: "text", text: instructions }]));
  // Anthropic's shape keeps the system prompt beside the messages.
  const system = field(request, "system");
  if (system !== undefined && system !== null) turns.push(turn("system", contentParts(system)));
  for (const message of list(field(request, "messages"))) turns.push(messageTurn(message, schemas));
  const input = field(request, "input");
  if (typeof input === "string") turns.push(turn("user", [{ kind: "text", text: input }]));
  else for (const item of list(input)) turns.push(typeof item === "string" ? turn("user", [{ kind: "text", text: item }]) : itemTurn(item, schemas));
  const prompt = field(request, "prompt");
  if (typeof prompt === "string") turns.push(turn("user", [{ kind: "text", text: prompt }]));
  else for (const one of list(prompt)) turns.push(turn("user", [typeof one === "string" ? { kind: "text", text: one } : { kind: "json", label: "prompt", value: one }]));
  return turns;
}

function outputTurns(response: Json, schemas: Map<string, Json>, wantsJson: boolean): Turn[] {
  const turns: Turn[] = [];
  const choices = list(field(response, "choices"));
  choices.forEach((choice, at) => {
    const made = isObject(field(choice, "message"))
      ? messageTurn(field(choice, "message") ?? null, schemas)
      : turn("assistant", [{ kind: "text", text: text(field(choice, "text")) ?? "" }]);
    turns.push({ ...made, ...(choices.length > 1 ? { choice: at } : {}), finish: text(field(choice, "finish_reason")) });
  });
  for (const item of list(field(response, "output"))) turns.push(itemTurn(item, schemas));
  // An Assistants message, Anthropic's answer.
  if (!turns.length && field(response, "content") !== undefined) turns.push(turn(text(field(response, "role")) ?? "assistant", contentParts(field(response, "content") ?? null)));
  const data = list(field(response, "data"));
  if (data.some((item) => field(item, "embedding") !== undefined)) turns.push(turn("assistant", [vectors(data)]));
  const images = data.filter((item) => field(item, "b64_json") !== undefined || field(item, "url") !== undefined);
  if (images.length) turns.push(turn("assistant", images.flatMap(imageParts)));
  const transcript = text(field(response, "text"));
  if (!turns.length && transcript !== null) turns.push(turn("assistant", [{ kind: "text", text: transcript }]));
  const results = field(response, "results");
  if (!turns.length && Array.isArray(results)) turns.push(turn("assistant", [{ kind: "json", label: "results", value: results }]));
  for (const made of turns) {
    if (!wantsJson) continue;
    made.parts = made.parts.map((part) => {
      const value = part.kind === "text" ? parse(part.text) : null;
      return value && typeof value.value === "object" ? { kind: "structured", value: value.value } : part;
    });
  }
  return turns;
}

const turn = (role: string, parts: Part[], name: string | null = null): Turn => ({ role, name, parts });

/** A chat message. */
export function messageTurn(message: Json, schemas: Map<string, Json> = new Map()): Turn {
  if (!isObject(message)) return turn("?", [{ kind: "json", label: "message", value: message }]);
  if (text(message["type"]) !== null && message["role"] === undefined) return itemTurn(message, schemas);
  const role = text(message["role"]) ?? "?";
  const parts: Part[] = [];
  for (const name of ["reasoning_content", "reasoning", "thinking"]) {
    const reasoning = text(message[name]);
    if (reasoning) parts.push({ kind: "reasoning", text: reasoning });
  }
  if (role === "tool" || role === "function") {
    const value = message["content"] ?? null;
    return turn(role, [{ kind: "result", id: text(message["tool_call_id"]), name: text(message["name"]), value: readable(value) }]);
  }
  parts.push(...contentParts(message["content"] ?? null));
  const refusal = text(message["refusal"]);
  if (refusal) parts.push({ kind: "refusal", text: refusal });
  for (const call of list(message["tool_calls"])) parts.push(callPart(field(call, "function") ?? field(call, "custom") ?? call, text(field(call, "id")), schemas));
  if (isObject(message["function_call"])) parts.push(callPart(message["function_call"], null, schemas));
  for (const image of list(message["images"])) parts.push(...contentParts([image]));
  const audio = message["audio"];
  if (isObject(audio)) {
    parts.push({ kind: "media", media: "audio", source: dataUrl("audio/wav", text(audio["data"])), label: "audio" });
    const transcript = text(audio["transcript"]);
    if (transcript) parts.push({ kind: "text", text: transcript });
  }
  if (list(message["annotations"]).length) parts.push({ kind: "json", label: "annotations", value: message["annotations"] ?? null });
  return turn(role, parts, text(message["name"]));
}

/** An item of the Responses API, in or out. */
function itemTurn(item: Json, schemas: Map<string, Json>): Turn {
  if (!isObject(item)) return turn("?", [{ kind: "json", label: "item", value: item }]);
  const type = text(item["type"]) ?? "message";
  if (type === "message") return turn(text(item["role"]) ?? "?", contentParts(item["content"] ?? null));
  if (type === "reasoning") {
    const said = [...list(item["summary"]), ...list(item["content"])].map((part) => text(field(part, "text")) ?? "").filter(Boolean);
    return turn("assistant", [{ kind: "reasoning", text: said.join("\n\n") || (item["encrypted_content"] ? "(encrypted by the provider)" : "(nothing shown by the provider)") }]);
  }
  if (type === "function_call" || type === "custom_tool_call" || type === "mcp_call") return turn("assistant", [callPart(item, text(item["call_id"]) ?? text(item["id"]), schemas)]);
  if (/_call_output$/.test(type)) return turn("tool", [{ kind: "result", id: text(item["call_id"]), name: null, value: readable(item["output"] ?? null) }]);
  if (type === "image_generation_call") return turn("assistant", [{ kind: "media", media: "image", source: dataUrl(imageType(text(item["result"])), text(item["result"])), label: "generated image" }]);
  return turn(/^input_/.test(type) ? "user" : "assistant", contentParts([item]));
}

function callPart(made: Json | undefined, id: string | null, schemas: Map<string, Json>): Part {
  const name = text(field(made, "name")) ?? "?";
  const given = field(made, "arguments") ?? field(made, "input") ?? null;
  const parsed = typeof given === "string" ? parse(given) : { value: given };
  return { kind: "call", id, name, arguments: parsed ? parsed.value : null, raw: parsed ? null : text(given), schema: schemas.get(name) ?? null };
}

const readable = (value: Json): Json => (typeof value === "string" ? (parse(value)?.value ?? value) : value);

/** What a message holds: text, or a list of parts. */
export function contentParts(content: Json): Part[] {
  if (content === null) return [];
  if (typeof content === "string") return content ? [{ kind: "text", text: content }] : [];
  if (!Array.isArray(content)) return [{ kind: "json", label: "content", value: content }];
  return content.flatMap(contentPart);
}

function contentPart(part: Json): Part[] {
  if (typeof part === "string") return [{ kind: "text", text: part }];
  if (!isObject(part)) return [{ kind: "json", label: "content", value: part }];
  const type = text(part["type"]) ?? "";
  const plain = isObject(part["text"]) ? text(part["text"]["value"]) : text(part["text"]);
  if (plain !== null && /text$/.test(type)) return [{ kind: "text", text: plain }];
  if (type === "refusal") return [{ kind: "refusal", text: text(part["refusal"]) ?? "" }];
  if (type === "thinking" || type === "reasoning") return [{ kind: "reasoning", text: text(part["thinking"]) ?? plain ?? "" }];
  if (type === "tool_use") return [callPart(part, text(part["id"]), new Map())];
  if (type === "tool_result") return [{ kind: "result", id: text(part["tool_use_id"]), name: null, value: part["content"] ?? null }];
  if (type === "image_url" || type === "input_image" || type === "output_image" || type === "image") {
    const source = isObject(part["source"]) ? dataUrl(text(part["source"]["media_type"]) ?? "image/png", text(part["source"]["data"])) : (text(field(part["image_url"], "url")) ?? text(part["image_url"]));
    return [{ kind: "media", media: "image", source, label: "image" }];
  }
  if (type === "input_audio" || type === "output_audio") {
    const audio = isObject(part["input_audio"]) ? part["input_audio"] : part;
    const format = text(audio["format"]) === "mp3" ? "audio/mpeg" : "audio/wav";
    return [{ kind: "media", media: "audio", source: dataUrl(format, text(audio["data"])), label: "audio" }];
  }
  if (type === "file" || type === "input_file") {
    const file = isObject(part["file"]) ? part["file"] : part;
    return [{ kind: "media", media: "file", source: null, label: text(file["filename"]) ?? text(file["file_id"]) ?? "file" }];
  }
  return [{ kind: "json", label: type || "content", value: part }];
}

function imageParts(item: Json): Part[] {
  const data = text(field(item, "b64_json"));
  const parts: Part[] = [{ kind: "media", media: "image", source: data === null ? text(field(item, "url")) : dataUrl(imageType(data), data), label: "image" }];
  const revised = text(field(item, "revised_prompt"));
  return revised ? [...parts, { kind: "text", text: revised }] : parts;
}

/** By the first bytes, as base64 shows them. */
const imageType = (data: string | null): string => (data?.startsWith("/9j/") ? "image/jpeg" : data?.startsWith("UklGR") ? "image/webp" : data?.startsWith("R0lGOD") ? "image/gif" : "image/png");
const dataUrl = (type: string, data: string | null): string | null => (data === null ? null : `data:${type};base64,${data}`);

function vectors(data: Json[]): Part {
  const first = field(data[0], "embedding");
  const size = Array.isArray(first) ? `${first.length} numbers each` : "base64";
  const start = Array.isArray(first) ? first.slice(0, 8) : null;
  return { kind: "json", label: `${data.length} embedding${data.length === 1 ? "" : "s"}, ${size}`, value: start };
}

/** A picture that may be drawn: its bytes are in the record, and its type can hold no script. */
export const isDrawable = (source: string | null): source is string => source !== null && /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$/.test(source);
export const isPlayable = (source: string | null): source is string => source !== null && /^data:audio\/(wav|mpeg|ogg|flac);base64,[A-Za-z0-9+/=\s]+$/.test(source);

/** What the arguments of a tool call lack or have too much of, by the schema's own words; [] when they fit. */
export function mismatches(value: Json, schema: Json): string[] {
  if (!isObject(schema)) return [];
  if (!isObject(value)) return ["the arguments are no object"];
  const found: string[] = [];
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  for (const name of list(schema["required"])) {
    if (typeof name === "string" && !(name in value)) found.push(`\`${name}\` is missing`);
  }
  for (const [name, given] of Object.entries(value)) {
    const wanted = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (wanted === undefined) {
      if (schema["additionalProperties"] === false) found.push(`\`${name}\` is not in the schema`);
      continue;
    }
    const types = [field(wanted, "type")].flat().filter((type): type is string => typeof type === "string");
    if (types.length && !types.some((type) => isOf(given, type))) found.push(`\`${name}\` is no ${types.join(" or ")}`);
    const allowed = field(wanted, "enum");
    if (Array.isArray(allowed) && !allowed.some((one) => JSON.stringify(one) === JSON.stringify(given))) found.push(`\`${name}\` is none of the allowed values`);
  }
  return found;
}

function isOf(value: Json, type: string): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  if (type === "integer") return typeof value === "number" && Number.isInteger(value);
  return typeof value === type;
}
