// Where the person is, in the address behind the "#": #/devices/lamp1?tab=queue. Every view has one, so that it can be
// sent to somebody. parse and format are pure and each other's inverse.
import { signal } from "@preact/signals";

export interface Place {
  page: string; // "" is the first page
  arg: string; // the rest of the path, decoded: a device, a message id
  query: Record<string, string>;
}

export function parse(hash: string): Place {
  const [path = "", search = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  const cut = path.indexOf("/");
  const page = cut < 0 ? path : path.slice(0, cut);
  return {
    page: decode(page),
    arg: cut < 0 ? "" : decode(path.slice(cut + 1)),
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

export function format(page: string, arg = "", query: Record<string, string | undefined> = {}): string {
  const kept = Object.entries(query).filter((e): e is [string, string] => !!e[1]);
  const search = new URLSearchParams(kept).toString();
  return `#/${encodeURIComponent(page)}${arg && `/${encodeURIComponent(arg)}`}${search && `?${search}`}`;
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s; // somebody typed a lone %
  }
}

export const place = signal<Place>({ page: "", arg: "", query: {} });

export function followAddress(): void {
  const read = () => {
    place.value = parse(location.hash);
  };
  addEventListener("hashchange", read);
  read();
}

export function go(page: string, arg = "", query: Record<string, string | undefined> = {}): void {
  location.hash = format(page, arg, query);
}

/** Changes parts of the query without a step in the history: filters and tabs. */
export function refine(change: Record<string, string | undefined>): void {
  const p = place.value;
  history.replaceState(null, "", format(p.page, p.arg, { ...p.query, ...change }));
  place.value = parse(location.hash);
}
