/** The public API. Nothing else is ever asked. */

import { signal } from "@preact/signals";

/** An answer that is no success; `status` 0 when there was none. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

const KEY = "calltap.token";

/** True once the API asked for the admin token. */
export const locked = signal(false);
/** True while calltap cannot be reached. */
export const offline = signal(false);

let token = sessionStorage.getItem(KEY) ?? "";

export function unlock(value: string): void {
  token = value.trim();
  sessionStorage.setItem(KEY, token);
  locked.value = false;
}

export const hasToken = (): boolean => token !== "";

export function lock(): void {
  token = "";
  sessionStorage.removeItem(KEY);
  locked.value = true;
}

/** One request; throws `ApiError`, or the abort of `signal`. */
export async function request(path: string, options: { method?: string; body?: unknown; signal?: AbortSignal; accept?: string } = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: options.accept ?? "application/json" };
  if (token) headers["authorization"] = `Bearer ${token}`;
  if (options.body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? "GET",
      headers,
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal ?? null,
      redirect: "error",
      credentials: "omit",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    offline.value = true;
    throw new ApiError(0, "unreachable", "calltap does not answer. It may have been stopped.");
  }
  offline.value = false;
  if (response.ok) return response;
  if (response.status === 401) locked.value = true;
  throw await failure(response);
}

async function failure(response: Response): Promise<ApiError> {
  try {
    const { error } = (await response.json()) as { error?: { code?: string; message?: string } };
    if (error?.message) return new ApiError(response.status, error.code ?? "", error.message);
  } catch {
    // Not JSON: whatever stands between answered.
  }
  return new ApiError(response.status, "", `the answer was ${response.status}`);
}

export async function get<T>(path: string, query: Record<string, string | number | null | undefined> = {}, signal?: AbortSignal): Promise<T> {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  const response = await request(text ? `${path}?${text}` : path, signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return (await (await request(path, { method: "POST", body })).json()) as T;
}

/** Saves the bytes behind `path` as a file; the token travels in a header, so a plain link would not do. */
export async function download(path: string, name: string): Promise<void> {
  save(await (await request(path, { accept: "*/*" })).blob(), name);
}

/** Saves `content` as a file; the browser never opens it as a page. */
export function save(content: Blob | string, name: string): void {
  const url = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name.replace(/[^\w.-]/g, "_");
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
