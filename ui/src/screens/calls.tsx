/** The home page: every call, live. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { lazy } from "../lib/lazy.tsx";
import { CallList } from "../lib/calls.ts";
import { copy } from "../lib/clipboard.ts";
import { age, clock, count, line, ms, plural, when } from "../lib/format.ts";
import { useKeys } from "../lib/keys.ts";
import { running } from "../lib/live.ts";
import { facetsOpen, peekWidth } from "../lib/prefs.ts";
import { go, link, place, withQuery } from "../lib/router.ts";
import { choose, chooseNone, selected } from "../lib/selection.ts";
import { isNarrow, isTight } from "../lib/screen.ts";
import { useVirtual } from "../lib/virtual.ts";
import type { Row, Running } from "../lib/types.ts";
import { Skeleton, Status, Trouble } from "../parts/bits.tsx";
import { Icon } from "../parts/icons.tsx";
import { Facets } from "./facets.tsx";
import { chosen, Finish, Money } from "./columns.tsx";
import { NoHits, Teach } from "./empty.tsx";
import { Toolbar } from "./toolbar.tsx";

const Peek = lazy(() => import("./call.tsx").then((module) => module.Peek));
const Groups = lazy(() => import("./groups.tsx").then((module) => module.Groups));
const Selected = lazy(() => import("./selected.tsx").then((module) => module.Selected));
const Columns = lazy(() => import("./choose.tsx").then((module) => module.Columns));

export function Calls() {
  const { query } = place.value;
  const q = query.get("q") ?? "";
  const by = query.get("by");
  const peek = query.get("peek");
  const [live, setLive] = useState(true);
  const [choosing, setChoosing] = useState(false);
  // Where there is no room beside the list the facets lie over it, and only while they are asked for.
  const [sheet, setSheet] = useState(false);
  const isPhone = isNarrow.value;
  const facets = isTight.value ? sheet : facetsOpen.value;
  const setFacets = (open: boolean) => (isTight.value ? setSheet(open) : void (facetsOpen.value = open));
  const still = useRef(false);
  const list = useMemo(() => new CallList(q, true, () => still.current), [q]);
  useEffect(() => () => list.close(), [list]);
  useEffect(() => list.setLive(live), [list, live]);
  useEffect(() => {
    document.title = q ? `${line(q, 60)} · calltap` : "Calls · calltap";
  }, [q]);
  const apply = (next: string) => (setSheet(false), go(withQuery({ q: next, peek: null })));
  const isEmpty = list.ready.value && !list.rows.value.length && !running.value.items.length;
  const isFirst = list.ready.value && !q && list.done.value && list.rows.value.length <= 10 && !list.rows.value.some((row) => row.outcome === "completed");
  // Whoever saw the instructions is told what comes after the first call.
  const [taught, setTaught] = useState(false);
  useEffect(() => {
    if (isFirst) setTaught(true);
  }, [isFirst]);
  useKeys({
    "/": () => document.getElementById("q")?.focus(),
    f: () => setFacets(!facets),
    l: () => setLive(!live),
  });
  return (
    <main class="calls-screen">
      <h1 class="unseen">Calls</h1>
      <div inert={isPhone && !!peek}><Toolbar q={q} by={by} error={list.error.value} live={live} setLive={setLive} facets={facets} setFacets={setFacets} apply={apply} choose={() => setChoosing(true)} /></div>
      <div class="panes">
        {facets && !isFirst && !peek && <Facets q={q} apply={apply} />}
        <div class="middle" inert={isPhone && (!!peek || (facets && !isFirst))}>
          {taught && !isFirst && !q && (
            <p class="note first"><span>The first call is here. Next, give its prompt a name with the header <code>x-calltap-prompt</code>, and its conversation one with <code>x-calltap-session</code>.</span><button type="button" class="bare" aria-label="Close" onClick={() => setTaught(false)}><Icon name="close" /></button></p>
          )}
          {by ? <Groups q={q} by={by} /> : isFirst ? <Teach rows={list.rows.value} running={running.value.count} /> : isEmpty && !list.error.value ? <NoHits q={q} apply={apply} /> : (
            <List list={list} q={q} peek={peek} still={still} />
          )}
          {selected.value.size > 0 && !by && !isPhone && <Selected />}
        </div>
        {peek && !by && <Side id={peek} />}
      </div>
      {choosing && <Columns close={() => setChoosing(false)} />}
    </main>
  );
}

/** The panel at the right; its edge can be dragged, or moved by the arrow keys. */
function Side({ id }: { id: string }) {
  const drag = (event: PointerEvent) => {
    const edge = event.currentTarget as HTMLElement;
    edge.setPointerCapture(event.pointerId);
    const move = (moved: PointerEvent) => (peekWidth.value = Math.round(Math.min(1200, Math.max(320, innerWidth - moved.clientX))));
    edge.addEventListener("pointermove", move);
    edge.addEventListener("pointerup", () => edge.removeEventListener("pointermove", move), { once: true });
  };
  const nudge = (event: KeyboardEvent) => {
    const step = event.key === "ArrowLeft" ? 40 : event.key === "ArrowRight" ? -40 : 0;
    if (step) peekWidth.value = Math.min(1200, Math.max(320, peekWidth.value + step));
  };
  return (
    <aside class="peek" aria-label="Call" style={{ "--width": `${peekWidth.value}px` }}>
      <div class="edge" role="separator" aria-orientation="vertical" aria-label="Width of the panel" aria-valuenow={peekWidth.value} aria-valuemin={320} aria-valuemax={1200} tabIndex={0} onPointerDown={drag} onKeyDown={nudge} />
      <Peek id={id} close={() => go(withQuery({ peek: null }), true)} />
    </aside>
  );
}

function List({ list, q, peek, still }: { list: CallList; q: string; peek: string | null; still: { current: boolean } }) {
  const box = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState<string | null>(peek);
  const rows = list.rows.value;
  const going = q ? [] : running.value.items;
  const height = isNarrow.value ? 58 : 30;
  const view = useVirtual(box, going.length + rows.length, height);
  const shown = chosen(peek !== null && !isNarrow.value);
  const picked = selected.value;
  const template = ["18px", ...shown.map((column) => column.width)].join(" ");
  still.current = view.scrolled > height || peek !== null || picked.size > 0;
  useEffect(() => {
    if (rows.length && !list.busy.value && !list.done.value && view.last > going.length + rows.length - 60) void list.more();
  }, [view.last, rows.length, list.busy.value]);
  // Rows that are let go at the newer end must not move the ones in sight.
  const cut = useRef(0);
  useEffect(() => {
    if (box.current && list.cut.value > cut.current) box.current.scrollTop -= (list.cut.value - cut.current) * height;
    cut.current = list.cut.value;
  }, [list.cut.value]);

  const at = rows.findIndex((row) => row.id === cursor);
  const move = (step: number) => {
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
    if (!next) return;
    setCursor(next.id);
    view.scrollTo(rows.indexOf(next) + going.length);
    if (peek) go(withQuery({ peek: next.id }), true);
  };
  const open = (row: Row) => {
    setCursor(row.id);
    go(withQuery({ peek: row.id === peek ? null : row.id }), peek !== null);
  };
  const pick = (row: Row, isRange: boolean) => {
    const from = isRange && at >= 0 ? at : rows.indexOf(row);
    const to = rows.indexOf(row);
    choose(rows.slice(Math.min(from, to), Math.max(from, to) + 1).map((one) => one.id), !picked.has(row.id));
    setCursor(row.id);
  };
  const current = () => rows[at];
  useKeys({
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    Enter: () => { const row = current(); return row ? open(row) : false; },
    o: () => { const row = current(); return row ? go(`/calls/${row.id}`) : false; },
    x: () => { const row = current(); return row ? pick(row, false) : false; },
    Escape: () => (picked.size ? chooseNone() : peek ? go(withQuery({ peek: null }), true) : cursor ? setCursor(null) : q ? go(withQuery({ q: null })) : false),
    y: () => void copy(`${location.origin}${current() ? `/calls/${current()?.id}` : link("/", { q })}`, "Link"),
    c: () => {
      const row = current();
      if (!row) return false;
      void import("./copies.ts").then(({ copyCurl }) => copyCurl(row.id));
    },
  });
  const scale = Math.max(1000, ...rows.slice(Math.max(0, view.first - going.length), view.last).map((row) => row.timing.latency_ms));
  const toTop = () => {
    if (box.current) box.current.scrollTop = 0;
    still.current = false;
    if (peek) go(withQuery({ peek: null }), true);
    list.flush();
  };
  return (
    <>
      <Announcer arrived={list.arrived.value} />
      {(list.gap.value || list.pending.value + list.cut.value > 0) && (
        <button type="button" class="pill" onClick={toTop}><Icon name="up" /> {list.cut.value ? "Back to the newest" : list.gap.value ? "Newer calls" : plural(list.pending.value, "new call")}</button>
      )}
      {list.error.value && list.error.value.status !== 400 && <Trouble error={list.error.value} what="a list of calls" again={() => void list.start()} />}
      <div ref={box} class={`grid${peek ? " beside" : ""}`} role="grid" aria-label="Calls, newest first" aria-rowcount={list.done.value ? rows.length + going.length + 1 : -1} aria-colcount={shown.length + 1} aria-multiselectable="true" aria-activedescendant={at >= view.first - going.length && at < view.last - going.length && at >= 0 ? `call-${cursor}` : undefined} tabIndex={0} style={{ "--columns": template, "--row": `${height}px` }}>
        <div class="row head" role="row" aria-rowindex={1}>
          <span role="columnheader"><input type="checkbox" aria-label="Choose all that are loaded" checked={picked.size > 0 && rows.every((row) => picked.has(row.id))} onChange={(event) => choose(rows.map((row) => row.id), event.currentTarget.checked)} /></span>
          {shown.map((column) => <span key={column.id} role="columnheader" class={column.right ? "right" : ""}>{column.name}</span>)}
        </div>
        {!list.ready.value && <Skeleton lines={14} />}
        <div class="space" role="rowgroup" style={{ height: `${view.height}px` }}>
          <div class="window" role="presentation" style={{ transform: `translateY(${view.top}px)` }}>
            {going.slice(view.first, view.last).map((call, index) => <RunningRow key={call.id} call={call} index={view.first + index} columns={shown.map((column) => column.id)} />)}
            {rows.slice(Math.max(0, view.first - going.length), Math.max(0, view.last - going.length)).map((row, index) => {
              const position = Math.max(view.first, going.length) + index;
              return (
                <div key={row.id} id={`call-${row.id}`} class={`row${row.id === cursor ? " cursor" : ""}${row.id === peek ? " open" : ""}${picked.has(row.id) ? " picked" : ""}${row.outcome === "completed" ? "" : " failed"}`} role="row" aria-rowindex={position + 2} aria-selected={row.id === peek || picked.has(row.id)} onClick={() => open(row)}>
                  {isNarrow.value ? <Narrow row={row} /> : <>
                    <span role="gridcell" class="pick" onClick={(event) => event.stopPropagation()}><input type="checkbox" aria-label={`Choose ${row.id.slice(0, 13)}`} checked={picked.has(row.id)} onClick={(event) => pick(row, event.shiftKey)} /></span>
                    {shown.map((column) => <span key={column.id} role="gridcell" class={`${column.id}${column.right ? " right" : ""}`}>{column.cell(row, scale)}</span>)}
                  </>}
                </div>
              );
            })}
          </div>
        </div>
        {list.done.value && rows.length > 0 && <p class="end quiet">{plural(rows.length, "call")}. There is nothing older{q ? " that matches" : ""}.</p>}
      </div>
    </>
  );
}

/** A row of a phone: two lines. */
function Narrow({ row }: { row: Row }) {
  return (
    <span role="gridcell" class="narrow">
      <span><Status outcome={row.outcome} status={row.status} /> <time class="quiet">{when(row.started_at)}</time> <b>{line(row.model.served ?? row.model.requested ?? row.endpoint, 28)}</b><span class="grow" /><Money row={row} /> <span class="quiet">{ms(row.timing.latency_ms)}</span></span>
      <span class="excerpt">{row.finish_reasons[0] === "length" && <Finish reason="length" />}{row.client.retry ? <span class="badge warn">retry {row.client.retry}</span> : null}<bdi>{line(row.error?.message ?? row.tags.user_query ?? row.path, 120)}</bdi></span>
    </span>
  );
}

function RunningRow({ call, index, columns }: { call: Running; index: number; columns: string[] }) {
  const [now, tick] = useState(0);
  const born = useRef(performance.now() - call.elapsed_ms);
  useEffect(() => {
    const timer = setInterval(() => tick(performance.now()), 250);
    return () => clearInterval(timer);
  }, []);
  const elapsed = Math.max(call.elapsed_ms, now - born.current);
  const cells: Record<string, preact.ComponentChildren> = {
    time: clock(call.started_at),
    status: <Status outcome="running" />,
    model: <bdi>{line(call.model.requested ?? call.endpoint, 60)}</bdi>,
    prompt: <bdi>{line(call.tags.prompt, 60)}</bdi>,
    session: <bdi>{line(call.tags.session_name ?? call.tags.session, 60)}</bdi>,
    customer: <bdi>{line(call.tags.customer ?? call.tags.user, 60)}</bdi>,
    text: <bdi class="quiet">{line(call.tags.user_query, 160) || "running…"}</bdi>,
    latency: <span class="ms">{elapsed < 60_000 ? `${(elapsed / 1000).toFixed(1)} s` : age(elapsed / 1000)}</span>,
  };
  return (
    <div class="row running" role="row" aria-rowindex={index + 2}>
      {isNarrow.value ? <span role="gridcell" class="narrow"><span>{cells["status"]} <b>{cells["model"]}</b><span class="grow" />{cells["latency"]}</span><span class="excerpt">{cells["text"]}</span></span>
        : <><span role="gridcell" />{columns.map((id) => <span key={id} role="gridcell" class={`${id}${id === "latency" ? " right" : ""}`}>{cells[id]}</span>)}</>}
    </div>
  );
}

/** Tells screen readers of new calls, at most every five seconds. */
function Announcer({ arrived }: { arrived: number }) {
  const [text, set] = useState("");
  const state = useRef({ said: arrived, at: 0, timer: 0 });
  useEffect(() => {
    const held = state.current;
    if (arrived === held.said || held.timer) return;
    held.timer = window.setTimeout(() => {
      held.timer = 0;
      set(`${count(arrived - held.said)} new`);
      held.said = arrived;
    }, 5000);
  }, [arrived]);
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return <p class="unseen" aria-live="polite">{text && `${text} calls`}</p>;
}
