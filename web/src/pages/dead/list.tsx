// Dead letters by cause, and those of one cause.
import { useEffect, useState } from "preact/hooks";
import { get, query } from "../../core/api";
import { count, moment } from "../../core/format";
import { live } from "../../core/live";
import type { DeadLetter } from "../../core/nouns";
import { preview } from "../../core/payload";
import { reason } from "../../core/reason";
import { format, refine } from "../../core/router";
import { language, t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Button, Card, Empty, Head } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";
import { Jobs, RequeueMany } from "./jobs";

export interface Cause {
  reason: string;
  count: number;
  oldest?: string;
  newest?: string;
  example: number;
}

export function DeadList({ cause }: { cause?: string }) {
  const causes = useGet<{ causes: Cause[] | null }>("/v1/dead/causes");
  const letters = useLetters(cause);
  const [many, setMany] = useState(false);
  const n = live.value.tick?.dead_letters;
  useEffect(() => {
    causes.again();
    letters.again();
  }, [n]);
  const rows = causes.data?.causes ?? [];
  const total = rows.reduce((sum, c) => sum + c.count, 0);
  const l = language.value;
  return (
    <>
      <Head title={t("nav.dead")} about={t("dead.about")}>
        {total > 0 && (
          <Button look="primary" icon="send" onClick={() => setMany(true)}>
            {cause === undefined ? t("dead.all") : t("dead.these")}
          </Button>
        )}
      </Head>
      <Jobs />
      <Trouble error={causes.error} again={causes.again} />
      {causes.data && total === 0 && (
        <Card>
          <Empty icon="check" title={t("dead.none")}>
            <p class="soft">{t("dead.none.how")}</p>
          </Empty>
        </Card>
      )}
      {total > 0 && (
        <Card title={t("dead.causes")}>
          <Table
            caption={t("dead.causes")}
            rows={rows}
            id={(c) => c.reason}
            columns={[
              {
                name: t("dead.cause"),
                kind: "lead",
                cell: (c) => (
                  <button
                    type="button"
                    class="link break"
                    aria-pressed={c.reason === cause}
                    onClick={() => refine({ cause: c.reason === cause ? undefined : c.reason })}
                  >
                    {reason(c.reason) || t("dead.others")}
                  </button>
                ),
              },
              { name: t("dead.count"), kind: "right", cell: (c) => <span class="number">{count(c.count, l)}</span> },
              {
                name: t("dead.oldest"),
                kind: "right",
                cell: (c) => <span class="number">{moment(c.oldest, l, new Date())}</span>,
              },
              {
                name: t("dead.newest"),
                kind: "right",
                cell: (c) => <span class="number">{moment(c.newest, l, new Date())}</span>,
              },
            ]}
          />
        </Card>
      )}
      {total > 0 && (
        <Card title={cause === undefined ? t("dead.each") : reason(cause)}>
          <Trouble error={letters.error} again={letters.again} />
          <Letters rows={letters.rows} />
          {letters.more && (
            <div>
              <Button onClick={letters.more}>{t("more")}</Button>
            </div>
          )}
        </Card>
      )}
      {many && (
        <RequeueMany
          cause={cause}
          count={rows.find((c) => c.reason === cause)?.count ?? total}
          onClose={() => setMany(false)}
        />
      )}
    </>
  );
}

function Letters({ rows }: { rows: DeadLetter[] }) {
  const l = language.value;
  return (
    <Table
      caption={t("nav.dead")}
      rows={rows}
      id={(d) => d.entry}
      columns={[
        {
          name: t("queue.message"),
          kind: "lead",
          cell: (d) => (
            <span class="stack tight">
              <a class="break" href={format("dead", String(d.entry))}>
                {d.message?.topic ?? `#${d.entry}`}
              </a>
              <code class="soft break">{d.message && preview(d.message)}</code>
            </span>
          ),
        },
        {
          name: t("trace.receiver"),
          cell: (d) => <span class="break">{d.subscription.replace(/^device\//, "")}</span>,
        },
        { name: t("dead.cause"), cell: (d) => <span class="soft break">{reason(d.reason)}</span> },
        { name: t("trace.attempts"), kind: "right", cell: (d) => <span class="number">{d.attempts}</span> },
        { name: t("time"), kind: "right", cell: (d) => <span class="number">{moment(d.at, l, new Date())}</span> },
      ]}
    />
  );
}

const PAGE = 200;

interface Found {
  rows: DeadLetter[];
  error?: unknown;
  again: () => void;
  more?: () => void;
}

/** useLetters reads page after page and keeps those of the cause. */
function useLetters(cause?: string): Found {
  const [state, setState] = useState<{ rows: DeadLetter[]; next?: number; error?: unknown }>({ rows: [] });
  const load = async (after: number, before: DeadLetter[]) => {
    try {
      const a = await get<{ dead: DeadLetter[]; next?: number }>(`/v1/dead${query({ after, limit: PAGE })}`);
      setState({ rows: [...before, ...a.dead], next: a.dead.length === PAGE ? a.next : undefined });
    } catch (error) {
      setState((s) => ({ ...s, error }));
    }
  };
  const { rows, next, error } = state;
  return {
    rows: cause === undefined ? rows : rows.filter((d) => d.reason === cause),
    error,
    again: () => void load(0, []),
    more: next === undefined ? undefined : () => void load(next, rows),
  };
}
