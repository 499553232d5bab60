/** Whether the window is as narrow as a phone. */

import { signal } from "@preact/signals";

const media = matchMedia("(max-width: 700px)");
export const isNarrow = signal(media.matches);
media.addEventListener("change", () => (isNarrow.value = media.matches));
