// LangChain.

import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

export const name = "@langchain/openai";
export const sdk = "langchain-js";
// It hands a 429 to its user at once, whatever `maxRetries` says.
export const without = ["retry after 429"];
export const agent = /^langchainjs-openai\//;

export function connect(base, headers, maxRetries) {
  const key = base ? { apiKey: "sk-test" } : {};
  const configuration = { ...(base && { baseURL: base }), defaultHeaders: headers };
  const city = z.object({ city: z.string() });
  const chat = (options) => new ChatOpenAI({ model: "gpt-4o-mini", ...key, configuration, maxRetries, ...options });
  return {
    plain: async (prompt) => (await chat().invoke(prompt)).text,
    async *stream(prompt, signal) {
      for await (const chunk of await chat().stream(prompt, { signal })) yield chunk.text;
    },
    async tools(prompt) {
      const weather = tool(() => "rain", { name: "weather", description: "The weather of a city.", schema: city });
      return (await chat().bindTools([weather]).invoke(prompt)).tool_calls[0].args;
    },
    structured: (prompt) => chat().withStructuredOutput(city).invoke(prompt),
    responses: async (prompt) => (await chat({ useResponsesApi: true }).invoke(prompt)).text,
    embed: (texts) => new OpenAIEmbeddings({ model: "text-embedding-3-small", ...key, configuration, maxRetries }).embedDocuments(texts),
  };
}
