// Permit joining: for some minutes unknown devices are held as waiting, and a person lets them in.
import { useState } from "preact/hooks";
import { path, post, remove } from "../../core/api";
import { moment, span } from "../../core/format";
import { language, t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Badge, Button, Card } from "../../ui/parts";
import { complain } from "../../ui/problem";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";

interface Visitor {
  name: string;
  fingerprint: string;
  via: string;
  from: string;
  since: string;
  tries: number;
  short?: boolean;
}

interface Door {
  open: boolean;
  left: number;
  waiting: Visitor[] | null;
}

export function Joining() {
  const [watch, setWatch] = useState(false);
  const door = useGet<Door>("/v1/join", watch ? 2 : 15);
  const d = door.data;
  if (!d) return null;
  if (d.open !== watch) setWatch(d.open);
  const run = async (f: () => Promise<unknown>) => {
    try {
      await f();
    } catch (e) {
      complain(e);
    }
    door.again();
  };
  if (!d.open) {
    return (
      <Card
        title={t("join.title")}
        tools={
          <Button icon="plus" onClick={() => void run(() => post("/v1/join"))}>
            {t("join.permit")}
          </Button>
        }
      >
        <p class="soft">{t("join.about")}</p>
      </Card>
    );
  }
  return (
    <Card
      title={t("join.title")}
      tools={
        <>
          <Badge mood="warn">{t("join.left", { span: span(d.left, language.value) })}</Badge>
          <Button onClick={() => void run(() => remove("/v1/join"))}>{t("join.close")}</Button>
        </>
      }
    >
      <p class="soft">{t("join.how")}</p>
      <div role="status">
        {(d.waiting ?? []).length === 0 ? (
          <p class="soft pulse">{t("join.nobody")}</p>
        ) : (
          <Visitors rows={d.waiting ?? []} run={run} />
        )}
      </div>
    </Card>
  );
}

function Visitors({ rows, run }: { rows: Visitor[]; run: (f: () => Promise<unknown>) => Promise<void> }) {
  const approve = (v: Visitor) =>
    run(async () => {
      await post(path`/v1/join/${v.name}/approve`, { fingerprint: v.fingerprint });
      toast(t("join.approved", { name: v.name }));
    });
  return (
    <Table
      caption={t("join.title")}
      rows={rows}
      id={(v) => `${v.name} ${v.fingerprint}`}
      columns={[
        { name: t("name"), kind: "lead", cell: (v) => v.name },
        { name: t("join.via"), cell: (v) => `${v.via}, ${v.from}` },
        { name: t("join.secret"), cell: (v) => <code>{v.short ? t("join.short") : v.fingerprint}</code> },
        {
          name: t("join.since"),
          cell: (v) => <span class="number">{moment(v.since, language.value, new Date())}</span>,
        },
        {
          name: t("actions"),
          kind: "tight",
          cell: (v) => (
            <span class="row end">
              <Button look="small primary" icon="check" disabled={v.short} onClick={() => void approve(v)}>
                {t("join.approve")}
              </Button>
              <Button
                look="small"
                onClick={() => void run(() => post(path`/v1/join/${v.name}/refuse`, { fingerprint: v.fingerprint }))}
              >
                {t("join.refuse")}
              </Button>
            </span>
          ),
        },
      ]}
    />
  );
}
