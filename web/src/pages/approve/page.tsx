// A device with a screen shows a code; a person enters it here and grants what the device asks for (RFC 8628).
import { useState } from "preact/hooks";
import { get, path, post } from "../../core/api";
import { span } from "../../core/format";
import { language, t } from "../../core/words";
import { Badge, Button, Card, Check, Facts, Head, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";

interface Asking {
  client_id: string;
  principal: string;
  scope: string;
  from: string;
  expires_in: number;
}

export function Approve({ query }: { arg: string; query: Record<string, string> }) {
  const [code, setCode] = useState(query.code ?? "");
  const [asking, setAsking] = useState<Asking>();
  const [keep, setKeep] = useState(true);
  const [done, setDone] = useState<"granted" | "refused">();
  const [error, setError] = useState<unknown>();
  const run = async (f: () => Promise<void>) => {
    setError(undefined);
    try {
      await f();
    } catch (e) {
      setError(e);
    }
  };
  const look = (e: Event) => {
    e.preventDefault();
    setDone(undefined);
    void run(async () => setAsking(await get<Asking>(path`/v1/oauth/device/${code.trim()}`)));
  };
  const decide = (what: "approve" | "refuse") =>
    void run(async () => {
      await post(path`/v1/oauth/device/${code.trim()}/${what}`, what === "approve" ? { keep } : undefined);
      setDone(what === "approve" ? "granted" : "refused");
      setAsking(undefined);
    });
  return (
    <>
      <Head title={t("approve.title")} about={t("approve.about")} />
      <Card>
        <form class="row bottom" onSubmit={look}>
          <div class="grow">
            <Input
              label={t("approve.code")}
              value={code}
              onValue={setCode}
              placeholder="ABCD-EFGH"
              autofocus
              required
            />
          </div>
          <Button submit look={asking ? "" : "primary"}>
            {t("approve.look")}
          </Button>
        </form>
        <Trouble error={error} />
        {asking && (
          <div class="stack">
            <Facts
              rows={[
                [t("approve.claims"), asking.client_id],
                [t("approve.registered"), asking.principal || t("approve.nobody")],
                [t("approve.scope"), <code key="s">{asking.scope || "–"}</code>],
                [t("join.via"), asking.from],
                [t("queue.left"), span(asking.expires_in, language.value)],
              ]}
            />
            <Check label={t("approve.keep")} value={keep} onValue={setKeep} />
            <div class="row">
              <Button look="primary" icon="check" onClick={() => decide("approve")}>
                {t("approve.grant")}
              </Button>
              <Button onClick={() => decide("refuse")}>{t("join.refuse")}</Button>
            </div>
          </div>
        )}
        <div role="status">
          {done && (
            <Badge mood={done === "granted" ? "good" : "warn"}>
              {done === "granted" ? t("approve.granted") : t("approve.refused")}
            </Badge>
          )}
        </div>
      </Card>
    </>
  );
}
