// The gateway's HTTP interface. Whatever goes wrong is a Problem with a code; ui/problem puts it in words.

export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    readonly detail: string,
    readonly incident = "",
  ) {
    super(detail);
  }
}

type Method = "GET" | "POST" | "PUT" | "DELETE";

export interface Options {
  body?: unknown; // sent as JSON, unless it is raw
  raw?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Told of each 401, so that the page asks the person to sign in again. */
let onSignedOut = () => {};
export function whenSignedOut(f: () => void): void {
  onSignedOut = f;
}

export async function send(method: Method, path: string, o: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { ...o.headers };
  if (o.body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(`.${path}`, {
      method,
      headers,
      body: o.body === undefined ? o.raw : JSON.stringify(o.body),
      signal: o.signal,
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new Problem("unreachable", 0, String(e));
  }
  if (!answer.ok) {
    const p = await problemOf(answer);
    if (p.status === 401 && !path.startsWith("/v1/session") && !path.startsWith("/v1/setup")) onSignedOut();
    throw p;
  }
  return answer;
}

export async function problemOf(answer: Response): Promise<Problem> {
  try {
    const p = await answer.json();
    return new Problem(String(p.code ?? "internal"), answer.status, String(p.detail ?? ""), String(p.incident ?? ""));
  } catch {
    return new Problem(answer.status === 404 ? "not-found" : "internal", answer.status, answer.statusText);
  }
}

async function json<T>(method: Method, path: string, o?: Options): Promise<T> {
  const answer = await send(method, path, o);
  return answer.status === 204 ? (undefined as T) : ((await answer.json()) as T);
}

export const get = <T>(path: string, o?: Options) => json<T>("GET", path, o);
export const post = <T>(path: string, body?: unknown) => json<T>("POST", path, { body });
export const put = <T>(path: string, body?: unknown) => json<T>("PUT", path, { body });
export const remove = <T>(path: string) => json<T>("DELETE", path);

/** A path from parts that may hold anything, and a query without its empty members. */
export function path(parts: TemplateStringsArray, ...values: (string | number)[]): string {
  return parts.reduce((sum, part, i) => sum + encodeURIComponent(values[i - 1]!) + part);
}

export function query(q: Record<string, string | number | undefined>): string {
  const kept = Object.entries(q).filter(([, v]) => v !== undefined && v !== "");
  return kept.length ? `?${new URLSearchParams(kept.map(([k, v]) => [k, String(v)]))}` : "";
}
