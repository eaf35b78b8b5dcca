// Composing a message and seeing it arrive; with an id, where that message is.
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { go } from "../../core/router";
import { t } from "../../core/words";
import { Button, Card, Head, Input } from "../../ui/parts";
import { blank, type Draft, SendForm } from "../../ui/sendform";
import { Sent } from "./sent";
import { TracePage } from "./trace";

// They outlive a look at another page.
const draft = signal<Draft>({ ...blank, body: '{"on": true}' });
const sent = signal<string[]>([]);
const SHOWN = 20;

export function Messages({ arg, query }: { arg: string; query: Record<string, string> }) {
  if (arg) return <TracePage key={arg} id={arg} />;
  return <Compose topic={query.topic} />;
}

function Compose({ topic }: { topic?: string }) {
  if (topic && draft.value.topic !== topic) draft.value = { ...draft.value, topic };
  return (
    <>
      <Head title={t("nav.messages")} about={t("messages.about")}>
        <Find />
      </Head>
      <div class="two top">
        <Card title={t("messages.compose")}>
          <SendForm
            draft={draft.value}
            onDraft={(d) => {
              draft.value = d;
            }}
            onSent={(p) => {
              sent.value = [p.id, ...sent.value].slice(0, SHOWN);
            }}
          />
        </Card>
        <Sent ids={sent.value} />
      </div>
    </>
  );
}

/** Find leads to a message by its id. */
function Find() {
  const [id, setId] = useState("");
  return (
    <form
      class="row bottom"
      onSubmit={(e) => {
        e.preventDefault();
        if (id.trim()) go("messages", id.trim());
      }}
    >
      <Input label={t("messages.find")} value={id} onValue={setId} placeholder="k3f9w2xq-4712" />
      <Button submit icon="search" label={t("palette.title")} look="bare" />
    </form>
  );
}
