// What happened to a device, newest first.
import { path } from "../../core/api";
import { latency, moment } from "../../core/format";
import { reason } from "../../core/reason";
import { format } from "../../core/router";
import { language, maybe, t } from "../../core/words";
import type { IconName } from "../../ui/icon";
import { useGet } from "../../ui/load";
import { Badge, Card, type Mood } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";

interface Happened {
  at?: string;
  kind: string; // online, offline, or what became of a message
  reason?: string;
  id?: string;
  topic?: string;
  took?: number;
}

const looks: Record<string, [Mood, IconName]> = {
  online: ["good", "dot"],
  offline: ["", "ring"],
  published: ["info", "arrow"],
  delivered: ["good", "check"],
  expired: ["bad", "clock"],
  dead: ["bad", "cross"],
  lost: ["bad", "warning"],
};

export function Timeline({ id }: { id: string }) {
  const timeline = useGet<{ events: Happened[] | null; before: boolean }>(path`/v1/devices/${id}/timeline`, 3);
  const rows = timeline.data?.events ?? [];
  return (
    <Card>
      <Trouble error={timeline.error} again={timeline.again} />
      <p class="soft small">{t("timeline.about")}</p>
      {timeline.data && rows.length === 0 && <p class="soft">{t("timeline.empty")}</p>}
      {rows.length > 0 && (
        <Table
          caption={t("device.timeline")}
          rows={rows.map((e, i) => ({ ...e, i }))}
          id={(e) => `${e.at} ${e.kind} ${e.id ?? e.i}`}
          columns={[
            { name: t("time"), cell: (e) => <span class="number">{moment(e.at, language.value, new Date())}</span> },
            {
              name: t("timeline.what"),
              cell: (e) => (
                <Badge mood={looks[e.kind]?.[0] ?? ""} icon={looks[e.kind]?.[1] ?? "ring"}>
                  {maybe(`state.${e.kind}`) ?? e.kind}
                </Badge>
              ),
            },
            {
              name: t("queue.message"),
              cell: (e) => (e.id ? <a href={format("messages", e.id)}>{e.topic || e.id}</a> : "–"),
            },
            { name: t("trace.why"), cell: (e) => <span class="soft">{reason(e.reason)}</span> },
            {
              name: t("timeline.took"),
              kind: "right",
              cell: (e) => <span class="number">{e.took === undefined ? "–" : latency(e.took, language.value)}</span>,
            },
          ]}
        />
      )}
      {timeline.data?.before && <p class="soft">{t("timeline.before")}</p>}
    </Card>
  );
}
