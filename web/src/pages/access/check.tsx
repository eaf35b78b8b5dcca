// The dry run: may somebody do something, and which rule decides.
import { useState } from "preact/hooks";
import { get, query } from "../../core/api";
import { t } from "../../core/words";
import { Badge, Button, Card, Choice, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";

interface Answer {
  principal: string;
  action: string;
  topic: string;
  allowed: boolean;
  rule: string;
}

export function Check() {
  const [principal, setPrincipal] = useState("device/lamp1");
  const [action, setAction] = useState<"publish" | "subscribe">("publish");
  const [topic, setTopic] = useState("");
  const [answer, setAnswer] = useState<Answer>();
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    setAnswer(undefined);
    try {
      setAnswer(await get(`/v1/access/check${query({ principal, action, topic })}`));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Card title={t("check.title")}>
      <form class="stack" onSubmit={submit}>
        <p class="soft">{t("check.about")}</p>
        <div class="pair">
          <Input label={t("check.who")} hint={t("check.who.hint")} value={principal} onValue={setPrincipal} required />
          <div class="field">
            <span class="label">{t("check.action")}</span>
            <div>
              <Choice
                label={t("check.action")}
                value={action}
                onValue={setAction}
                options={[
                  ["publish", t("rules.publish")],
                  ["subscribe", t("rules.subscribe")],
                ]}
              />
            </div>
          </div>
          <Input
            label={action === "publish" ? t("send.topic") : t("topics.filter")}
            value={topic}
            onValue={setTopic}
            placeholder="device/lamp1/out/x"
            required
          />
        </div>
        <div>
          <Button submit look="primary">
            {t("check.go")}
          </Button>
        </div>
        <Trouble error={error} />
        <div role="status">
          {answer && (
            <p class="row">
              <Badge mood={answer.allowed ? "good" : "bad"}>{answer.allowed ? t("check.yes") : t("check.no")}</Badge>
              <span>
                {t("check.rule")} <code class="break">{answer.rule}</code>
              </span>
            </p>
          )}
        </div>
      </form>
    </Card>
  );
}
