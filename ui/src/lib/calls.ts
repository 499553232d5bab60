/** The list of calls: pages by `seq`, the live feed in front, bounded in memory. */

import { batch, signal } from "@preact/signals";
import { ApiError, get } from "./api.ts";
import { follow } from "./live.ts";
import { below, changes } from "./query.ts";
import type { Page, Row } from "./types.ts";

const PAGE = 100;
/** Rows kept; beyond it the newest are let go while one scrolls into the past. */
const ROWS_MAX = 20_000;
/** Rows that the live feed may add before the oldest loaded ones are let go. */
const LIVE_MAX = 2_000;
/** How often a list is asked anew whose calls come and go. */
const AGAIN_MS = 5_000;
/** Rows that wait while the list stands still; of more only the number is known. */
const PENDING_MAX = 1_000;

export class CallList {
  readonly rows = signal<Row[]>([]);
  /** Calls that ended while the list stood still. */
  readonly pending = signal(0);
  readonly error = signal<ApiError | null>(null);
  readonly busy = signal(true);
  /** Calls were missed, nobody knows how many. */
  readonly gap = signal(false);
  /** No older calls are left. */
  readonly done = signal(false);
  /** Rows let go at the newer end. */
  readonly cut = signal(0);
  /** Whether the first page has come. */
  readonly ready = signal(false);
  /** Counts rows that came in live, for screen readers. */
  readonly arrived = signal(0);

  private held: Row[] = [];
  private newest: number | null = null;
  private controller = new AbortController();
  private stop: (() => void) | null = null;
  private known = new Set<string>();

  /** `isStill` says whether new rows have to wait. */
  constructor(readonly q: string, private live: boolean, private readonly isStill: () => boolean) {
    void this.start();
  }

  close(): void {
    this.controller.abort();
    this.stop?.();
  }

  setLive(live: boolean): void {
    this.live = live;
    if (!live) {
      this.stop?.();
      this.stop = null;
    } else if (this.ready.value) this.listen();
  }

  /** Loads the newest page again, from nothing. */
  async start(): Promise<void> {
    this.stop?.();
    this.stop = null;
    this.controller.abort();
    this.controller = new AbortController();
    const { signal } = this.controller;
    const page = await this.fetch(this.q);
    if (signal.aborted) return;
    if (!page) {
      if (changes(this.q) && this.live && this.error.value?.status !== 400) this.listen();
      return;
    }
    batch(() => {
      this.known = new Set(page.items.map((row) => row.id));
      this.held = [];
      this.pending.value = 0;
      this.gap.value = false;
      this.cut.value = 0;
      this.rows.value = page.items;
      this.newest = page.items[0]?.seq ?? 0;
      this.done.value = page.next === null;
      this.ready.value = true;
    });
    if (this.live) this.listen();
  }

  /** Loads the next page into the past. */
  async more(): Promise<void> {
    const last = this.rows.value.at(-1)?.seq;
    if (this.busy.value || this.done.value || last === null || last === undefined) return;
    const page = await this.fetch(below(this.q, last));
    if (!page) return;
    batch(() => {
      for (const row of page.items) this.known.add(row.id);
      let rows = [...this.rows.value, ...page.items];
      const surplus = rows.length - ROWS_MAX;
      if (surplus > PAGE * 10) {
        for (const row of rows.slice(0, surplus)) this.known.delete(row.id);
        rows = rows.slice(surplus);
        this.cut.value += surplus;
      }
      this.rows.value = rows;
      this.done.value = page.next === null;
    });
  }

  /** Takes in what waited. */
  flush(): void {
    if (this.gap.value || this.cut.value || this.pending.value > this.held.length) {
      void this.start();
      return;
    }
    const rows = this.held;
    this.held = [];
    this.pending.value = 0;
    this.insert(rows);
  }

  private async fetch(q: string): Promise<Page<Row> | null> {
    const { signal } = this.controller;
    this.busy.value = true;
    try {
      const page = await get<Page<Row>>("/api/v1/calls", { q, limit: PAGE }, signal);
      batch(() => {
        this.error.value = null;
        this.busy.value = false;
      });
      return page;
    } catch (error) {
      if (signal.aborted) return null;
      batch(() => {
        this.error.value = error instanceof ApiError ? error : new ApiError(0, "", String(error));
        this.busy.value = false;
        this.ready.value = true;
      });
      return null;
    }
  }

  private listen(): void {
    this.stop?.();
    if (changes(this.q)) {
      const timer = window.setInterval(() => void (document.hidden || this.busy.peek() || this.isStill() || this.start()), AGAIN_MS);
      this.stop = () => clearInterval(timer);
      return;
    }
    this.stop = follow(this.q, () => this.newest, {
      onRows: (rows) => this.take(rows),
      onGap: () => void (this.isStill() ? (this.gap.value = true) : this.start()),
    });
  }

  private take(rows: Row[]): void {
    const fresh = rows.filter((row) => !this.known.has(row.id));
    if (!fresh.length) return;
    for (const row of fresh) {
      this.known.add(row.id);
      this.newest = Math.max(this.newest ?? 0, row.seq ?? 0);
    }
    batch(() => {
      this.arrived.value += fresh.length;
      if (this.isStill() || this.cut.value) {
        this.pending.value += fresh.length;
        this.held = [...fresh.reverse(), ...this.held].slice(0, PENDING_MAX);
      } else this.insert(fresh.reverse());
    });
  }

  /** Puts rows in front, newest first. */
  private insert(fresh: Row[]): void {
    let rows = [...fresh, ...this.rows.value];
    if (rows.length > LIVE_MAX) {
      for (const row of rows.slice(PAGE)) this.known.delete(row.id);
      rows = rows.slice(0, PAGE);
      this.done.value = false;
    }
    this.rows.value = rows;
  }
}
