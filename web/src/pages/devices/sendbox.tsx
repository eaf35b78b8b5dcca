// Sending to one device, and seeing it arrive.
import { useState } from "preact/hooks";
import type { Published } from "../../core/nouns";
import { t } from "../../core/words";
import { Card, Input } from "../../ui/parts";
import { blank, type Draft, SendForm } from "../../ui/sendform";
import { Sent } from "../messages/sent";

export function SendBox({ id }: { id: string }) {
  const [draft, setDraft] = useState<Draft>({ ...blank, body: '{"on": true}' });
  const [command, setCommand] = useState("set");
  const [sent, setSent] = useState<Published[]>([]);
  const topic = `device/${id}/in/${command}`;
  return (
    <div class="two top">
      <Card title={t("device.sendbox", { id })}>
        <Input label={t("send.topic")} hint={<code>{topic}</code>} value={command} onValue={setCommand} />
        <SendForm
          fixed
          draft={{ ...draft, topic }}
          onDraft={setDraft}
          onSent={(p) => setSent([p, ...sent].slice(0, 20))}
        />
      </Card>
      <Sent ids={sent.map((p) => p.id)} />
    </div>
  );
}
