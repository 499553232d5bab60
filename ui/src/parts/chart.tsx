/** Values over time. Colours come from the page, so that both themes fit; every series has its name beside the chart. */

import "../lib/locale.ts";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { theme } from "../lib/prefs.ts";
import { clock, day, line } from "../lib/format.ts";

export interface ChartSeries { label: string; values: (number | null)[]; color?: string; dash?: number[] }
interface Properties {
  title: string; times: number[]; /** Length of a bucket, in seconds. */ step: number; series: ChartSeries[]; format: (value: number | null) => string; stacked?: boolean; height?: number;
  /** A click tells the bucket that was meant. */
  onPick?: (index: number) => void;
}

/** Told apart by people who see colours differently, and readable on both grounds. */
const COLORS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8", "--c9"];

function resolve(name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** Whether a value stands alone, so that no line would show it. */
const isLonely = (values: (number | null)[]): boolean => values.some((value, at) => value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null);

const sums = (series: ChartSeries[]): (number | null)[][] => {
  const below: number[] = [];
  return series.map(({ values }) => values.map((value, at) => (below[at] = (below[at] ?? 0) + (value ?? 0))));
};

export function Chart({ title, times, step, series, format, stacked = false, height = 150, onPick }: Properties) {
  const box = useRef<HTMLDivElement>(null);
  const [at, point] = useState<number | null>(null);
  const pick = useRef(onPick);
  pick.current = onPick;
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const onChange = () => setScheme((n) => n + 1);
    media.addEventListener("change", onChange);
    return () => media.removeEventListener("change", onChange);
  }, []);
  const shade = theme.value;
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const quiet = resolve("--quiet");
    const grid = resolve("--line");
    const drawn = stacked ? sums(series) : series.map((one) => one.values);
    const axis = { stroke: quiet, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const bars = uPlot.paths.bars?.({ size: [0.85, 40], align: 1 });
    // The tallest of a stack is drawn first, the others over it.
    const order = series.map((_, index) => index);
    if (stacked) order.reverse();
    const plot = new uPlot({
      width: element.clientWidth, height,
      cursor: { y: false, points: { show: !stacked, size: 6 }, drag: { x: false, y: false } },
      legend: { show: false },
      scales: { x: { time: true, range: () => [times[0] ?? 0, (times.at(-1) ?? 1) + (stacked ? step : 0)] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
      axes: [{ ...axis, size: 24, values: (_, splits) => splits.map((value) => (splits.length > 1 && (splits[1] ?? 0) - (splits[0] ?? 0) >= 86_400 ? day(new Date(value * 1000).toISOString()).slice(5) : clock(new Date(value * 1000).toISOString()).slice(0, 5))) }, { ...axis, size: 62, values: (_, splits) => splits.map((value) => format(value)) }],
      series: [{}, ...order.map((index) => {
        const color = resolve(series[index]?.color ?? COLORS[index % COLORS.length] ?? "--c1");
        return stacked ? { stroke: color, fill: color, width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) } : { stroke: color, width: 1.6, points: { show: isLonely(series[index]?.values ?? []), size: 5, fill: color }, spanGaps: false, ...(series[index]?.dash ? { dash: series[index].dash } : {}) };
      })],
      hooks: { setCursor: [(chart) => point(chart.cursor.idx ?? null)] },
    }, [times, ...order.map((index) => drawn[index] ?? [])] as uPlot.AlignedData, element);
    const onClick = () => plot.cursor.idx != null && pick.current?.(plot.cursor.idx);
    plot.over.addEventListener("click", onClick);
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [times, step, series, stacked, height, shade, scheme]);
  const shownAt = at ?? null;
  const time = shownAt === null ? null : times[shownAt];
  return (
    <figure class={`chart${onPick ? " pickable" : ""}`}>
      <figcaption><h2>{title}</h2><span class="quiet">{time === null || time === undefined ? "" : `${day(new Date(time * 1000).toISOString())} ${clock(new Date(time * 1000).toISOString()).slice(0, 5)}`}</span></figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${series.slice(0, 9).map((one) => `${one.label}${one.dash ? " p95" : ""}, latest ${format(one.values.at(-1) ?? null)}`).join("; ")}`} />
      <ul class="legend">
        {series.map((one, index) => one.dash ? null : (
          <li key={index}><i style={{ background: `var(${one.color ?? COLORS[index % COLORS.length]})` }} aria-hidden="true" /><bdi>{line(one.label, 40)}</bdi>{shownAt !== null && <b>{series.filter((other) => other === one || (other.dash && other.color === one.color)).map((other) => format(other.values[shownAt] ?? null)).join(" / ")}</b>}</li>
        ))}
      </ul>
    </figure>
  );
}
