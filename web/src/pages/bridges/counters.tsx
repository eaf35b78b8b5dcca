// What went over a bridge since it was started, each way.
import { bytes, count } from "../../core/format";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Card, Facts } from "../../ui/parts";
import type { BridgeView } from "./noun";

export function Up({ b }: { b: BridgeView }) {
  const up = b.config?.up;
  const c = b.counters;
  if (!up?.filters?.length) return null;
  const n = (key: string) => count(c[key] ?? 0, language.value);
  return (
    <Card title={t("bridge.up")}>
      <Facts
        rows={[
          [t("bridge.filters"), up.filters.join(", ")],
          [t("bridge.to"), up.to ?? ""],
          [t("bridge.sent"), `${n("sent")} · ${bytes(c.sent_bytes ?? 0, language.value)}`],
          [
            t("bridge.flight"),
            b.window
              ? t("bridge.flight.of", { n: count(b.in_flight, language.value), most: count(b.window, language.value) })
              : count(b.in_flight, language.value),
          ],
          [t("bridge.confirmed"), n("confirmed")],
          [t("bridge.refused"), n("refused")],
          [
            t("bridge.dead"),
            c.dead ? (
              <a key="dead" href={format("dead")}>
                {n("dead")}
              </a>
            ) : (
              "0"
            ),
          ],
        ]}
      />
    </Card>
  );
}

export function Down({ b }: { b: BridgeView }) {
  const down = b.config?.down;
  const c = b.counters;
  if (!down?.from?.length) return null;
  const n = (key: string) => count(c[key] ?? 0, language.value);
  return (
    <Card title={t("bridge.down")}>
      <Facts
        rows={[
          [t("bridge.from"), down.from.join(", ")],
          [t("bridge.to"), down.to || t("bridge.subject")],
          [t("bridge.received"), `${n("received")} · ${bytes(c.received_bytes ?? 0, language.value)}`],
          [t("bridge.stored"), n("stored")],
          [t("bridge.repeated"), n("repeated")],
          [t("bridge.looped"), n("looped")],
          [
            t("bridge.not-taken"),
            c.not_taken ? (
              <a key="refused" href={format("topics", "", { filter: `$edge/bridge/${b.name}/refused` })}>
                {n("not_taken")}
              </a>
            ) : (
              "0"
            ),
          ],
        ]}
      />
    </Card>
  );
}
