/** Server-sent events: read from a stream, and taken apart in a record with their times of arrival. */

export interface ServerEvent { event: string; data: string; id: string | null }

/** Feeds text in, gets whole events out. A line is cut at 8 MiB. */
export class EventReader {
  private rest = "";
  private event = "";
  private data: string[] = [];
  private id: string | null = null;

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    this.rest += text;
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = (lines.pop() ?? "").slice(-8_388_608);
    for (const line of lines) {
      if (line === "") {
        if (this.data.length) found.push({ event: this.event || "message", data: this.data.join("\n"), id: this.id });
        this.event = "";
        this.data = [];
        continue;
      }
      const [, name = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (name === "data") this.data.push(value);
      else if (name === "event") this.event = value;
      else if (name === "id") this.id = value;
    }
    return found;
  }
}

/** An event of a recorded stream. `at_us` is the arrival of its last byte, null where times do not fit the text. */
export interface RecordedEvent { event: string; data: string; bytes: number; at_us: number | null }

/** Most events taken apart; the rest is only in the raw bytes. */
export const EVENTS_MAX = 50_000;

const encoder = new TextEncoder();

/** Events of a recorded body, dated by the chunk that completed each. */
export function recorded(text: string, chunks: [number, number][], isExact: boolean): RecordedEvent[] {
  const found: RecordedEvent[] = [];
  let chunk = 0;
  let arrived = chunks[0]?.[0] ?? 0;
  let position = 0;
  for (const block of text.split(/(?<=\r\n\r\n|\n\n|\r\r)/)) {
    if (found.length >= EVENTS_MAX) break;
    const size = encoder.encode(block).length;
    position += size;
    while (arrived < position && chunk + 1 < chunks.length) arrived += chunks[++chunk]?.[0] ?? 0;
    const [event] = new EventReader().push(`${block.replace(/(\r\n|\n|\r)+$/, "")}\n\n`);
    const comment = block.trim();
    if (!event && !comment) continue;
    found.push({ event: event?.event ?? "comment", data: event?.data ?? comment, bytes: size, at_us: isExact ? (chunks[chunk]?.[1] ?? null) : null });
  }
  return found;
}
