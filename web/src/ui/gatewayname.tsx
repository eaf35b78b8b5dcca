// The gateway's name, as a form.
import { useState } from "preact/hooks";
import { put } from "../core/api";
import { gateway } from "../core/session";
import { t } from "../core/words";
import { Button, Card, Input } from "./parts";
import { Trouble } from "./problem";
import { toast } from "./toast";

export function GatewayName() {
  const [name, setName] = useState(gateway.value);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await put("/v1/gateway", { name });
      gateway.value = name;
      toast(t("start.named", { name }));
    } catch (e) {
      setError(e);
    }
    setBusy(false);
  };
  return (
    <Card title={t("start.name")}>
      <form class="stack" onSubmit={submit}>
        <Input label={t("start.name.label")} hint={t("start.name.hint")} value={name} onValue={setName} required />
        <Trouble error={error} />
        <div>
          <Button submit busy={busy} disabled={name === gateway.value}>
            {t("save")}
          </Button>
        </div>
      </form>
    </Card>
  );
}
