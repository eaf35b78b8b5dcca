// Following topics as messages come: EventSource on /v1/stream.
import { useEffect, useRef } from "preact/hooks";
import { query } from "../core/api";
import type { Message } from "../core/nouns";

interface Handlers {
  onMessage: (m: Message) => void;
  onGap?: () => void;
  onLink?: (up: boolean) => void;
}

/** useStream follows filter while on; a hidden page follows nothing. */
export function useStream(filter: string, on: boolean, handlers: Handlers): void {
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    if (!on || !filter) return;
    let source: EventSource | undefined;
    let again: ReturnType<typeof setTimeout> | undefined;
    let last = "";
    const close = () => {
      clearTimeout(again);
      source?.close();
      source = undefined;
    };
    const open = () => {
      close();
      source = new EventSource(`./v1/stream${query({ topic: filter, after: last || undefined })}`);
      source.onopen = () => latest.current.onLink?.(true);
      source.onmessage = (e) => {
        if (e.lastEventId) last = e.lastEventId;
        latest.current.onMessage(JSON.parse(e.data) as Message);
      };
      source.addEventListener("gap", () => latest.current.onGap?.());
      source.onerror = () => {
        latest.current.onLink?.(false);
        close();
        again = setTimeout(open, 2000);
      };
    };
    const seen = () => (document.hidden ? close() : open());
    document.addEventListener("visibilitychange", seen);
    if (!document.hidden) open();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      close();
    };
  }, [filter, on]);
}
