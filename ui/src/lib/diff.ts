/** Lines that two texts share, and those that they do not. */

export interface DiffLine { kind: "same" | "old" | "new"; text: string }

/** Longest texts compared, in lines; longer ones are compared in their first lines. */
const LINES_MAX = 1500;

export function diff(before: string, after: string): DiffLine[] {
  const a = before.split("\n").slice(0, LINES_MAX);
  const b = after.split("\n").slice(0, LINES_MAX);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const left = a.slice(start, a.length - end);
  const right = b.slice(start, b.length - end);
  const width = right.length + 1;
  const table = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      table[i * width + j] = left[i] === right[j] ? (table[(i + 1) * width + j + 1] ?? 0) + 1 : Math.max(table[(i + 1) * width + j] ?? 0, table[i * width + j + 1] ?? 0);
    }
  }
  const middle: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      middle.push({ kind: "same", text: left[i++] ?? "" });
      j++;
    } else if (i < left.length && (j >= right.length || (table[(i + 1) * width + j] ?? 0) >= (table[i * width + j + 1] ?? 0))) middle.push({ kind: "old", text: left[i++] ?? "" });
    else middle.push({ kind: "new", text: right[j++] ?? "" });
  }
  const same = (text: string): DiffLine => ({ kind: "same", text });
  return [...a.slice(0, start).map(same), ...middle, ...a.slice(a.length - end).map(same)];
}
