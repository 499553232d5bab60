// LlamaIndex.

import { tool } from "@llamaindex/core/tools";
import { OpenAI, OpenAIEmbedding, OpenAIResponses } from "@llamaindex/openai";
import { z } from "zod";

export const name = "@llamaindex/openai";
// It has no way to stop a stream: one that is left is read to its end.
export const without = ["cancelled stream"];
export const sdk = "openai-node";
export const agent = /^OpenAI\/JS \d/;

export function connect(base, headers, maxRetries) {
  const key = base ? { baseURL: base, apiKey: "sk-test" } : {};
  const options = (model) => ({ model, ...key, maxRetries, additionalSessionOptions: { defaultHeaders: headers } });
  const city = z.object({ city: z.string() });
  const messages = (prompt) => [{ role: "user", content: prompt }];
  return {
    plain: async (prompt) => (await new OpenAI(options("gpt-4o-mini")).chat({ messages: messages(prompt) })).message.content,
    async *stream(prompt) {
      const pieces = await new OpenAI(options("gpt-4o-mini")).chat({ messages: messages(prompt), stream: true });
      for await (const { delta } of pieces) yield delta;
    },
    async tools(prompt) {
      const tools = [tool(() => "rain", { name: "weather", description: "The weather of a city.", parameters: city })];
      const { message } = await new OpenAI(options("gpt-4o-mini")).chat({ messages: messages(prompt), tools });
      return JSON.parse(message.options.toolCall[0].input);
    },
    async structured(prompt) {
      const chat = { messages: messages(prompt), responseFormat: city };
      return JSON.parse((await new OpenAI(options("gpt-4o-mini")).chat(chat)).message.content);
    },
    embed: (texts) => new OpenAIEmbedding(options("text-embedding-3-small")).getTextEmbeddingsBatch(texts),
    responses: async (prompt) =>
      (await new OpenAIResponses(options("gpt-4o-mini")).chat({ messages: messages(prompt) })).message.content,
  };
}
