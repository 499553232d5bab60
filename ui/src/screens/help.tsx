/** The keyboard, and a switch for those whom single keys disturb. */

import { HELP } from "../lib/keys.ts";
import { shortcuts } from "../lib/prefs.ts";
import { Dialog } from "../parts/bits.tsx";

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <div class="help">
        {HELP.map(([where, keys]) => (
          <section key={where}><h3>{where}</h3>
            <dl>{keys.map(([key, does]) => <div key={key}><dt>{key.split(" ").map((one) => (/^(…|or)$/.test(one) ? ` ${one} ` : <kbd key={one}>{one}</kbd>))}</dt><dd>{does}</dd></div>)}</dl>
          </section>
        ))}
      </div>
      <p class="quiet"><kbd>Ctrl</kbd> <kbd>K</kbd> goes anywhere.</p>
      <label><input type="checkbox" checked={shortcuts.value} onChange={() => (shortcuts.value = !shortcuts.value)} /> Single keys are shortcuts</label>
    </Dialog>
  );
}
