// Asking the gateway for what a page shows.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get } from "../core/api";

export interface Loaded<T> {
  data?: T;
  error?: unknown;
  again: () => void;
}

/** useGet fetches path, again when it changes, and every seconds while the page is in sight. "" fetches nothing. */
export function useGet<T>(path: string, every = 0): Loaded<T> {
  const [state, setState] = useState<{ path: string; data?: T; error?: unknown }>({ path });
  const round = useRef(0);
  const ask = useCallback(async () => {
    if (!path) return;
    const mine = ++round.current;
    try {
      const data = await get<T>(path);
      if (mine === round.current) setState({ path, data });
    } catch (error) {
      // An answer that was there stays: it is better than nothing.
      if (mine === round.current) setState((s) => ({ path, data: s.path === path ? s.data : undefined, error }));
    }
  }, [path]);
  useEffect(() => {
    void ask();
    const timer = every > 0 ? setInterval(() => document.hidden || void ask(), every * 1000) : undefined;
    return () => {
      clearInterval(timer);
      round.current++;
    };
  }, [ask, every]);
  const mine = state.path === path;
  return { data: mine ? state.data : undefined, error: mine ? state.error : undefined, again: () => void ask() };
}
