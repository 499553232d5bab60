/** Which rows of a long list are in sight. All rows of a list have one height. */

import { useEffect, useState, useRef } from "preact/hooks";
import type { RefObject } from "preact";

/** Browsers draw no box higher than this many pixels; a longer list is scaled. */
const HEIGHT_MAX = 15_000_000;
const OVERSCAN = 8;

export interface Virtual { first: number; last: number; top: number; height: number; scrollTo: (index: number) => void; scrolled: number }

export function useVirtual(box: RefObject<HTMLElement | null>, rows: number, rowHeight: number): Virtual {
  const [view, set] = useState({ top: 0, height: 800 });
  const frame = useRef(0);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => {
      frame.current = 0;
      set((old) => (old.top === element.scrollTop && old.height === element.clientHeight ? old : { top: element.scrollTop, height: element.clientHeight }));
    };
    const onScroll = () => {
      frame.current ||= requestAnimationFrame(measure);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    measure();
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
      cancelAnimationFrame(frame.current);
    };
  }, [box.current]);
  const full = rows * rowHeight;
  const height = Math.min(full, HEIGHT_MAX);
  const scale = height > view.height && full > height ? (full - view.height) / (height - view.height) : 1;
  const offset = view.top * scale;
  const first = Math.max(0, Math.min(rows, Math.floor(offset / rowHeight) - OVERSCAN));
  const last = Math.min(rows, Math.ceil((offset + view.height) / rowHeight) + OVERSCAN);
  return {
    first, last, height, scrolled: view.top,
    top: first * rowHeight - offset + view.top,
    scrollTo(index) {
      const element = box.current;
      if (!element) return;
      const at = index * rowHeight;
      if (at < offset) element.scrollTop = at / scale;
      else if (at + rowHeight > offset + element.clientHeight) element.scrollTop = (at + rowHeight - element.clientHeight) / scale;
    },
  };
}
