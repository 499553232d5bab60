// The AI SDK with its OpenAI provider, whose models call /v1/responses.

import { createOpenAI } from "@ai-sdk/openai";
import { offers } from "../ai.js";

export const name = "@ai-sdk/openai";
export const sdk = "ai-sdk";
export const agent = /^ai(-sdk\/openai)?\/\d.*ai-sdk\/provider-utils\//;
export const endpoint = "responses";

export function connect(base, headers, retries) {
  const key = base ? { baseURL: base, apiKey: "sk-test" } : {};
  const provider = () => createOpenAI({ ...key, headers });
  const calls = offers(() => provider()("gpt-4o-mini"), () => provider().embedding("text-embedding-3-small"), retries);
  return { ...calls, responses: calls.plain };
}
