// Who is signed in.
import { path, remove } from "../../core/api";
import { moment } from "../../core/format";
import { language, t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Badge, Button, Card } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";

interface Signed {
  id: string;
  user: string;
  made: string;
  used: string;
  ends: string;
  present?: boolean;
}

export function Sessions() {
  const list = useGet<{ sessions: Signed[] | null }>("/v1/sessions", 10);
  const l = language.value;
  const end = async (s: Signed) => {
    try {
      await remove(path`/v1/sessions/${s.id}`);
      toast(t("sessions.ended", { name: s.user }));
    } catch (e) {
      complain(e);
    }
    list.again();
  };
  return (
    <Card title={t("access.sessions")}>
      <p class="soft">{t("sessions.about")}</p>
      <Trouble error={list.error} again={list.again} />
      <Table
        caption={t("access.sessions")}
        rows={list.data?.sessions ?? []}
        id={(s) => s.id}
        columns={[
          {
            name: t("audit.who"),
            kind: "lead",
            cell: (s) => (
              <span>
                {s.user} {s.present && <Badge mood="info">{t("sessions.present")}</Badge>}
              </span>
            ),
          },
          { name: t("sessions.made"), cell: (s) => <span class="number">{moment(s.made, l, new Date())}</span> },
          { name: t("sessions.used"), cell: (s) => <span class="number">{moment(s.used, l, new Date())}</span> },
          { name: t("sessions.ends"), cell: (s) => <span class="number">{moment(s.ends, l, new Date())}</span> },
          {
            name: t("actions"),
            kind: "tight",
            cell: (s) => (
              <Button look="small danger" disabled={s.present} onClick={() => void end(s)}>
                {t("sessions.end")}
              </Button>
            ),
          },
        ]}
      />
    </Card>
  );
}
