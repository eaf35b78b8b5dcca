// Composing a message: to whom, what, how urgent, how long, when; and who would get it.
import { useEffect, useState } from "preact/hooks";
import { post, query, send } from "../core/api";
import { seconds } from "../core/format";
import type { Published } from "../core/nouns";
import { t } from "../core/words";
import { Area, Banner, Button, Copy, Input, Select } from "./parts";
import { inWords, Trouble } from "./problem";

export interface Draft {
  topic: string;
  body: string;
  format: string; // content type
  priority: string;
  ttl: string;
  delay: string;
}

export const blank: Draft = { topic: "", body: "", format: "application/json", priority: "4", ttl: "", delay: "" };

interface Reach {
  subscriptions: number;
  devices: { id: string; online: boolean }[];
  devices_total: number;
  online: number;
  offline: number;
  others: string[];
}

/** useReach asks who would get a message on the topic now, once typing rests. */
function useReach(topic: string): { reach?: Reach; error?: unknown } {
  const [state, setState] = useState<{ reach?: Reach; error?: unknown }>({});
  useEffect(() => {
    setState({});
    if (!topic) return;
    let mine = true;
    const timer = setTimeout(() => {
      post<Reach>("/v1/reach", { topic })
        .then((reach) => mine && setState({ reach }))
        .catch((error: unknown) => mine && setState({ error }));
    }, 300);
    return () => {
      mine = false;
      clearTimeout(timer);
    };
  }, [topic]);
  return state;
}

function headers(d: Draft): Record<string, string> {
  const h: Record<string, string> = { "Content-Type": d.format };
  if (d.priority !== "4") h["Message-Priority"] = d.priority;
  if (d.ttl) h["Message-TTL"] = String(seconds(d.ttl) ?? d.ttl);
  if (d.delay) h["Message-Delay"] = String(seconds(d.delay) ?? d.delay);
  return h;
}

const target = (d: Draft) => `/v1/publish${query({ topic: d.topic })}`;

/** The same as a command, for a script. */
export function asCurl(d: Draft, origin: string): string {
  const quote = (s: string) => `'${s.replaceAll("'", `'\\''`)}'`;
  const lines = [`curl -H ${quote("Authorization: Bearer TOKEN")}`];
  for (const [k, v] of Object.entries(headers(d))) lines.push(`-H ${quote(`${k}: ${v}`)}`);
  lines.push(`--data-raw ${quote(d.body)}`, quote(origin + target(d)));
  return lines.join(" \\\n  ");
}

function mistakes(d: Draft): { body?: string; ttl?: string; delay?: string } {
  const wrong: ReturnType<typeof mistakes> = {};
  if (d.format === "application/json" && d.body.trim()) {
    try {
      JSON.parse(d.body);
    } catch (e) {
      wrong.body = t("send.json", { why: e instanceof Error ? e.message : "" });
    }
  }
  for (const key of ["ttl", "delay"] as const)
    if (d[key] && seconds(d[key]) === undefined) wrong[key] = t("send.duration");
  return wrong;
}

interface Props {
  draft: Draft;
  onDraft: (d: Draft) => void;
  onSent: (p: Published, d: Draft) => void;
  fixed?: boolean; // the topic is given
}

export function SendForm({ draft: d, onDraft, onSent, fixed }: Props) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const set = (key: keyof Draft) => (v: string) => onDraft({ ...d, [key]: v });
  const wrong = mistakes(d);
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      onSent((await (await send("POST", target(d), { raw: d.body, headers: headers(d) })).json()) as Published, d);
    } catch (e) {
      setError(e);
    }
    setBusy(false);
  };
  return (
    <form class="stack" onSubmit={submit}>
      {!fixed && (
        <Input
          label={t("send.topic")}
          hint={t("send.topic.hint")}
          value={d.topic}
          onValue={set("topic")}
          placeholder="device/lamp1/in/set"
          required
        />
      )}
      <ReachLine topic={d.topic} />
      <Area label={t("send.body")} value={d.body} onValue={set("body")} />
      {wrong.body && <p class="field wrong small">{wrong.body}</p>}
      <div class="pair">
        <Select
          label={t("send.format")}
          value={d.format}
          onValue={set("format")}
          options={[
            ["application/json", "JSON"],
            ["text/plain; charset=utf-8", t("payload.text")],
            ["application/xml", "XML"],
          ]}
        />
        <Select
          label={t("send.priority")}
          value={d.priority}
          onValue={set("priority")}
          options={[
            ["1", t("send.low")],
            ["4", t("send.normal")],
            ["8", t("send.urgent")],
          ]}
        />
        <Input
          label={t("send.ttl")}
          hint={t("send.ttl.hint")}
          wrong={wrong.ttl}
          value={d.ttl}
          onValue={set("ttl")}
          placeholder="7d"
        />
        <Input
          label={t("send.delay")}
          hint={t("send.delay.hint")}
          wrong={wrong.delay}
          value={d.delay}
          onValue={set("delay")}
          placeholder="0"
        />
      </div>
      <Trouble error={error} />
      <div class="row">
        <Button submit look="primary" icon="send" busy={busy} disabled={!d.topic || Object.keys(wrong).length > 0}>
          {t("send")}
        </Button>
        <Copy text={asCurl(d, location.origin)} word={t("send.curl")} label={t("send.curl")} />
      </div>
    </form>
  );
}

function ReachLine({ topic }: { topic: string }) {
  const { reach, error } = useReach(topic);
  if (!topic) return null;
  if (error) {
    const { what, detail } = inWords(error);
    return (
      <Banner icon="info">
        {what} <span class="small">{detail}</span>
      </Banner>
    );
  }
  if (!reach) return <p class="soft small">{t("send.reach.asking")}</p>;
  const names = reach.devices.slice(0, 5).map((x) => x.id);
  return (
    <div role="status">
      <Banner mood={reach.subscriptions > 0 ? "calm" : ""} icon={reach.subscriptions > 0 ? "arrow" : "info"}>
        {reach.subscriptions === 0 && t("send.reach.nobody")}
        {reach.devices_total > 0 && (
          <strong>
            {t(reach.offline ? "send.reach.some" : "send.reach.all", {
              n: reach.devices_total,
              offline: reach.offline,
            })}
          </strong>
        )}{" "}
        {names.length > 0 && (
          <span class="small">{names.join(", ") + (reach.devices_total > names.length ? " …" : "")}</span>
        )}
        {reach.others.length > 0 && (
          <div class="small">{t("send.reach.others", { names: reach.others.slice(0, 5).join(", ") })}</div>
        )}
      </Banner>
    </div>
  );
}
