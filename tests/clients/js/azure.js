// The official library as Azure's: deployments in the path, an `api-key` header.

import { AzureOpenAI } from "openai";
import { offers } from "./openai.js";

export const name = "openai";
export const sdk = "openai-node";
export const agent = /^AzureOpenAI\/JS \d/;
// It reads AZURE_OPENAI_ENDPOINT, which holds no path.
export const without = ["the environment only with metadata in the path"];

export function connect(base, headers, maxRetries) {
  const { responses, ...calls } = offers(() => new AzureOpenAI({
    endpoint: base.replace(/\/v1$/, ""), apiKey: "sk-test", apiVersion: "2024-10-21", defaultHeaders: headers, maxRetries,
  }));
  return calls;
}
