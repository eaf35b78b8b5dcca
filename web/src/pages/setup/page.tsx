// The first administrator. What follows, the gateway's name and a first device, is pages/start.
import { useState } from "preact/hooks";
import { Switches } from "../../app";
import { post } from "../../core/api";
import type { Certificate, Session } from "../../core/nouns";
import { go } from "../../core/router";
import { enter, gateway, privateHere } from "../../core/session";
import { t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Button, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Qr } from "../../ui/qr";
import { Insecure } from "../door/insecure";

const LEAST = 8; // characters of a password; the gateway checks, too

export function Setup() {
  return (
    <main class="alone">
      <div class="card wide fade">
        <div class="corner">
          <Switches />
        </div>
        <div>
          <h1>{t("setup.title")}</h1>
          <p class="soft">{t("setup.about", { gateway: gateway.value })}</p>
        </div>
        {privateHere() ? <Form /> : <Insecure />}
        {location.protocol === "https:" && <Fingerprint />}
      </div>
    </main>
  );
}

function Form() {
  const [code, setCode] = useState("");
  const [name, setName] = useState("admin");
  const [password, setPassword] = useState("");
  const [repeat, setRepeat] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const short = password !== "" && password.length < LEAST;
  const differs = repeat !== "" && repeat !== password;
  const submit = async (e: Event) => {
    e.preventDefault();
    if (short || repeat !== password) return;
    setBusy(true);
    setError(undefined);
    try {
      const session = await post<Session>("/v1/setup", { code: code.trim(), name, password });
      go("start");
      enter(session);
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <Input
        label={t("setup.code")}
        hint={t("setup.code.hint")}
        value={code}
        onValue={setCode}
        placeholder="XXXX-XXXX"
        autofocus
        required
      />
      <Input label={t("door.name")} value={name} onValue={setName} autocomplete="username" required />
      <div class="pair">
        <Input
          label={t("door.password")}
          hint={t("setup.password.hint", { n: LEAST })}
          wrong={short ? t("setup.password.short", { n: LEAST }) : undefined}
          value={password}
          onValue={setPassword}
          type="password"
          autocomplete="new-password"
          required
        />
        <Input
          label={t("setup.repeat")}
          wrong={differs ? t("setup.differs") : undefined}
          value={repeat}
          onValue={setRepeat}
          type="password"
          autocomplete="new-password"
          required
        />
      </div>
      <Trouble error={error} />
      <div>
        <Button submit look="primary" busy={busy}>
          {t("setup.go")}
        </Button>
      </div>
    </form>
  );
}

function Fingerprint() {
  const { data } = useGet<Certificate>("/v1/certificate");
  if (!data) return null;
  return (
    <div class="row">
      <Qr text={data.fingerprint} label={t("certificate.qr")} />
      <div class="grow stack tight">
        <h2>{t("certificate.fingerprint")}</h2>
        <code class="break">{data.fingerprint}</code>
        <p class="soft small">{t("certificate.compare")}</p>
      </div>
    </div>
  );
}
