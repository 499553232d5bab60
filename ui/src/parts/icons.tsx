/** Line drawings of 16 by 16, in the colour of the text beside them. */

const PATHS: Record<string, string> = {
  calls: "M2 4h12M2 8h12M2 12h8",
  sessions: "M3 3h8v6H6l-3 2.5V3zM6 11.5h4.5L13 13.5V6",
  prompts: "M3 2.5h7l3 3v8H3zM10 2.5v3h3M5.5 8h5M5.5 10.5h3",
  metrics: "M2.5 13.5v-5M6.2 13.5v-9M9.8 13.5V7M13.5 13.5v-11",
  sinks: "M8 2v7m0 0L5 6.2M8 9l3-2.8M2.5 10.5v3h11v-3",
  settings: "M2 4.5h7M12 4.5h2M2 11.5h2M7 11.5h7M10.5 3v3M5.5 10v3",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.7 10.7L14 14",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  open: "M6 3H3v10h10v-3M9 2.5h4.5V7M13.5 2.5L7 9",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  help: "M6 6a2 2 0 1 1 3 1.7c-.7.4-1 .8-1 1.6M8 11.8v.4M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  columns: "M2.5 3h11v10h-11zM6.2 3v10M9.8 3v10",
  filter: "M2 3.5h12L9.5 8.7V13l-3-1.5V8.7z",
  up: "M3 10l5-5 5 5",
  tool: "M10.5 2.5a3.5 3.5 0 0 0-3 5L2.5 12.3l1.3 1.2L8.7 8.7a3.5 3.5 0 0 0 4.6-4.4l-2 2-1.6-1.6 2-2z",
};

export function Icon({ name }: { name: keyof typeof PATHS & string }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
