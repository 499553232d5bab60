// The AI SDK with its OpenAI provider over chat completions.

import { createOpenAI } from "@ai-sdk/openai";
import { offers } from "../ai.js";

export { agent, name, sdk } from "./ai-sdk.js";

export function connect(base, headers, retries) {
  const key = base ? { baseURL: base, apiKey: "sk-test" } : {};
  return offers(() => createOpenAI({ ...key, headers }).chat("gpt-4o-mini"), undefined, retries);
}
