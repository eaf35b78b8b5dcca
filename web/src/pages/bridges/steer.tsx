// Orders that change what a bridge owes. What cannot be undone is confirmed by typing the bridge's name.
import { useState } from "preact/hooks";
import { path, remove } from "../../core/api";
import { count, seconds } from "../../core/format";
import { go } from "../../core/router";
import { language, t } from "../../core/words";
import { Confirm, Dialog } from "../../ui/dialog";
import { Button, Choice, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { toast } from "../../ui/toast";
import { type BridgeView, order } from "./noun";

type From = "since" | "after" | "oldest";

/** Rewind has the bridge send again what the upstream has lost and the log still keeps. */
export function Rewind({ name, onClose }: { name: string; onClose: () => void }) {
  const [from, setFrom] = useState<From>("since");
  const [since, setSince] = useState("1h");
  const [after, setAfter] = useState("");
  const [error, setError] = useState<unknown>();
  const wrong = from === "since" && seconds(since) === undefined ? t("send.duration") : undefined;
  const submit = async (e: Event) => {
    e.preventDefault();
    if (wrong) return;
    const body = from === "since" ? { since: seconds(since) } : { after: from === "oldest" ? "oldest" : after.trim() };
    try {
      const a = await order(name, "rewind", body);
      toast(t(a?.gap ? "bridge.rewound.gap" : "bridge.rewound"), a?.gap ? "bad" : "good");
      onClose();
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={t("bridge.rewind")} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <p>{t("bridge.rewind.about")}</p>
        <div>
          <Choice
            label={t("bridge.rewind.from")}
            value={from}
            onValue={setFrom}
            options={[
              ["since", t("bridge.rewind.since")],
              ["after", t("bridge.rewind.after")],
              ["oldest", t("bridge.rewind.oldest")],
            ]}
          />
        </div>
        {from === "since" && (
          <Input
            label={t("bridge.rewind.span")}
            hint={t("bridge.rewind.span.hint")}
            wrong={wrong}
            value={since}
            onValue={setSince}
            required
          />
        )}
        {from === "after" && <Input label={t("bridge.rewind.id")} value={after} onValue={setAfter} required />}
        <Trouble error={error} />
        <div class="row end">
          <Button onClick={onClose}>{t("cancel")}</Button>
          <Button submit look="primary">
            {t("bridge.rewind")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** Skip ends what waits, or a part of it, as cancelled. */
export function Skip({ b, onClose }: { b: BridgeView; onClose: () => void }) {
  const [until, setUntil] = useState("");
  return (
    <Confirm
      title={t("bridge.skip")}
      text={
        <div class="stack">
          <p>{t("bridge.skip.about", { n: count(b.owed, language.value) })}</p>
          <Input label={t("bridge.skip.until")} hint={t("bridge.skip.until.hint")} value={until} onValue={setUntil} />
        </div>
      }
      word={b.name}
      action={t("bridge.skip")}
      onClose={onClose}
      run={async () => {
        const a = await order(b.name, "skip", until.trim() ? { until: until.trim() } : undefined);
        toast(t("bridge.skipped", { n: a?.skipped ?? 0 }));
      }}
    />
  );
}

export function Remove({ b, onClose, done }: { b: BridgeView; onClose: () => void; done: () => void }) {
  return (
    <Confirm
      title={t("bridge.remove")}
      text={t("bridge.remove.about", { n: count(b.owed, language.value) })}
      word={b.name}
      action={t("bridge.remove")}
      onClose={onClose}
      run={async () => {
        await remove(path`/v1/bridges/${b.name}`);
        done();
        go("bridges");
      }}
    />
  );
}
