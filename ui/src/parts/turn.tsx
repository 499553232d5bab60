/** A turn of a conversation: text, reasoning, tool calls and results, pictures. */

import { useState } from "preact/hooks";
import { isDrawable, isPlayable, mismatches, type Part, type Turn } from "../lib/conversation.ts";
import { count, line } from "../lib/format.ts";
import { CopyButton } from "./bits.tsx";
import { Icon } from "./icons.tsx";
import { Text } from "./text.tsx";
import { Tree } from "./tree.tsx";

/** Text of a turn, for copying. */
const plain = (turn: Turn): string => turn.parts.map((part) => ("text" in part ? part.text : "value" in part ? JSON.stringify(part.value, null, 2) : "arguments" in part ? `${part.name}(${JSON.stringify(part.arguments)})` : "")).filter(Boolean).join("\n\n");

export function TurnCard({ turn, markdown, isNew = false, results }: { turn: Turn; markdown: boolean; isNew?: boolean; results?: Map<string, string> }) {
  const calls = turn.parts.filter((part) => part.kind === "call");
  const isQuiet = turn.role === "system" || turn.role === "developer";
  return (
    <article class={`turn ${/^[a-z]+$/.test(turn.role) ? turn.role : "other"}${isNew ? " new" : ""}`}>
      <header>
        <span class="role"><bdi>{line(turn.role, 40)}</bdi></span>
        {turn.name && <span class="quiet"><bdi>{line(turn.name, 60)}</bdi></span>}
        {turn.choice !== undefined && <span class="quiet">choice {turn.choice + 1}</span>}
        {turn.finish && turn.finish !== "stop" && <span class={`badge ${turn.finish === "length" || turn.finish === "content_filter" ? "bad" : ""}`}>{turn.finish}</span>}
        <span class="grow" />
        <CopyButton text={() => plain(turn)} what="message" />
      </header>
      {turn.parts.filter((part) => part.kind !== "call").map((part, at) => <PartView key={at} part={part} markdown={markdown} folded={isQuiet} results={results} />)}
      {calls.length > 0 && <div class="calls">{calls.map((part, at) => <PartView key={at} part={part} markdown={markdown} results={results} />)}</div>}
      {turn.parts.length === 0 && <p class="quiet">(empty)</p>}
    </article>
  );
}

function PartView({ part, markdown, folded = false, results }: { part: Part; markdown: boolean; folded?: boolean; results?: Map<string, string> | undefined }) {
  switch (part.kind) {
    case "text":
      return <Text text={part.text} markdown={markdown} limit={folded ? 600 : 3000} />;
    case "reasoning":
      return <details class="reasoning"><summary>Reasoning <span class="quiet">{count(part.text.length)} characters</span></summary><Text text={part.text} markdown={markdown} /></details>;
    case "refusal":
      return <div class="refusal"><span class="badge bad">refusal</span><Text text={part.text} /></div>;
    case "structured":
      return <div class="structured"><span class="badge">structured output</span><Tree value={part.value} open={3} /></div>;
    case "call":
      return <CallView part={part} />;
    case "result":
      return (
        <div class="result">
          <div class="tool-name"><Icon name="right" /> <bdi>{part.name ?? (part.id && results?.get(part.id)) ?? "result"}</bdi> {part.id && <span class="quiet mono">{line(part.id, 40)}</span>}</div>
          {typeof part.value === "string" ? <Text text={part.value} limit={1200} /> : <Tree value={part.value} open={1} />}
        </div>
      );
    case "media":
      return <Media part={part} />;
    case "json":
      return <div class="structured"><span class="badge"><bdi>{line(part.label, 60)}</bdi></span>{part.value !== null && <Tree value={part.value} open={1} />}</div>;
  }
}

function CallView({ part }: { part: Extract<Part, { kind: "call" }> }) {
  const wrong = part.raw !== null ? ["the arguments are no JSON"] : part.schema === null ? [] : mismatches(part.arguments, part.schema);
  return (
    <div class="tool">
      <div class="tool-name"><Icon name="tool" /> <strong><bdi>{line(part.name, 120)}</bdi></strong> {part.id && <span class="quiet mono">{line(part.id, 40)}</span>}
        {part.schema !== null && (wrong.length ? null : <span class="badge good">fits its schema</span>)}
      </div>
      {wrong.length > 0 && <ul class="wrong">{wrong.slice(0, 8).map((why) => <li key={why}>{line(why, 200)}</li>)}</ul>}
      {part.raw === null ? <Tree value={part.arguments} open={2} /> : <Text text={part.raw} limit={1200} />}
    </div>
  );
}

function Media({ part }: { part: Extract<Part, { kind: "media" }> }) {
  const [large, set] = useState(false);
  if (part.media === "image" && isDrawable(part.source)) {
    return <button type="button" class={`picture${large ? " large" : ""}`} aria-label={large ? "Smaller" : "Larger"} aria-pressed={large} onClick={() => set(!large)}><img src={part.source} alt={part.label} /></button>;
  }
  if (part.media === "audio" && isPlayable(part.source)) return <audio controls src={part.source} aria-label={part.label} />;
  const where = part.source && !part.source.startsWith("data:") ? line(part.source, 300) : null;
  return <p class="quiet">{line(part.label, 120)}{where ? <>, not fetched: <span class="mono"><bdi>{where}</bdi></span></> : ", its bytes are not shown"}</p>;
}
