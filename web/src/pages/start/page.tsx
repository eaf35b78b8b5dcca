// After set-up: the gateway's name and clock, the first device, its first message, and one back to it.
import { useState } from "preact/hooks";
import { post } from "../../core/api";
import { moment, span } from "../../core/format";
import { live } from "../../core/live";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { GatewayName } from "../../ui/gatewayname";
import { Badge, Banner, Button, Card, Head, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Hello } from "./hello";

export function Start() {
  return (
    <>
      <Head title={t("start.title")} about={t("start.about")} />
      <div class="two">
        <GatewayName />
        <Clock />
      </div>
      <First />
      <div>
        <a class="button" href={format("")}>
          {t("start.done")}
        </a>
      </div>
    </>
  );
}

const SKEW = 5; // seconds that nobody needs to hear of

function Clock() {
  const tick = live.value.tick;
  if (!tick) return null;
  const off = Math.abs(Date.parse(tick.time) - Date.now()) / 1000;
  const l = language.value;
  return (
    <Card title={t("start.clock")}>
      <div class="row">
        <span class="number">{moment(tick.time, l, new Date())}</span>
        {off <= SKEW ? (
          <Badge mood="good">{t("start.clock.same")}</Badge>
        ) : (
          <Badge mood="warn">{t("start.clock.off", { span: span(off, l) })}</Badge>
        )}
      </div>
      <p class="soft">{tick.clock_trusted ? t("start.clock.trusted") : t("start.clock.untrusted")}</p>
    </Card>
  );
}

function First() {
  const [id, setId] = useState("lamp1");
  const [made, setMade] = useState<{ id: string; token: string }>();
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    try {
      setMade(await post<{ id: string; token: string }>("/v1/devices", { id }));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Card title={t("start.device")}>
      {made ? (
        <>
          <Banner mood="calm" icon="info">
            {t("token.once", { id: made.id })}
          </Banner>
          <Hello id={made.id} token={made.token} />
        </>
      ) : (
        <form class="stack" onSubmit={submit}>
          <p class="soft">{t("start.device.about")}</p>
          <div class="row">
            <div class="grow">
              <Input label={t("device.id")} hint={t("device.id.hint")} value={id} onValue={setId} required />
            </div>
          </div>
          <Trouble error={error} />
          <div>
            <Button submit look="primary" icon="plus">
              {t("devices.add")}
            </Button>
          </div>
        </form>
      )}
    </Card>
  );
}
