/** When what happened: the phases of a call, and the arrival of every piece of its answer. */

import { useMemo, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { bytes, count, ms } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import type { Call, Raw } from "../lib/types.ts";
import { Facts, Skeleton, Trouble } from "../parts/bits.tsx";
import { Attempts } from "./attempts.tsx";

/** A pause inside the answer that is worth a mark. */
const STALL_MS = 1000;

export function Timeline({ call }: { call: Call }) {
  const { data, error, again } = useLoad(`raw ${call.id}`, (signal) => get<Raw>(`/api/v1/calls/${call.id}/raw`, {}, signal));
  const { timing } = call;
  const total = Math.max(timing.latency_ms, 0.001);
  const first = timing.first_byte_ms ?? null;
  const token = timing.ttft_ms ?? null;
  const phases: [string, number, number, string][] = [];
  if (first === null) phases.push(["no answer", 0, total, "wait"]);
  else {
    phases.push(["until the first byte", 0, first, "wait"]);
    if (token !== null && token > first) phases.push(["until the first token", first, token, "first"]);
    phases.push([call.stream ? "streaming" : "receiving", token ?? first, total, "flow"]);
  }
  return (
    <div class="timeline">
      <Attempts call={call} />
      <section aria-label="Phases">
        <h2>Phases</h2>
        <ol class="phases">
          {phases.map(([name, from, to, kind]) => (
            <li key={name}><span>{name}</span><span class="track"><i class={kind} style={{ marginLeft: `${(100 * from) / total}%`, width: `${Math.max(0.4, (100 * (to - from)) / total)}%` }} /></span><span class="right">{ms(to - from)}</span></li>
          ))}
          <li class="sum"><span>in all</span><span class="track"><i class="all" style={{ width: "100%" }} /></span><span class="right">{ms(total)}</span></li>
        </ol>
        <Facts items={[["calltap's own time", ms(timing.overhead_ms)], ["Pieces received", count(timing.chunks)], ["Speed", timing.output_tokens_per_second ? `${timing.output_tokens_per_second.toFixed(1)} tokens/s` : null]]} />
      </section>
      <section aria-label="Arrival of the answer">
        <h2>Arrival of the answer</h2>
        {error && !data ? <Trouble error={error} what="arrival times of this call: its bodies are not kept" again={again} /> : !data ? <Skeleton lines={5} /> : <Arrival chunks={data.chunks} total={total} id={call.id} />}
      </section>
    </div>
  );
}

const WIDTH = 1000;

function Arrival({ chunks, total, id }: { chunks: [number, number][]; total: number; id: string }) {
  const [at, point] = useState<number | null>(null);
  const shape = useMemo(() => describe(chunks, total), [chunks, total]);
  if (chunks.length === 0) return <p class="quiet">No piece of an answer arrived.</p>;
  if (chunks.length === 1) return <p class="quiet">The answer came in one piece of {bytes(chunks[0]?.[0])}, {ms((chunks[0]?.[1] ?? 0) / 1000)} after the request.</p>;
  const chunk = at === null ? null : chunks[at];
  const hover = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const time = ((event.clientX - box.left) / box.width) * total * 1000;
    let best = 0;
    chunks.forEach(([, us], index) => {
      if (Math.abs(us - time) < Math.abs((chunks[best]?.[1] ?? 0) - time)) best = index;
    });
    point(best);
  };
  return (
    <>
      <svg class="arrival" viewBox={`0 0 ${WIDTH} 120`} preserveAspectRatio="none" role="img" aria-label={`${chunks.length} pieces; the longest pause was ${ms(shape.longest)}${shape.stalls.length ? `; ${shape.stalls.length} stalls of more than a second` : ""}`} onPointerMove={hover} onPointerLeave={() => point(null)}>
        {shape.stalls.map((stall) => <rect key={stall.from} class="stall" x={(WIDTH * stall.from) / total} y="0" width={Math.max(1, (WIDTH * (stall.to - stall.from)) / total)} height="96" />)}
        <path class="curve" d={shape.curve} vector-effect="non-scaling-stroke" />
        <path class="ticks" d={shape.ticks} vector-effect="non-scaling-stroke" />
        {chunk && <line class="pointer" x1={(WIDTH * chunk[1]) / 1000 / total} x2={(WIDTH * chunk[1]) / 1000 / total} y1="0" y2="120" vector-effect="non-scaling-stroke" />}
      </svg>
      <div class="axis" aria-hidden="true">{[0, 0.25, 0.5, 0.75, 1].map((part) => <span key={part}>{part ? ms(total * part) : "0"}</span>)}</div>
      <p class="quiet readout">
        {chunk && at !== null ? <>piece {count(at + 1)} of {count(chunks.length)} · {ms(chunk[1] / 1000)} after the request · {at > 0 ? `${ms((chunk[1] - (chunks[at - 1]?.[1] ?? 0)) / 1000)} after the one before` : "the first"} · {bytes(chunk[0])} · <a href={`/calls/${id}/raw?event=${at + 1}`}>raw</a></> : "Each tick is a piece of the answer as it arrived; the curve is how much had come by then."}
      </p>
      <Facts items={[["Longest pause", ms(shape.longest)], ["Median pause", ms(shape.median)], ["Stalls over 1 s", shape.stalls.length ? count(shape.stalls.length) : "none"], ["Received", bytes(shape.size)]]} />
    </>
  );
}

/** Most ticks drawn; of more, every n-th. */
const TICKS = 3000;

export function describe(chunks: [number, number][], total: number) {
  const size = chunks.reduce((sum, [length]) => sum + length, 0);
  const gaps = chunks.slice(1).map(([, us], at) => (us - (chunks[at]?.[1] ?? 0)) / 1000);
  const sorted = [...gaps].sort((a, b) => a - b);
  const stalls = gaps.flatMap((gap, at) => (gap > STALL_MS ? [{ from: (chunks[at]?.[1] ?? 0) / 1000, to: (chunks[at + 1]?.[1] ?? 0) / 1000 }] : []));
  const every = Math.ceil(chunks.length / TICKS);
  let ticks = "";
  let curve = "";
  let sum = 0;
  chunks.forEach(([length, us], at) => {
    sum += length;
    if (at % every !== 0 && at !== chunks.length - 1) return;
    const x = ((WIDTH * us) / 1000 / total).toFixed(1);
    ticks += `M${x} 100V118`;
    curve += `${curve ? "L" : "M"}${x} ${(94 - (88 * sum) / Math.max(1, size)).toFixed(1)}`;
  });
  return { size, stalls, ticks, curve, longest: sorted.at(-1) ?? 0, median: sorted[Math.floor(sorted.length / 2)] ?? 0 };
}
