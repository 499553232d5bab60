// The official library.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

export const name = "openai";
export const sdk = "openai-node";
export const agent = /^OpenAI\/JS \d/;
const model = "gpt-4o-mini";

export function connect(base, headers, retries) {
  const key = base ? { baseURL: base, apiKey: "sk-test" } : {};
  return offers(() => new OpenAI({ ...key, defaultHeaders: headers, maxRetries: retries }));
}

export function offers(make) {
  const ask = (prompt) => ({ model, messages: [{ role: "user", content: prompt }] });
  return {
    plain: async (prompt) => (await make().chat.completions.create(ask(prompt))).choices[0].message.content,
    async *stream(prompt, signal) {
      for await (const chunk of await make().chat.completions.create({ ...ask(prompt), stream: true }, { signal })) {
        yield chunk.choices[0].delta.content ?? "";
      }
    },
    async tools(prompt) {
      const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
      const answer = await make().chat.completions.create({ ...ask(prompt), tools });
      return JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments);
    },
    async structured(prompt) {
      const form = zodResponseFormat(z.object({ city: z.string() }), "city");
      return (await make().chat.completions.parse({ ...ask(prompt), response_format: form })).choices[0].message.parsed;
    },
    responses: async (prompt) => (await make().responses.create({ model, input: prompt })).output_text,
    async embed(texts) {
      const answer = await make().embeddings.create({ model: "text-embedding-3-small", input: texts });
      return answer.data.map(({ embedding }) => embedding);
    },
  };
}
