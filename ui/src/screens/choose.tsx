/** Which columns the list has, and in which order. */

import { columns } from "../lib/prefs.ts";
import { Dialog } from "../parts/bits.tsx";
import { ALL, DEFAULT } from "./columns.tsx";

export function Columns({ close }: { close: () => void }) {
  const ids = columns.value.length ? columns.value : DEFAULT;
  const names = new Map(ALL.map((column) => [column.id, column.name]));
  const toggle = (id: string) => (columns.value = ids.includes(id) ? ids.filter((other) => other !== id) : [...ids, id]);
  const move = (id: string, step: number) => {
    const next = [...ids];
    const at = next.indexOf(id);
    const to = at + step;
    if (to < 0 || to >= next.length) return;
    next.splice(at, 1);
    next.splice(to, 0, id);
    columns.value = next;
  };
  const addMeta = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const name = String(new FormData(form).get("name") ?? "").trim().toLowerCase();
    if (name && !ids.includes(`meta.${name}`)) columns.value = [...ids, `meta.${name}`];
    form.reset();
  };
  const rest = ALL.filter((column) => !ids.includes(column.id));
  return (
    <Dialog title="Columns" close={close}>
      <ul class="choose">
        {ids.map((id, at) => (
          <li key={id}>
            <label><input type="checkbox" checked onChange={() => toggle(id)} /> {names.get(id) ?? id}</label>
            <button type="button" class="bare" disabled={at === 0} aria-label={`${names.get(id) ?? id} further left`} onClick={() => move(id, -1)}>↑</button>
            <button type="button" class="bare" disabled={at === ids.length - 1} aria-label={`${names.get(id) ?? id} further right`} onClick={() => move(id, 1)}>↓</button>
          </li>
        ))}
        {rest.map((column) => <li key={column.id}><label><input type="checkbox" onChange={() => toggle(column.id)} /> {column.name}</label></li>)}
      </ul>
      <form onSubmit={addMeta} class="inline"><label>Column of the metadata <input name="name" placeholder="order" maxLength={80} /></label><button type="submit">Add</button></form>
      <p><button type="button" onClick={() => (columns.value = [])}>Back to the default</button></p>
    </Dialog>
  );
}
