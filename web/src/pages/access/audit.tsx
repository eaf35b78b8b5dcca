// Who did what, newest first. The interface counts from the oldest; the end is found by halving.
import { useEffect, useState } from "preact/hooks";
import { get, query } from "../../core/api";
import { moment } from "../../core/format";
import { last } from "../../core/last";
import { language, t } from "../../core/words";
import { Badge, Banner, Button, Card, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";

interface Entry {
  n: number;
  at?: string;
  actor?: string;
  from?: string;
  action: string;
  object?: string;
  result: string;
  note?: string;
}

const PAGE = 100;

async function page(after: number, limit: number): Promise<(Entry | null)[]> {
  return (await get<{ records: (Entry | null)[] | null }>(`/v1/audit${query({ after, limit })}`)).records ?? [];
}

export function Audit() {
  const [rows, setRows] = useState<Entry[]>();
  const [damaged, setDamaged] = useState(false);
  const [error, setError] = useState<unknown>();
  const [search, setSearch] = useState("");
  const load = async (before?: number) => {
    try {
      const end = before === undefined ? await last(async (n) => (await page(n, 1)).length > 0) : before - 1;
      const from = Math.max(0, end - PAGE);
      const got = end > 0 ? await page(from, end - from) : [];
      if (got.includes(null)) setDamaged(true);
      const fresh = got.filter((e): e is Entry => e !== null).reverse();
      setRows((old) => (before === undefined ? fresh : [...(old ?? []), ...fresh]));
    } catch (e) {
      setError(e);
    }
  };
  useEffect(() => void load(), []);
  const wanted = search.toLowerCase();
  const shown = (rows ?? []).filter((e) =>
    `${e.actor} ${e.action} ${e.object} ${e.from} ${e.result}`.toLowerCase().includes(wanted),
  );
  const oldest = rows?.[rows.length - 1]?.n;
  const l = language.value;
  return (
    <Card title={t("access.audit")}>
      <p class="soft">{t("audit.about")}</p>
      {damaged && <Banner mood="bad">{t("audit.damaged")}</Banner>}
      <Trouble error={error} again={() => void load()} />
      <Input label={t("audit.filter")} type="search" value={search} onValue={setSearch} />
      <Table
        caption={t("access.audit")}
        rows={shown}
        id={(e) => e.n}
        columns={[
          { name: t("audit.who"), kind: "lead", cell: (e) => <span class="break">{e.actor || "–"}</span> },
          { name: t("audit.action"), cell: (e) => <code>{e.action}</code> },
          { name: t("audit.object"), cell: (e) => <span class="break">{e.object || "–"}</span> },
          { name: t("join.via"), cell: (e) => <span class="number soft">{e.from || "–"}</span> },
          { name: t("audit.result"), cell: (e) => <Badge mood={e.result === "ok" ? "good" : "bad"}>{e.result}</Badge> },
          { name: t("time"), kind: "right", cell: (e) => <span class="number">{moment(e.at, l, new Date())}</span> },
        ]}
      />
      {oldest !== undefined && oldest > 1 && (
        <div>
          <Button onClick={() => void load(oldest)}>{t("audit.older")}</Button>
        </div>
      )}
    </Card>
  );
}
