// Who sits in front of the page, and whether the gateway is set up at all.
import { signal } from "@preact/signals";
import { get, Problem, remove, whenSignedOut } from "./api";
import { unwatch, watch } from "./live";
import type { Session } from "./nouns";

export type Access =
  | { at: "asking" }
  | { at: "unreachable" }
  | { at: "setup" } // nobody has set the gateway up
  | { at: "door"; ended?: boolean } // sign in; ended: a session was there before
  | { at: "in"; session: Session };

export const access = signal<Access>({ at: "asking" });
export const gateway = signal("edgepost");

export function enter(session: Session): void {
  access.value = { at: "in", session };
  watch();
}

export async function look(): Promise<void> {
  try {
    const s = await get<{ needed: boolean; gateway: string }>("/v1/setup");
    gateway.value = s.gateway;
    if (s.needed) {
      access.value = { at: "setup" };
      return;
    }
    enter(await get<Session>("/v1/session"));
  } catch (e) {
    const known = e instanceof Problem && (e.status === 401 || e.status === 403);
    access.value = known ? { at: "door" } : { at: "unreachable" };
    if (!known) setTimeout(() => void look(), 2000);
  }
}

const BEAT = 5 * 60_000; // far below the 30 minutes after which an unused session ends

/** The feed is no use of the session, a person's hand on the page is. */
export function keepSession(): void {
  let last = Date.now();
  const used = () => {
    if (access.value.at !== "in" || Date.now() - last < BEAT) return;
    last = Date.now();
    verify();
  };
  for (const name of ["pointerdown", "keydown"]) addEventListener(name, used, { passive: true });
}

export async function leave(): Promise<void> {
  unwatch();
  await remove("/v1/session").catch(() => undefined);
  access.value = { at: "door" };
}

function ended(): void {
  if (access.value.at !== "in") return;
  unwatch();
  access.value = { at: "door", ended: true };
}

/** A 401 may be about something else, such as a wrong present password. */
function verify(): void {
  get("/v1/session").catch((e) => e instanceof Problem && e.status === 401 && ended());
}

whenSignedOut(verify);

/** Passwords are taken over HTTPS, and over plain HTTP only on the gateway itself (the gateway checks, this explains). */
export function privateHere(l: Location = location): boolean {
  return l.protocol === "https:" || ["localhost", "127.0.0.1", "[::1]"].includes(l.hostname);
}
