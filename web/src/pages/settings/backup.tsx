// Everybody who may come in, and the certificates, as one encrypted file; and back.
import { useId, useState } from "preact/hooks";
import { post, send } from "../../core/api";
import { unwatch, watch } from "../../core/live";
import { gateway } from "../../core/session";
import { t } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { Banner, Button, Card, Code, Input } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";
import { toast } from "../../ui/toast";
import { save } from "./certificate";

const LEAST = 12; // characters of a passphrase; the gateway checks, too

export function Backup() {
  return (
    <>
      <div class="two top">
        <Make />
        <Restore />
      </div>
      <Diagnostics />
    </>
  );
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}

function Make() {
  const [passphrase, setPassphrase] = useState("");
  const [repeat, setRepeat] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const short = passphrase !== "" && passphrase.length < LEAST;
  const differs = repeat !== "" && repeat !== passphrase;
  const submit = async (e: Event) => {
    e.preventDefault();
    if (short || repeat !== passphrase) return;
    setBusy(true);
    setError(undefined);
    try {
      const answer = await send("POST", "/v1/backup", { body: { passphrase } });
      save(`${gateway.value}-${today()}.backup`, await answer.blob());
      toast(t("backup.made"));
      setPassphrase("");
      setRepeat("");
    } catch (e) {
      setError(e);
    }
    setBusy(false);
  };
  return (
    <Card title={t("backup.title")}>
      <p class="soft">{t("backup.about")}</p>
      <form class="stack" onSubmit={submit}>
        <Input
          label={t("backup.passphrase")}
          hint={t("backup.passphrase.hint", { n: LEAST })}
          wrong={short ? t("setup.password.short", { n: LEAST }) : undefined}
          type="password"
          autocomplete="new-password"
          value={passphrase}
          onValue={setPassphrase}
          required
        />
        <Input
          label={t("backup.repeat")}
          wrong={differs ? t("setup.differs") : undefined}
          type="password"
          autocomplete="new-password"
          value={repeat}
          onValue={setRepeat}
          required
        />
        <Trouble error={error} />
        <div>
          <Button submit look="primary" busy={busy}>
            {t("backup.save")}
          </Button>
        </div>
      </form>
    </Card>
  );
}

interface Restored {
  devices: number;
  groups: number;
  keys: number;
  users: number;
  bridges: number;
  problems?: string[];
  restart: boolean;
  config?: string;
}

async function base64(file: File): Promise<string> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** restore ends this session, too; without the feed the page stays and shows what was restored. */
async function restore(passphrase: string, file: File): Promise<Restored> {
  unwatch();
  try {
    return await post<Restored>("/v1/restore", { passphrase, backup: await base64(file) });
  } catch (e) {
    watch();
    throw e;
  }
}

function Restore() {
  const id = useId();
  const [file, setFile] = useState<File>();
  const [passphrase, setPassphrase] = useState("");
  const [asking, setAsking] = useState(false);
  const [done, setDone] = useState<Restored>();
  const submit = (e: Event) => {
    e.preventDefault();
    setAsking(true);
  };
  return (
    <Card title={t("restore.title")}>
      <p class="soft">{t("restore.about")}</p>
      {done ? (
        <Done done={done} />
      ) : (
        <form class="stack" onSubmit={submit}>
          <div class="field">
            <label for={id}>{t("restore.file")}</label>
            <input id={id} type="file" required onChange={(e) => setFile(e.currentTarget.files?.[0])} />
          </div>
          <Input label={t("restore.passphrase")} type="password" value={passphrase} onValue={setPassphrase} required />
          <div>
            <Button submit look="danger" disabled={!file || !passphrase}>
              {t("restore.go")}
            </Button>
          </div>
        </form>
      )}
      {asking && file && (
        <Confirm
          title={t("restore.title")}
          text={t("restore.text")}
          word={gateway.value}
          action={t("restore.go")}
          onClose={() => setAsking(false)}
          run={async () => setDone(await restore(passphrase, file))}
        />
      )}
    </Card>
  );
}

function Done({ done: d }: { done: Restored }) {
  return (
    <div class="stack" role="status">
      <Banner mood="calm" icon="check">
        {t("restore.done", { devices: d.devices, groups: d.groups, keys: d.keys, users: d.users, bridges: d.bridges })}{" "}
        {d.restart && t("restore.restart")}
      </Banner>
      {d.problems && <Banner mood="bad">{d.problems.join("; ")}</Banner>}
      {d.config && (
        <>
          <p class="soft">{t("restore.config")}</p>
          <Code text={d.config} />
        </>
      )}
      <div>
        <Button look="primary" onClick={() => location.reload()}>
          {t("restore.signin")}
        </Button>
      </div>
    </div>
  );
}

function Diagnostics() {
  const [busy, setBusy] = useState(false);
  const make = async () => {
    setBusy(true);
    try {
      save(`${gateway.value}-${today()}-diagnostics.tar`, await (await send("GET", "/v1/diagnostics")).blob());
    } catch (e) {
      complain(e);
    }
    setBusy(false);
  };
  return (
    <Card title={t("diagnostics.title")}>
      <p class="soft">{t("diagnostics.about")}</p>
      <div>
        <Button busy={busy} onClick={() => void make()}>
          {t("diagnostics.save")}
        </Button>
      </div>
    </Card>
  );
}
