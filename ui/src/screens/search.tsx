/** The query bar: text in the one query language, with fields and values offered while one types. */

import { useEffect, useRef, useState } from "preact/hooks";
import { get, type ApiError } from "../lib/api.ts";
import { short } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import { EXAMPLES, FIELDS, FIXED, quote, wordAt } from "../lib/query.ts";
import type { Facets, Grammar } from "../lib/types.ts";
import { Icon } from "../parts/icons.tsx";

interface Offer { text: string; hint: string; isField: boolean }

let fields: [string, string][] = FIELDS;
let asked = false;

/** The grammar is the server's; the list above stands in until it has told. */
async function learn(): Promise<void> {
  if (asked) return;
  asked = true;
  try {
    const grammar = await get<Grammar>("/api/v1/query");
    if (grammar.fields.length) fields = grammar.fields.map((field) => [field.name, field.kind]);
  } catch {
    // The built-in list stays.
  }
}

/** Fields whose values the server counts. */
const COUNTED = new Set(["model", "error", "finish", "prompt", "version", "session", "customer", "user", "env", "key", "client", "upstream", "provider", "endpoint", "tag"]);

async function offersFor(q: string, at: number, signal: AbortSignal): Promise<Offer[]> {
  const word = wordAt(q, at);
  if (word.field === null) {
    const typed = word.text.toLowerCase();
    return fields.filter(([name]) => name.startsWith(typed)).map(([name, kind]) => ({ text: `${name}:`, hint: own(EXAMPLES, kind) ?? kind, isField: true }));
  }
  const fixed = (own(FIXED, word.field) ?? []).filter((value) => value.startsWith(word.text)).map((value) => ({ text: value, hint: "", isField: false }));
  if (!COUNTED.has(word.field)) return fixed;
  const found = await get<Facets>("/api/v1/facets", { fields: word.field, prefix: word.text, limit: 12 }, signal).catch(() => null);
  const values = found?.items[0]?.values.map(({ value, count }) => ({ text: quote(value), hint: short(count), isField: false })) ?? [];
  return values.length ? values : fixed;
}

export function Search({ q, error, apply }: { q: string; error: ApiError | null; apply: (q: string) => void }) {
  const [text, setText] = useState(q);
  const [offers, setOffers] = useState<Offer[]>([]);
  const [chosen, choose] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const asking = useRef<AbortController | null>(null);
  useEffect(() => setText(q), [q]);

  const close = () => {
    asking.current?.abort();
    setOffers([]);
    choose(-1);
  };
  const offer = () => {
    const element = input.current;
    if (!element) return;
    void learn();
    asking.current?.abort();
    const controller = (asking.current = new AbortController());
    void offersFor(element.value, element.selectionStart ?? element.value.length, controller.signal).then((found) => {
      if (controller.signal.aborted) return;
      setOffers(found.slice(0, 12));
      choose(-1);
    }, () => undefined);
  };
  const take = ({ text: taken, isField }: Offer) => {
    const element = input.current;
    if (!element) return;
    const word = wordAt(element.value, element.selectionStart ?? element.value.length);
    const rest = element.value.slice(word.to);
    const next = `${element.value.slice(0, word.from)}${taken}${isField ? "" : " "}${isField ? rest : rest.trimStart()}`;
    setText(next);
    element.value = next;
    const at = word.from + taken.length + (isField ? 0 : 1);
    element.focus();
    element.setSelectionRange(at, at);
    if (isField) offer();
    else {
      close();
      apply(next.trim());
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!offers.length) return offer();
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      choose((at) => (at + step + offers.length + 1) % (offers.length + 1));
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (offers.length) close();
      else input.current?.blur();
    } else if (event.key === "Enter" || (event.key === "Tab" && chosen >= 0)) {
      event.preventDefault();
      const picked = offers[chosen];
      if (picked) take(picked);
      else {
        close();
        apply(text.trim());
      }
    }
  };
  return (
    <form class="search" role="search" onSubmit={(event) => (event.preventDefault(), close(), apply(text.trim()))}>
      <Icon name="search" />
      <input
        ref={input} id="q" type="text" value={text} maxLength={4096} autocomplete="off" autocapitalize="off" spellcheck={false}
        role="combobox" aria-label="Search calls" aria-expanded={offers.length > 0} aria-controls="offers" aria-autocomplete="list"
        aria-activedescendant={chosen >= 0 ? `offer-${chosen}` : undefined} aria-invalid={error?.status === 400} aria-describedby={error ? "q-error" : undefined}
        placeholder='model:gpt-4o* status:error cost:>0.05 "exact words"'
        onInput={(event) => (setText(event.currentTarget.value), offer())} onFocus={offer} onBlur={() => setTimeout(close, 120)} onKeyDown={onKeyDown}
      />
      {text ? <button type="button" class="bare" aria-label="Clear the search" onClick={() => (setText(""), close(), apply(""))}><Icon name="close" /></button> : <kbd aria-hidden="true">/</kbd>}
      <ul id="offers" role="listbox" aria-label="Suggestions" hidden={!offers.length}>
        {offers.map((one, at) => (
          <li key={one.text} id={`offer-${at}`} role="option" aria-selected={at === chosen} onPointerDown={(event) => (event.preventDefault(), take(one))}>
            <span class="mono"><bdi>{one.text}</bdi></span><span class="quiet">{one.hint}</span>
          </li>
        ))}
      </ul>
      {error && <p id="q-error" class="q-error" role="alert">{error.message}</p>}
    </form>
  );
}
