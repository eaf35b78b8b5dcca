// The one feed of the page: EventSource on /v1/live while somebody looks. A hidden page asks nothing.
import { signal } from "@preact/signals";
import { get, Problem } from "./api";
import type { Hour, Tick } from "./nouns";
import { type Event, type Live, nothing, reduce } from "./store";

export const live = signal<Live>(nothing);

const now = () => Math.round(Date.now() / 1000);
const tell = (e: Event) => {
  live.value = reduce(live.value, e);
};

let source: EventSource | undefined;
let again: ReturnType<typeof setTimeout> | undefined;
let wanted = false;

export function watch(): void {
  wanted = true;
  if (!document.hidden) open();
}

export function unwatch(): void {
  wanted = false;
  close();
}

document.addEventListener("visibilitychange", () => {
  if (!wanted) return;
  if (document.hidden) close();
  else open();
});

function close(): void {
  clearTimeout(again);
  source?.close();
  source = undefined;
}

function open(): void {
  close();
  const feed = new EventSource("./v1/live");
  source = feed;
  feed.addEventListener("open", () => void fetchHour());
  feed.addEventListener("tick", (e) => tell({ kind: "tick", tick: JSON.parse(e.data) as Tick, now: now() }));
  feed.addEventListener("error", () => {
    if (source !== feed) return;
    close();
    void ask();
  });
}

/** ask finds out why the feed ended, which EventSource does not tell, and tries again. */
async function ask(): Promise<void> {
  let wait = 1500;
  try {
    await get("/v1/live/history");
    tell({ kind: "link", link: "connecting", now: now() });
  } catch (e) {
    const p = e instanceof Problem ? e : undefined;
    if (p?.status === 401) return; // the page asks to sign in
    if (p && (p.status === 404 || p.status === 403)) {
      tell({ kind: "link", link: "absent", now: now() });
      wait = 30_000;
    } else tell({ kind: "link", link: "lost", now: now() });
  }
  if (wanted && !document.hidden && !source) again = setTimeout(open, wait);
}

async function fetchHour(): Promise<void> {
  try {
    tell({ kind: "hour", hour: await get<Hour>("/v1/live/history"), now: now() });
  } catch {
    // the plots begin now
  }
}
