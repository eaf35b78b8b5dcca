// The snippet that makes somebody a device; it turns green when the device's first message is here.
import { useState } from "preact/hooks";
import { send } from "../../core/api";
import type { Message, Published } from "../../core/nouns";
import { format } from "../../core/router";
import { hosts, snippets } from "../../core/snippets";
import { t } from "../../core/words";
import { useStream } from "../../ui/follow";
import { useGet } from "../../ui/load";
import { Badge, Button, Code, Copy, Tabs } from "../../ui/parts";
import { complain } from "../../ui/problem";

export function Hello({ id, token }: { id: string; token: string }) {
  const [tab, setTab] = useState("mosquitto");
  const [first, setFirst] = useState<Message>();
  useStream(`device/${id}/out/#`, !first, { onMessage: setFirst });
  const config = useGet<{ settings: { key: string; value: unknown }[] }>("/v1/config");
  const all = snippets({ ...hosts(location, config.data?.settings), id, token, topic: `device/${id}/out/hello` });
  const chosen = all.find((s) => s.id === tab)!;
  return (
    <div class="stack">
      <div class="row">
        <span class="soft">{t("device.token")}</span>
        <code class="break">{token}</code>
        <Copy text={token} />
      </div>
      <Tabs label={t("start.snippets")} tabs={all.map((s) => [s.id, s.name])} now={tab} onTab={setTab} />
      <div role="tabpanel" aria-labelledby={`tab-${tab}`}>
        <Code text={chosen.text} />
      </div>
      <div role="status" class="row">
        {first ? (
          <Badge mood="good">{t("start.heard", { topic: first.topic })}</Badge>
        ) : (
          <span class="pulse">
            <Badge mood="warn">{t("start.waiting", { topic: `device/${id}/out/#` })}</Badge>
          </span>
        )}
      </div>
      {first && <Back id={id} />}
    </div>
  );
}

/** Back sends something to the device, and leads to where it is. */
function Back({ id }: { id: string }) {
  const [sent, setSent] = useState<Published>();
  const go = async () => {
    try {
      const answer = await send("POST", `/v1/publish/device/${encodeURIComponent(id)}/in/set`, { body: { on: true } });
      setSent((await answer.json()) as Published);
    } catch (e) {
      complain(e);
    }
  };
  return (
    <div class="row">
      <Button icon="send" onClick={() => void go()}>
        {t("start.back")}
      </Button>
      {sent && <a href={format("messages", sent.id)}>{t("start.trace", { id: sent.id })}</a>}
    </div>
  );
}
