// Signing in.
import { useState } from "preact/hooks";
import { Switches } from "../../app";
import { post } from "../../core/api";
import type { Session } from "../../core/nouns";
import { enter, gateway, privateHere } from "../../core/session";
import { t } from "../../core/words";
import { Banner, Button, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Insecure } from "./insecure";

export function Door({ ended }: { ended?: boolean }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      enter(await post<Session>("/v1/session", { name, password }));
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <main class="alone">
      <div class="card fade">
        <div class="corner">
          <Switches />
        </div>
        <h1 class="break">{gateway.value}</h1>
        {privateHere() ? (
          <form class="stack" onSubmit={submit}>
            {ended ? <Banner icon="clock">{t("door.ended")}</Banner> : <p class="soft">{t("door.about")}</p>}
            <Input
              label={t("door.name")}
              value={name}
              onValue={setName}
              name="name"
              autocomplete="username"
              autofocus
              required
            />
            <Input
              label={t("door.password")}
              value={password}
              onValue={setPassword}
              type="password"
              name="password"
              autocomplete="current-password"
              required
            />
            <Trouble error={error} />
            <Button submit look="primary" busy={busy}>
              {t("door.enter")}
            </Button>
            <details class="small">
              <summary>{t("door.forgot")}</summary>
              <p>{t("door.forgot.how")}</p>
              <code>edgepost admin passwd</code>
            </details>
          </form>
        ) : (
          <Insecure />
        )}
      </div>
    </main>
  );
}
