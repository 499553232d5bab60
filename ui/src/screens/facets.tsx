/** Counts beside the list. They come on their own, and never keep the list waiting. */

import { get } from "../lib/api.ts";
import { line, short } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import { useLoad } from "../lib/load.ts";
import { has, term, toggle } from "../lib/query.ts";
import type { Facets as Answer } from "../lib/types.ts";
import { outcomeName, Skeleton, Trouble } from "../parts/bits.tsx";

const FIELDS = "model,outcome,prompt,env,customer,client,error,finish";
const NAMES: Record<string, string> = { model: "Model", outcome: "Outcome", prompt: "Prompt", env: "Environment", customer: "Customer", client: "Client", error: "Error", finish: "Finish" };

export function Facets({ q, apply }: { q: string; apply: (q: string) => void }) {
  const { data, error, again } = useLoad(`facets ${q}`, (signal) => get<Answer>("/api/v1/facets", { q, fields: FIELDS, limit: 7 }, signal), 20_000);
  // A query that does not parse is explained beside it; a server without counts shows none.
  if (error && !data && (error.status === 400 || error.status === 404)) return null;
  if (error && !data) return <aside class="facets" aria-label="Facets"><Trouble error={error} what="counts by field" again={again} /></aside>;
  if (!data) return <aside class="facets" aria-label="Facets"><Skeleton lines={12} /></aside>;
  const filled = data.items.filter((item) => item.values.length);
  return (
    <aside class="facets" aria-label="Facets">
      {filled.map(({ field, values, more }) => (
        <section key={field}>
          <h2>{own(NAMES, field) ?? field}</h2>
          <ul>
            {values.map(({ value, count }) => {
              const wanted = term(field, value);
              const isOn = has(q, wanted);
              return (
                <li key={value}>
                  <button type="button" aria-pressed={isOn} title={line(value, 200)} onClick={() => apply(toggle(q, wanted))}>
                    <bdi>{line(field === "outcome" ? outcomeName(value) : value, 60)}</bdi><span class="count">{short(count)}</span>
                  </button>
                </li>
              );
            })}
          </ul>
          {more && <p class="quiet">and more: type {field}: above</p>}
        </section>
      ))}
      {!filled.length && <p class="quiet">Nothing to count.</p>}
      {!data.complete && <p class="quiet">Counted over the newest {short(data.scanned)} calls.</p>}
    </aside>
  );
}
