// A bridge as GET /v1/bridges shows it (openapi.yaml), and what can be asked of it.
import { path, post } from "../../core/api";

export type BridgeState = "connecting" | "connected" | "waiting" | "misconfigured" | "paused" | "draining" | "orphaned";

export interface BridgeView {
  name: string;
  kind?: string;
  state: BridgeState;
  since?: string;
  url?: string;
  error?: string;
  error_at?: string;
  retry_at?: string;
  holds?: string; // why it sends nothing although it is connected
  owed: number;
  bytes: number;
  in_flight: number;
  window?: number; // most that may be on their way now
  oldest_age: number;
  rate: number;
  eta: number | null;
  source?: "file" | "api";
  counters: Record<string, number>;
  config?: { up?: { filters?: string[]; to?: string }; down?: { from?: string[]; to?: string } };
}

export interface Answer {
  ok?: boolean;
  url?: string;
  error?: string;
  skipped?: number;
  gap?: boolean;
}

export const order = (name: string, what: string, body?: object) =>
  post<Answer | undefined>(path`/v1/bridges/${name}/${what}`, body);
