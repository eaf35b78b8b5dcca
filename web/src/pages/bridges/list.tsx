// All bridges at one glance, and how to make the first.
import { bytes, count, span } from "../../core/format";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Card, Empty, Head } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { BridgeBadge } from "../../ui/state";
import { Table } from "../../ui/table";
import { ails } from "./ails";
import { cause } from "./cause";
import { Examples } from "./examples";
import type { BridgeView } from "./noun";
import { useBridges } from "./watch";

export function BridgeList() {
  const { data, error, again } = useBridges();
  const rows = data?.bridges ?? [];
  return (
    <>
      <Head title={t("nav.bridges")} about={t("bridges.about")} />
      <Trouble error={error} again={again} />
      {data && rows.length === 0 && (
        <Card>
          <Empty icon="bridges" title={t("bridges.none")}>
            <p class="soft">{t("bridges.none.how")}</p>
          </Empty>
          <Examples />
        </Card>
      )}
      {rows.length > 0 && (
        <>
          <Card title={t("bridges.all")}>
            <Bridges rows={rows} />
          </Card>
          <Card>
            <details>
              <summary>{t("bridges.more")}</summary>
              <Examples />
            </details>
          </Card>
        </>
      )}
    </>
  );
}

function Bridges({ rows }: { rows: BridgeView[] }) {
  const l = language.value;
  return (
    <Table
      caption={t("bridges.all")}
      rows={rows}
      id={(b) => b.name}
      columns={[
        {
          name: t("name"),
          kind: "lead",
          cell: (b) => (
            <a class="break" href={format("bridges", b.name)}>
              {b.name}
            </a>
          ),
        },
        { name: t("overview.kind"), cell: (b) => b.kind ?? "–" },
        {
          name: t("state"),
          cell: (b) => (
            <span class="stack tight">
              <span>
                <BridgeBadge state={b.state} />
              </span>
              <span class="soft small break">{why(b)}</span>
            </span>
          ),
        },
        {
          name: t("bridge.owed"),
          kind: "right",
          cell: (b) => (
            <span class="number">
              {count(b.owed, l)}
              {b.owed > 0 && <span class="soft small"> · {bytes(b.bytes, l)}</span>}
            </span>
          ),
        },
        {
          name: t("bridge.oldest"),
          kind: "right",
          cell: (b) => <span class="number">{b.owed > 0 ? span(b.oldest_age, l) : "–"}</span>,
        },
        { name: t("bridge.eta"), kind: "right", cell: (b) => <span class="number">{eta(b)}</span> },
      ]}
    />
  );
}

/** why what waits does so, in words; "" when that needs none. */
function why(b: BridgeView): string {
  const text = b.holds || (ails(b) && b.error) || "";
  return cause(text) ?? text;
}

/** eta is when nothing waits any more, in words. */
export function eta(b: BridgeView): string {
  if (b.owed === 0) return "–";
  return b.eta === null ? t("bridge.eta.unknown") : span(b.eta, language.value);
}
