// The gateway as an issuer of access tokens (OAuth 2).
import { useState } from "preact/hooks";
import { post } from "../../core/api";
import { span } from "../../core/format";
import { format } from "../../core/router";
import { language, t, type Word } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Badge, Button, Card, Check, Facts, Input } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";
import { Issuers } from "./issuers";

interface Issuer {
  issuer: string;
  keys: { kid: string; state: "current" | "next" | "retired"; age: number }[] | null;
}

export function Tokens() {
  const own = useGet<Issuer>("/v1/oauth");
  return (
    <>
      <Card
        title={t("tokens.own")}
        tools={
          <a class="button" href={format("approve")}>
            {t("tokens.approve")}
          </a>
        }
      >
        <p class="soft">{t("tokens.own.about")}</p>
        <Trouble error={own.error} again={own.again} />
        {own.data && (
          <>
            <Facts rows={[[t("tokens.issuer"), <code key="i">{own.data.issuer}</code>]]} />
            <Table
              caption={t("tokens.keys")}
              rows={own.data.keys ?? []}
              id={(k) => k.kid}
              columns={[
                { name: t("tokens.key"), kind: "lead", cell: (k) => <code class="break">{k.kid}</code> },
                {
                  name: t("state"),
                  cell: (k) => (
                    <Badge mood={k.state === "current" ? "good" : ""}>{t(`state.key-${k.state}` as Word)}</Badge>
                  ),
                },
                {
                  name: t("queue.age"),
                  kind: "right",
                  cell: (k) => <span class="number">{span(k.age, language.value)}</span>,
                },
              ]}
            />
            <Rotate done={own.again} />
          </>
        )}
      </Card>
      <Revoke />
      <Issuers />
    </>
  );
}

function Rotate({ done }: { done: () => void }) {
  const [asking, setAsking] = useState(false);
  const [end, setEnd] = useState(false);
  return (
    <div>
      <Button onClick={() => setAsking(true)}>{t("tokens.rotate")}</Button>
      {asking && (
        <Confirm
          title={t("tokens.rotate")}
          text={<Check label={t("tokens.rotate.end")} value={end} onValue={setEnd} />}
          word=""
          action={t("tokens.rotate")}
          onClose={() => setAsking(false)}
          run={async () => {
            await post("/v1/oauth/rotate", { end_tokens: end });
            done();
          }}
        />
      )}
    </div>
  );
}

function Revoke() {
  const [principal, setPrincipal] = useState("");
  const submit = async (e: Event) => {
    e.preventDefault();
    try {
      await post("/v1/oauth/revoke", { principal });
      toast(t("tokens.revoked", { name: principal }));
      setPrincipal("");
    } catch (e) {
      complain(e);
    }
  };
  return (
    <Card title={t("tokens.revoke")}>
      <form class="row bottom" onSubmit={submit}>
        <div class="grow">
          <Input label={t("check.who")} value={principal} onValue={setPrincipal} placeholder="device/lamp1" required />
        </div>
        <Button submit look="danger">
          {t("tokens.revoke")}
        </Button>
      </form>
    </Card>
  );
}
