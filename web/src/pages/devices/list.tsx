// All devices: find one, see who is away and for whom much waits.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, query as queryOf } from "../../core/api";
import { count, moment, span } from "../../core/format";
import { live } from "../../core/live";
import type { DeviceRow } from "../../core/nouns";
import { reason } from "../../core/reason";
import { format, refine } from "../../core/router";
import { language, t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Button, Card, Choice, Empty, Head, Input, Select } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Online } from "../../ui/state";
import { type Column, Table } from "../../ui/table";
import { AddDevice } from "./add";
import { Joining } from "./joining";

const PAGE = 100;

interface Answer {
  devices: DeviceRow[];
  total: number;
  next?: string;
}

interface Found {
  devices: DeviceRow[];
  total?: number;
  next?: string;
  error?: unknown;
  more: () => void;
}

/** usePages fetches page after page. The pages that are shown are asked for again when the feed says that something changed. */
function usePages(filter: Record<string, string | undefined>): Found {
  const [state, setState] = useState<Omit<Found, "more">>({ devices: [] });
  const shown = useRef(PAGE);
  const key = JSON.stringify(filter);
  const tick = live.value.tick;
  const beat = tick ? `${tick.devices.online} ${tick.devices.total} ${tick.owed}` : "";
  const load = async (stop: AbortSignal, limit: number) => {
    try {
      const a = await get<Answer>(`/v1/devices${queryOf({ ...filter, limit })}`, { signal: stop });
      setState({ devices: a.devices, total: a.total, next: a.next });
    } catch (error) {
      if (!stop.aborted) setState((s) => ({ ...s, error }));
    }
  };
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(
      () => void load(stop.signal, Math.min(shown.current, 1000)),
      state.devices.length ? 250 : 0,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key, beat]);
  const more = async () => {
    try {
      const a = await get<Answer>(`/v1/devices${queryOf({ ...filter, limit: PAGE, after: state.next })}`);
      shown.current += PAGE;
      setState((s) => ({ devices: [...s.devices, ...a.devices], total: a.total, next: a.next }));
    } catch (error) {
      setState((s) => ({ ...s, error }));
    }
  };
  return { ...state, more: () => void more() };
}

export function Devices({ query }: { query: Record<string, string> }) {
  const { search = "", group = "", state = "" } = query;
  const found = usePages({ search, group, state });
  const filtered = search !== "" || group !== "" || state !== "";
  return (
    <>
      <Head
        title={t("nav.devices")}
        about={found.total === undefined ? undefined : t("devices.total", { n: count(found.total, language.value) })}
      >
        <Button icon="plus" look="primary" onClick={() => refine({ add: "1" })}>
          {t("devices.add")}
        </Button>
      </Head>
      <Joining />
      <Card>
        <Filters search={search} group={group} state={state} />
        <Trouble error={found.error} />
        {found.devices.length > 0 && (
          <Table caption={t("nav.devices")} rows={found.devices} id={(d) => d.id} columns={columns()} />
        )}
        {found.total === 0 && filtered && <p class="soft">{t("devices.nothing")}</p>}
        {found.total === 0 && !filtered && (
          <Empty icon="devices" title={t("overview.empty")}>
            <p class="soft">{t("devices.empty")}</p>
          </Empty>
        )}
        {found.next && (
          <div class="row">
            <Button onClick={found.more}>{t("more")}</Button>
            <span class="soft">
              {t("devices.shown", { a: found.devices.length, n: count(found.total ?? 0, language.value) })}
            </span>
          </div>
        )}
      </Card>
      {query.add && <AddDevice onClose={() => refine({ add: undefined })} />}
    </>
  );
}

function Filters({ search, group, state }: { search: string; group: string; state: string }) {
  const groups = useGet<{ groups: { name: string; label?: string }[] }>("/v1/groups");
  const names = groups.data?.groups ?? [];
  return (
    <div class="pair">
      <Input
        label={t("devices.search")}
        type="search"
        value={search}
        onValue={(v) => refine({ search: v || undefined })}
      />
      {names.length > 0 && (
        <Select
          label={t("devices.group")}
          value={group}
          onValue={(v) => refine({ group: v || undefined })}
          options={[["", t("devices.all")], ...names.map((g): [string, string] => [g.name, g.label || g.name])]}
        />
      )}
      <div class="field">
        <span class="label">{t("state")}</span>
        <div>
          <Choice
            label={t("state")}
            value={state}
            onValue={(v) => refine({ state: v || undefined })}
            options={[
              ["", t("devices.all")],
              ["online", t("device.online")],
              ["offline", t("device.offline")],
            ]}
          />
        </div>
      </div>
    </div>
  );
}

function columns(): Column<DeviceRow>[] {
  const l = language.value;
  const now = new Date();
  return [
    {
      name: t("devices.device"),
      kind: "lead",
      cell: (d) => (
        <span>
          <a href={format("devices", d.id)}>{d.id}</a>
          {d.label && <span class="soft"> {d.label}</span>}
        </span>
      ),
    },
    {
      name: t("state"),
      cell: (d) => (
        <span>
          <Online online={!!d.online} /> {!d.online && d.reason && <span class="soft small">{reason(d.reason)}</span>}
        </span>
      ),
    },
    {
      name: t("devices.seen"),
      cell: (d) => <span class="number soft">{d.online ? t("devices.now") : moment(d.last_seen, l, now)}</span>,
    },
    {
      name: t("overview.owed"),
      kind: "right",
      cell: (d) => (
        <span class="number">
          {count(d.owed ?? 0, l)}
          {!!d.owed && d.oldest_age !== undefined && <span class="soft small"> · {span(d.oldest_age, l)}</span>}
        </span>
      ),
    },
    {
      name: t("devices.dropped"),
      kind: "right",
      cell: (d) => <span class="number">{d.dropped ? count(d.dropped, l) : "–"}</span>,
    },
    {
      name: t("devices.groups"),
      cell: (d) => (
        <span class="row tags">
          {(d.groups ?? []).map((g) => (
            <span key={g} class="tag">
              {g}
            </span>
          ))}
          {d.profile && <span class="tag">{d.profile}</span>}
        </span>
      ),
    },
  ];
}
