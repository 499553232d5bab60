// What the AI SDK offers, whichever provider it has.

import { embedMany, generateText, Output, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;

export function offers(model, embedding, maxRetries) {
  const city = z.object({ city: z.string() });
  return {
    plain: async (prompt) => (await generateText({ model: model(), prompt, maxRetries })).text,
    async *stream(prompt, abortSignal) {
      let failure;
      const onError = ({ error }) => { failure = error; };
      yield* streamText({ model: model(), prompt, maxRetries, abortSignal, onError }).textStream;
      if (failure) throw failure;
    },
    async tools(prompt) {
      const tools = { weather: tool({ inputSchema: city }) };
      return (await generateText({ model: model(), prompt, maxRetries, tools })).toolCalls[0].input;
    },
    structured: async (prompt) =>
      (await generateText({ model: model(), prompt, maxRetries, output: Output.object({ schema: city }) })).output,
    ...(embedding && {
      embed: async (values) => (await embedMany({ model: embedding(), values, maxRetries })).embeddings,
    }),
  };
}
