// One message: what it is, and for each receiver where it is and why.
import { useState } from "preact/hooks";
import { path, remove } from "../../core/api";
import { moment, span } from "../../core/format";
import { final, type Message } from "../../core/nouns";
import { textOf } from "../../core/payload";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { Banner, Button, Card, Copy, Facts, Head } from "../../ui/parts";
import { Payload } from "../../ui/payload";
import { Places, Steps, summary, useTrace } from "../../ui/places";
import { Trouble } from "../../ui/problem";
import { asCurl, blank } from "../../ui/sendform";
import { toast } from "../../ui/toast";

export function TracePage({ id }: { id: string }) {
  const { trace, error, again } = useTrace(id);
  const [cancelling, setCancelling] = useState(false);
  const m = trace?.message;
  const open = trace?.states.some((s) => !final(s.state)) ?? false;
  return (
    <>
      <Head title={id} about={m?.topic}>
        {m && <Copy text={sameAgain(m)} word={t("send.curl")} label={t("send.curl")} />}
        {m && (
          <a class="button small" href={format("topics", "", { filter: m.topic })}>
            {t("messages.follow")}
          </a>
        )}
        {open && (
          <Button look="small danger" onClick={() => setCancelling(true)}>
            {t("messages.cancel")}
          </Button>
        )}
      </Head>
      {!trace && <Trouble error={error} again={again} />}
      {trace && (
        <>
          <Card title={t("trace.places")}>
            <p class="hide" role="status">
              {summary(trace.states)}
            </p>
            {trace.states.length > 0 && <Steps trace={trace} />}
            {trace.partial && <Banner icon="info">{t("trace.partial")}</Banner>}
            {trace.states.length === 0 && !trace.partial ? (
              <p class="soft">{t("messages.nobody")}</p>
            ) : (
              <Places trace={trace} />
            )}
          </Card>
          {m && <About m={m} />}
        </>
      )}
      {cancelling && (
        <Confirm
          title={t("messages.cancel")}
          text={t("messages.cancel.text")}
          word=""
          action={t("messages.cancel")}
          onClose={() => setCancelling(false)}
          run={async () => {
            const a = await remove<{ cancelled: number }>(path`/v1/messages/${id}`);
            toast(t("messages.cancelled", { n: a.cancelled }));
            again();
          }}
        />
      )}
    </>
  );
}

/** The command that sends the same again. */
function sameAgain(m: Message): string {
  const draft = {
    ...blank,
    topic: m.topic,
    body: textOf(m) ?? "",
    format: m.ct ?? "application/octet-stream",
    priority: String(m.priority),
  };
  return asCurl(draft, location.origin);
}

function About({ m }: { m: Message }) {
  const l = language.value;
  return (
    <div class="two">
      <Card title={t("trace.message")}>
        <Facts
          rows={[
            [t("trace.stored"), moment(m.time, l, new Date())],
            [t("send.topic"), m.topic],
            [t("trace.from"), m.from || "–"],
            [t("send.priority"), m.priority],
            [t("trace.seq"), m.seq ?? "–"],
            [t("queue.left"), m.expires_in === undefined ? "–" : span(m.expires_in, l)],
          ]}
        />
      </Card>
      <Card title={t("send.body")}>
        <Payload message={m} />
      </Card>
    </div>
  );
}
