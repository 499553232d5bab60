/** Goes anywhere by name: screens, views, a call by its id. */

import { useState } from "preact/hooks";
import { nextTheme, views } from "../lib/prefs.ts";
import { go, link } from "../lib/router.ts";
import { Dialog } from "../parts/bits.tsx";
import { SCREENS } from "../app.tsx";

interface Place { name: string; hint: string; act: () => void }

export function Palette({ close }: { close: () => void }) {
  const [text, setText] = useState("");
  const [chosen, choose] = useState(0);
  const typed = text.trim();
  const all: Place[] = [
    ...SCREENS.map(([to, name, , key]) => ({ name, hint: key, act: () => go(to) })),
    ...views.value.map((view) => ({ name: view.name, hint: view.q, act: () => go(link("/", { q: view.q })) })),
    { name: "Change the theme", hint: "t", act: nextTheme },
  ];
  const found = all.filter((one) => `${one.name} ${one.hint}`.toLowerCase().includes(typed.toLowerCase()));
  if (/^[0-9a-f-]{8,36}$/i.test(typed)) found.unshift({ name: `Call ${typed}`, hint: "id", act: () => go(`/calls/${typed}`) });
  if (typed) found.push({ name: `Search calls for ${typed}`, hint: "q", act: () => go(link("/", { q: typed })) });
  const act = (one: Place | undefined) => {
    close();
    one?.act();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose((at) => (at + (event.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      act(found[chosen]);
    }
  };
  return (
    <Dialog title="Go to" close={close}>
      <input class="palette" role="combobox" aria-label="Where to" aria-expanded="true" aria-controls="places" aria-activedescendant={`place-${chosen}`} value={text} autoFocus placeholder="screen, view, id of a call, words" onInput={(event) => (setText(event.currentTarget.value), choose(0))} onKeyDown={onKeyDown} />
      <ul id="places" class="places" role="listbox" aria-label="Places">
        {found.map((one, at) => <li key={one.name} id={`place-${at}`} role="option" aria-selected={at === chosen} onClick={() => act(one)}><span>{one.name}</span><span class="quiet mono">{one.hint}</span></li>)}
      </ul>
    </Dialog>
  );
}
