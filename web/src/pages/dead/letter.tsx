// One dead letter: what it is, why it was given up, and how to send it again, as it is or edited.
import { useState } from "preact/hooks";
import { path, post, remove } from "../../core/api";
import { moment, seconds } from "../../core/format";
import type { DeadLetter, Message, Published } from "../../core/nouns";
import { textOf } from "../../core/payload";
import { reason } from "../../core/reason";
import { format, go } from "../../core/router";
import { language, t } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Area, Banner, Button, Card, Facts, Head, Input, Select } from "../../ui/parts";
import { Payload } from "../../ui/payload";
import { Trouble } from "../../ui/problem";
import { toast } from "../../ui/toast";

export function Letter({ entry }: { entry: string }) {
  const { data: d, error, again } = useGet<DeadLetter>(path`/v1/dead/${entry}`);
  const [discard, setDiscard] = useState(false);
  const m = d?.message;
  const requeue = async (edits: object | undefined) => {
    const p = await post<Published>(path`/v1/dead/${entry}/requeue`, edits);
    toast(t("dead.sent"));
    go("messages", p.id);
  };
  return (
    <>
      <Head title={m?.topic ?? t("dead.entry", { n: entry })} about={d && reason(d.reason)}>
        {d && (
          <Button look="danger" icon="trash" onClick={() => setDiscard(true)}>
            {t("dead.discard")}
          </Button>
        )}
      </Head>
      <Trouble error={error} again={again} />
      {d && (
        <div class="two top">
          <Card title={t("dead.why")}>
            <Facts
              rows={[
                [t("dead.cause"), reason(d.reason)],
                [t("trace.receiver"), d.subscription],
                [t("trace.attempts"), d.attempts],
                [t("dead.given"), moment(d.at, language.value, new Date())],
                [t("trace.stored"), moment(m?.time, language.value, new Date())],
                [t("trace.from"), m?.from || "–"],
                [
                  t("trace.message"),
                  m?.id ? (
                    <a key="id" href={format("messages", m.id)}>
                      {m.id}
                    </a>
                  ) : (
                    "–"
                  ),
                ],
              ]}
            />
            {m ? <Payload message={m} /> : <Banner icon="info">{t("dead.gone")}</Banner>}
          </Card>
          {m && <Again m={m} requeue={requeue} />}
        </div>
      )}
      {discard && (
        <Confirm
          title={t("dead.discard")}
          text={t("dead.discard.text")}
          word=""
          action={t("dead.discard")}
          onClose={() => setDiscard(false)}
          run={async () => {
            await remove(path`/v1/dead/${entry}`);
            go("dead");
          }}
        />
      )}
    </>
  );
}

/** Again sends it as it was, or with what was changed. */
function Again({ m, requeue }: { m: Message; requeue: (edits: object | undefined) => Promise<void> }) {
  const text = textOf(m); // undefined: bytes, which nobody edits in a text field
  const [topic, setTopic] = useState(m.topic);
  const [body, setBody] = useState(text ?? "");
  const [priority, setPriority] = useState(String(m.priority));
  const [ttl, setTTL] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const edits = {
    ...(topic === m.topic ? {} : { topic }),
    ...(text === undefined || body === text ? {} : { text: body, ct: m.ct }),
    ...(priority === String(m.priority) ? {} : { priority: Number(priority) }),
    ...(ttl === "" ? {} : { ttl: seconds(ttl) ?? ttl }),
  };
  const edited = Object.keys(edits).length > 0;
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await requeue(edited ? edits : undefined);
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <Card title={t("dead.again")}>
      <form class="stack" onSubmit={submit}>
        <Input label={t("send.topic")} value={topic} onValue={setTopic} required />
        {text !== undefined && <Area label={t("send.body")} value={body} onValue={setBody} />}
        <div class="pair">
          <Select
            label={t("send.priority")}
            value={priority}
            onValue={setPriority}
            options={[...new Set(["1", "4", "8", String(m.priority)])].sort().map((p): [string, string] => [p, p])}
          />
          <Input
            label={t("send.ttl")}
            hint={t("send.ttl.hint")}
            wrong={ttl && seconds(ttl) === undefined ? t("send.duration") : undefined}
            value={ttl}
            onValue={setTTL}
          />
        </div>
        <p class="soft small">{edited ? t("dead.edited") : t("dead.unedited")}</p>
        <Trouble error={error} />
        <div>
          <Button submit look="primary" icon="send" busy={busy}>
            {edited ? t("dead.requeue.edited") : t("dead.requeue")}
          </Button>
        </div>
      </form>
    </Card>
  );
}
