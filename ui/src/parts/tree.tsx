/** JSON as a tree that opens where it is clicked; nothing below a closed node exists. */

import { useState } from "preact/hooks";
import { count } from "../lib/format.ts";
import type { Json } from "../lib/types.ts";

/** Children shown at first. */
const CHILDREN = 100;
const STRING = 600;

export function Tree({ value, name = null, depth = 0, open = 2 }: { value: Json; name?: string | null; depth?: number; open?: number }) {
  if (typeof value !== "object" || value === null) {
    return <div class="leaf">{name !== null && <Name name={name} />}<Scalar value={value} /></div>;
  }
  return <Branch value={value} name={name} depth={depth} open={open} />;
}

function Branch({ value, name, depth, open }: { value: Json[] | { [key: string]: Json }; name: string | null; depth: number; open: number }) {
  const entries = Array.isArray(value) ? value.map((item, at): [string, Json] => [String(at), item]) : Object.entries(value);
  const [isOpen, set] = useState(depth < open && entries.length <= 50);
  const [shown, show] = useState(CHILDREN);
  const [left, right] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (!entries.length) return <div class="leaf">{name !== null && <Name name={name} />}<span class="punct">{left}{right}</span></div>;
  return (
    <details class="branch" open={isOpen} onToggle={(event) => event.target === event.currentTarget && set(event.currentTarget.open)}>
      <summary>
        {name !== null && <Name name={name} />}
        <span class="punct">{left}</span>
        {!isOpen && <span class="quiet"> {count(entries.length)} {Array.isArray(value) ? (entries.length === 1 ? "item" : "items") : entries.length === 1 ? "member" : "members"} <span class="punct">{right}</span></span>}
      </summary>
      {isOpen && (
        <div class="children">
          {entries.slice(0, shown).map(([key, item]) => <Tree key={key} value={item} name={key} depth={depth + 1} open={open} />)}
          {entries.length > shown && <button type="button" class="more" onClick={() => show(shown + 1000)}>show {count(Math.min(1000, entries.length - shown))} more</button>}
        </div>
      )}
    </details>
  );
}

const Name = ({ name }: { name: string }) => <span class="name"><bdi>{name.length > 200 ? `${name.slice(0, 200)}…` : name}</bdi>: </span>;

function Scalar({ value }: { value: string | number | boolean | null }) {
  const [shown, show] = useState(STRING);
  if (typeof value !== "string") return <span class={value === null ? "null" : typeof value}>{String(value)}</span>;
  return (
    <span class="string">
      <bdi>{value.slice(0, shown)}</bdi>
      {value.length > shown && <button type="button" class="more" onClick={() => show(shown + 100_000)}>… {count(value.length - shown)} more characters</button>}
    </span>
  );
}
