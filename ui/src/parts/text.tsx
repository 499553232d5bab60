/** Text from outside: as text, folded when long; Markdown only as elements made here, never as HTML. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { count } from "../lib/format.ts";

/** Characters shown at first, and added by each further click. */
const FOLD = 3_000;
const STEP = 100_000;

export function Text({ text, markdown = false, limit = FOLD }: { text: string; markdown?: boolean; limit?: number }) {
  const [shown, set] = useState(limit);
  const part = text.length > shown ? text.slice(0, shown) : text;
  return (
    <>
      {markdown ? <Markdown text={part} /> : <div class="prose">{part}</div>}
      {text.length > shown && (
        <button type="button" class="more" onClick={() => set(shown + STEP)}>
          show {count(Math.min(STEP, text.length - shown))} more characters{text.length - shown > STEP ? ` of ${count(text.length - shown)}` : ""}
        </button>
      )}
    </>
  );
}

type Renderer = (text: string) => ComponentChildren;
let renderer: Renderer | null = null;

/** The parser comes when it is first wanted. */
function Markdown({ text }: { text: string }) {
  const [render, set] = useState<Renderer | null>(() => renderer);
  useEffect(() => {
    if (!renderer) void import("./markdown.tsx").then((module) => set(() => (renderer = module.render)));
  }, []);
  return render ? <div class="prose markdown">{render(text)}</div> : <div class="prose">{text}</div>;
}
