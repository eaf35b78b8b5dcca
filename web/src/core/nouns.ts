// The gateway's nouns as its interface writes them (openapi.yaml).

export interface Rules {
  publish?: string[];
  deny_publish?: string[];
  subscribe?: string[];
  deny_subscribe?: string[];
}

export interface Message {
  seq?: number;
  id?: string;
  topic: string;
  ct?: string;
  time?: string;
  attempt?: number;
  priority: number;
  expires_in?: number;
  from?: string;
  properties?: unknown;
  data?: unknown;
  text?: string;
  data_base64?: string;
}

export type Outcome = "stored" | "waiting" | "sent" | "delivered" | "expired" | "dead" | "cancelled" | "lost";

export interface State {
  subscription: string;
  state: Outcome;
  reason?: string;
  attempt: number;
  at?: string;
}

export interface Trace {
  message?: Message;
  states: State[];
  partial: boolean;
}

export interface Published {
  id: string;
  seq: number;
  epoch: string;
  subscriptions: number;
}

export interface Subscription {
  name: string;
  filters?: string[];
  depth: number;
  in_flight: number;
  oldest_age?: number;
  connected: boolean;
  since?: string;
}

export interface DeviceRow {
  id: string;
  label?: string;
  groups?: string[];
  profile?: string;
  online?: boolean;
  since?: string;
  reason?: string;
  last_seen?: string;
  owed?: number;
  oldest_age?: number;
  dropped?: number;
}

export interface Device {
  id: string;
  label?: string;
  groups?: string[];
  rules?: Rules;
  profile?: string;
  created?: string;
  inbox?: Subscription;
}

export interface Session {
  principal: string;
  kind: string;
  name?: string;
  admin: boolean;
  expires_in?: number;
}

export interface DeadLetter {
  entry: number;
  subscription: string;
  reason: string;
  attempts: number;
  at?: string;
  message?: Message;
}

export interface Backlog {
  name: string;
  kind: string;
  owed: number;
  oldest_age: number;
}

export interface Bridge {
  name: string;
  kind: string;
  state: string;
  owed: number;
  oldest_age: number;
  error?: string;
}

/** One second of the live feed, GET /v1/live. */
export interface Tick {
  time: string;
  clock_trusted: boolean;
  uptime: number;
  rates: { in: number; out: number; delivered: number };
  totals: Record<string, number>;
  ack: { p50: number; p99: number };
  owed: number;
  oldest_age: number;
  devices: { total: number; online: number };
  dead_letters: number;
  connections: number;
  backlog: Backlog[] | null;
  storage: {
    state: string;
    log_bytes: number;
    log_limit: number;
    disk_free: number;
    device_bytes: number;
    payload_bytes: number;
    flash_years: number | null;
  };
  cpu: { percent: number; cores: number };
  memory: { rss: number; budget: number };
  tune: { why: { limit: string; value: string; why: string }[] | null };
  bridges: Bridge[] | null;
  anonymous: boolean;
  warnings: string[] | null;
}

/** The hour before the page was opened, GET /v1/live/history. */
export interface Hour {
  step: number;
  until: string;
  series: Record<string, (number | null)[]>;
}

export const final = (s: Outcome) => s !== "stored" && s !== "waiting" && s !== "sent";

export interface Certificate {
  source: string;
  fingerprint: string;
  names: string[];
  not_before: string;
  not_after: string;
  pem: string;
}
