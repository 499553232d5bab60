// The AI SDK with its provider for compatible servers.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { offers } from "../ai.js";

export const name = "@ai-sdk/openai-compatible";
export const sdk = "ai-sdk";
export const agent = /^ai(-sdk\/openai-compatible)?\/\d.*ai-sdk\/provider-utils\//;

export function connect(base, headers, retries) {
  const provider = () => createOpenAICompatible({
    name: "calltap", baseURL: base ?? process.env.OPENAI_BASE_URL, apiKey: "sk-test", headers, supportsStructuredOutputs: true,
  });
  return offers(() => provider()("gpt-4o-mini"), () => provider().textEmbeddingModel("text-embedding-3-small"), retries);
}
