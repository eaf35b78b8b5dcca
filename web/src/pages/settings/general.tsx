// The look of this page, one's own password, and what runs here.
import { useState } from "preact/hooks";
import { path, put } from "../../core/api";
import { span } from "../../core/format";
import { access } from "../../core/session";
import { choose, type Theme, theme } from "../../core/theme";
import { type Language, language, speak, t } from "../../core/words";
import { GatewayName } from "../../ui/gatewayname";
import { useGet } from "../../ui/load";
import { Button, Card, Choice, Facts, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { toast } from "../../ui/toast";

export function General() {
  return (
    <div class="two top">
      <Card title={t("settings.look")}>
        <div class="field">
          <span class="label">{t("settings.language")}</span>
          <div>
            <Choice<Language>
              label={t("settings.language")}
              value={language.value}
              onValue={speak}
              options={[
                ["en", "English"],
                ["zh", "中文"],
              ]}
            />
          </div>
        </div>
        <div class="field">
          <span class="label">{t("settings.theme")}</span>
          <div>
            <Choice<Theme>
              label={t("settings.theme")}
              value={theme.value}
              onValue={choose}
              options={[
                ["auto", t("settings.theme.auto")],
                ["light", t("settings.theme.light")],
                ["dark", t("settings.theme.dark")],
              ]}
            />
          </div>
        </div>
      </Card>
      <GatewayName />
      <Password />
      <About />
    </div>
  );
}

function Password() {
  const a = access.value;
  const name = a.at === "in" && a.session.kind === "user" ? a.session.name : undefined;
  const [present, setPresent] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState<unknown>();
  if (!name) return null;
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    try {
      await put(path`/v1/users/${name}/password`, { present, password });
      toast(t("settings.password.set"));
      setPresent("");
      setPassword("");
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Card title={t("settings.password", { name })}>
      <form class="stack" onSubmit={submit}>
        <Input
          label={t("settings.password.now")}
          type="password"
          autocomplete="current-password"
          value={present}
          onValue={setPresent}
          required
        />
        <Input
          label={t("users.password.new")}
          hint={t("setup.password.hint", { n: 8 })}
          type="password"
          autocomplete="new-password"
          value={password}
          onValue={setPassword}
          required
        />
        <Trouble error={error} />
        <div>
          <Button submit>{t("settings.password.go")}</Button>
        </div>
      </form>
    </Card>
  );
}

interface Status {
  gateway: string;
  epoch: string;
  version: string;
  uptime: number;
  encryption: string;
}

function About() {
  const { data: s, error } = useGet<Status>("/v1/status", 10);
  return (
    <Card title={t("settings.about")}>
      <Trouble error={error} />
      {s && (
        <Facts
          rows={[
            [t("start.name"), s.gateway],
            [t("settings.version"), s.version],
            [t("settings.uptime"), span(s.uptime, language.value)],
            [t("settings.epoch"), s.epoch],
            [t("settings.encryption"), s.encryption === "plain" ? t("settings.plain") : s.encryption],
            [
              t("settings.api"),
              <a key="a" href="./openapi.yaml">
                OpenAPI
              </a>,
            ],
          ]}
        />
      )}
    </Card>
  );
}
