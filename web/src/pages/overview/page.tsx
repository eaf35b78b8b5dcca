// The gateway at one glance, live.
import { bytes, count, latency, rate, span } from "../../core/format";
import { live } from "../../core/live";
import type { Tick } from "../../core/nouns";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Badge, Banner, Card, Empty, Facts, Head, Meter, Tile } from "../../ui/parts";
import { Plot } from "../../ui/plot";
import { BridgeBadge } from "../../ui/state";
import { Table } from "../../ui/table";

export function Overview() {
  const { tick, link } = live.value;
  if (!tick) {
    return (
      <>
        <Head title={t("nav.overview")} />
        {link === "absent" ? <Banner icon="info">{t("link.absent.long")}</Banner> : <p class="soft">{t("loading")}</p>}
      </>
    );
  }
  return (
    <>
      <Head title={t("nav.overview")} about={t("overview.up", { span: span(tick.uptime, language.value) })} />
      <Tiles tick={tick} />
      {tick.devices.total === 0 && (
        <Card>
          <Empty icon="devices" title={t("overview.empty")}>
            <p class="soft">{t("overview.empty.how")}</p>
            <a class="button primary" href={format("start")}>
              {t("overview.empty.go")}
            </a>
          </Empty>
        </Card>
      )}
      <Plots />
      <div class="two">
        <Backlog tick={tick} />
        <Storage tick={tick} />
        <Machine tick={tick} />
        <Links tick={tick} />
      </div>
    </>
  );
}

function Tiles({ tick }: { tick: Tick }) {
  const l = language.value;
  const p99 = tick.ack.p99 > 0;
  return (
    <div class="tiles">
      <Tile
        name={t("overview.in")}
        value={rate(tick.rates.in, l)}
        note={t("overview.stored", { n: count(tick.totals.published ?? 0, l) })}
      />
      <Tile
        name={t("overview.out")}
        value={rate(tick.rates.out, l)}
        note={t("overview.delivered", { n: count(tick.totals.delivered ?? 0, l) })}
      />
      <Tile
        name={t("overview.ack")}
        value={p99 ? latency(tick.ack.p50, l) : "–"}
        note={p99 ? `p99 ${latency(tick.ack.p99, l)}` : t("overview.ack.none")}
      />
      <Tile
        name={t("overview.owed")}
        value={count(tick.owed, l)}
        note={tick.owed > 0 ? t("overview.oldest", { span: span(tick.oldest_age, l) }) : t("overview.owed.none")}
      />
      <Tile
        href={format("devices")}
        name={t("overview.devices")}
        value={`${count(tick.devices.online, l)} / ${count(tick.devices.total, l)}`}
        note={t("overview.connections", { n: count(tick.connections, l) })}
      />
      <Tile
        href={format("dead")}
        name={t("nav.dead")}
        value={count(tick.dead_letters, l)}
        note={tick.dead_letters > 0 ? t("overview.dead.look") : t("overview.dead.none")}
      />
    </div>
  );
}

function Plots() {
  const { t: at, columns: c } = live.value.ring;
  const l = language.value;
  const show = (v: number) => rate(v, l);
  const time = (v: number) => (v === 0 ? "0" : latency(v, l));
  return (
    <div class="two">
      <Card>
        <Plot
          title={t("plot.rate")}
          t={at}
          show={show}
          lines={[
            { name: t("plot.in"), values: c.in },
            { name: t("plot.out"), values: c.out },
          ]}
        />
      </Card>
      <Card>
        <Plot
          title={t("plot.ack")}
          t={at}
          show={time}
          lines={[
            { name: "p50", values: c.p50 },
            { name: "p99", values: c.p99 },
          ]}
        />
      </Card>
      <Card>
        <Plot
          title={t("plot.waiting")}
          t={at}
          show={(v) => count(v, l)}
          lines={[
            { name: t("overview.owed"), values: c.owed },
            { name: t("plot.online"), values: c.online },
          ]}
        />
      </Card>
      <Card>
        <Plot
          title={t("plot.machine")}
          t={at}
          show={(v) => `${rate(v, l)} %`}
          lines={[
            { name: t("plot.cpu"), values: c.cpu },
            { name: t("plot.memory"), values: share(c.rss) },
          ]}
        />
      </Card>
    </div>
  );
}

/** Memory as percent of its budget, on the axis of the processor. */
function share(rss: (number | null)[]): (number | null)[] {
  const budget = live.value.tick?.memory.budget ?? 0;
  return rss.map((v) => (v === null || budget <= 0 ? null : (v / budget) * 100));
}

function Backlog({ tick }: { tick: Tick }) {
  const l = language.value;
  const rows = (tick.backlog ?? []).filter((b) => b.owed > 0);
  return (
    <Card title={t("overview.backlog")}>
      {rows.length === 0 ? (
        <p class="soft">{t("overview.backlog.none")}</p>
      ) : (
        <Table
          caption={t("overview.backlog")}
          rows={rows}
          id={(b) => b.name}
          columns={[
            { name: t("overview.subscription"), kind: "lead", cell: (b) => <Name name={b.name} /> },
            { name: t("overview.owed"), kind: "right", cell: (b) => <span class="number">{count(b.owed, l)}</span> },
            {
              name: t("overview.age"),
              kind: "right",
              cell: (b) => <span class="number">{span(b.oldest_age, l)}</span>,
            },
          ]}
        />
      )}
    </Card>
  );
}

function Name({ name }: { name: string }) {
  const device = name.startsWith("device/") ? name.slice(7) : "";
  return device ? (
    <a href={format("devices", device, { tab: "queue" })}>{device}</a>
  ) : (
    <span class="break">{name}</span>
  );
}

function Storage({ tick }: { tick: Tick }) {
  const l = language.value;
  const s = tick.storage;
  const part = s.log_limit > 0 ? s.log_bytes / s.log_limit : 0;
  const factor = s.payload_bytes > 0 ? rate(s.device_bytes / s.payload_bytes, l) : "–";
  return (
    <Card
      title={t("overview.storage")}
      tools={
        s.state === "ok" ? <Badge mood="good">{t("storage.ok")}</Badge> : <Badge mood="bad">{t("storage.bad")}</Badge>
      }
    >
      <Meter part={part} label={t("storage.log")} />
      <Facts
        rows={[
          [t("storage.log"), t("storage.of", { a: bytes(s.log_bytes, l), b: bytes(s.log_limit, l) })],
          [t("storage.free"), bytes(s.disk_free, l)],
          [t("storage.written"), bytes(s.device_bytes, l)],
          [t("storage.factor"), factor],
          [
            t("storage.life"),
            s.flash_years === null
              ? t("storage.life.unknown")
              : t("storage.years", { n: s.flash_years > 100 ? "> 100" : rate(s.flash_years, l) }),
          ],
        ]}
      />
    </Card>
  );
}

function Machine({ tick }: { tick: Tick }) {
  const l = language.value;
  const why = tick.tune.why ?? [];
  return (
    <Card title={t("overview.machine")}>
      <Meter part={tick.memory.budget > 0 ? tick.memory.rss / tick.memory.budget : 0} label={t("plot.memory")} />
      <Facts
        rows={[
          [t("plot.memory"), t("storage.of", { a: bytes(tick.memory.rss, l), b: bytes(tick.memory.budget, l) })],
          [t("plot.cpu"), t("overview.cores", { percent: rate(tick.cpu.percent, l), n: tick.cpu.cores })],
        ]}
      />
      {why.length > 0 && (
        <details>
          <summary>{t("overview.why")}</summary>
          <Table
            caption={t("overview.why")}
            rows={why}
            id={(w) => w.limit}
            columns={[
              { name: t("overview.limit"), kind: "lead", cell: (w) => w.limit },
              { name: t("overview.value"), cell: (w) => <span class="number">{w.value}</span> },
              { name: t("overview.because"), cell: (w) => <span class="soft">{w.why}</span> },
            ]}
          />
        </details>
      )}
    </Card>
  );
}

function Links({ tick }: { tick: Tick }) {
  const l = language.value;
  const rows = tick.bridges ?? [];
  if (rows.length === 0) return null;
  return (
    <Card title={t("overview.links")}>
      <Table
        caption={t("overview.links")}
        rows={rows}
        id={(b) => b.name}
        columns={[
          { name: t("name"), kind: "lead", cell: (b) => <a href={format("bridges", b.name)}>{b.name}</a> },
          { name: t("overview.kind"), cell: (b) => b.kind },
          { name: t("state"), cell: (b) => <BridgeBadge state={b.state} /> },
          { name: t("overview.owed"), kind: "right", cell: (b) => <span class="number">{count(b.owed, l)}</span> },
        ]}
      />
    </Card>
  );
}
