// What waits for a device, what goes next first.
import { useState } from "preact/hooks";
import { path, put, remove } from "../../core/api";
import { span } from "../../core/format";
import type { Outcome } from "../../core/nouns";
import { reason } from "../../core/reason";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Button, Card, Empty } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";
import { StateBadge } from "../../ui/state";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";

interface Waiting {
  id: string;
  topic: string;
  priority: number;
  state: Outcome;
  why?: string;
  age: number;
  expires_in?: number;
  attempt: number;
  size: number;
  preview?: string;
}

const URGENT = 7; // from here on it goes ahead of the backlog

export function Queue({ id }: { id: string }) {
  const queue = useGet<{ depth: number; queue: Waiting[] | null }>(path`/v1/devices/${id}/queue`, 2);
  const [cancel, setCancel] = useState<Waiting>();
  const rows = queue.data?.queue ?? [];
  const place = async (w: Waiting, priority: number) => {
    await put(path`/v1/devices/${id}/queue/${w.id}`, { priority }).catch(complain);
    queue.again();
  };
  const move = async (w: Waiting) => {
    const lower = w.priority >= URGENT;
    await place(w, lower ? 4 : 9);
    toast(t(lower ? "queue.lowered" : "queue.raised"), "good", () => void place(w, w.priority));
  };
  if (queue.data && rows.length === 0) {
    return (
      <Card>
        <Empty icon="check" title={t("queue.empty")}>
          <p class="soft">{t("queue.empty.how")}</p>
          <a class="button" href={format("devices", id, { tab: "send" })}>
            {t("send")}
          </a>
        </Empty>
      </Card>
    );
  }
  return (
    <Card>
      <Trouble error={queue.error} again={queue.again} />
      <Table
        caption={t("device.queue")}
        rows={rows}
        id={(w) => w.id}
        columns={[
          {
            name: t("queue.message"),
            kind: "lead",
            cell: (w) => (
              <span class="stack tight">
                <a href={format("messages", w.id)} class="break">
                  {w.topic}
                </a>
                <code class="soft break">{w.preview ?? `${w.size} B`}</code>
              </span>
            ),
          },
          { name: t("state"), cell: (w) => <StateBadge state={w.state} /> },
          { name: t("trace.why"), cell: (w) => <span class="soft">{reason(w.why)}</span> },
          { name: t("send.priority"), kind: "right", cell: (w) => <span class="number">{w.priority}</span> },
          {
            name: t("queue.age"),
            kind: "right",
            cell: (w) => <span class="number">{span(w.age, language.value)}</span>,
          },
          {
            name: t("queue.left"),
            kind: "right",
            cell: (w) => (
              <span class="number">{w.expires_in === undefined ? "–" : span(w.expires_in, language.value)}</span>
            ),
          },
          {
            name: t("actions"),
            kind: "tight",
            cell: (w) => (
              <span class="row end">
                <Button
                  look="small bare"
                  icon={w.priority >= URGENT ? "down" : "up"}
                  label={t(w.priority >= URGENT ? "queue.lower" : "queue.raise")}
                  disabled={w.state === "sent"}
                  onClick={() => void move(w)}
                />
                <Button look="small bare danger" icon="trash" label={t("queue.cancel")} onClick={() => setCancel(w)} />
              </span>
            ),
          },
        ]}
      />
      {queue.data && queue.data.depth > rows.length && (
        <p class="soft">{t("queue.rest", { n: queue.data.depth - rows.length })}</p>
      )}
      {cancel && (
        <Confirm
          title={t("queue.cancel")}
          text={t("queue.cancel.text", { id: cancel.id, device: id })}
          word=""
          action={t("queue.cancel")}
          onClose={() => setCancel(undefined)}
          run={async () => {
            await remove(path`/v1/devices/${id}/queue/${cancel.id}`);
            queue.again();
          }}
        />
      )}
    </Card>
  );
}
