// What ails a bridge.
import { moment } from "../../core/format";
import { language, t } from "../../core/words";
import { Banner } from "../../ui/parts";
import { cause } from "./cause";
import type { BridgeView } from "./noun";

/** Words of an error: the cause in the page's language, then what the gateway said. */
export function Ailment({ text }: { text: string }) {
  const known = cause(text);
  return (
    <>
      {known && <div>{known}</div>}
      <div class={known ? "small soft break" : "break"}>{text}</div>
    </>
  );
}

/** ails says whether the last error is what keeps it from its upstream now. */
export const ails = (b: BridgeView) => !!b.error && (b.state === "waiting" || b.state === "misconfigured");

/** Ails is what keeps a bridge from its upstream now, and what happens next. */
export function Ails({ b }: { b: BridgeView }) {
  if (b.state === "orphaned") return <Banner mood="bad">{t("bridge.orphaned")}</Banner>;
  if (b.state === "paused") return <Banner icon="pause">{t("bridge.paused")}</Banner>;
  if (b.state === "draining") return <Banner icon="arrow">{t("bridge.draining")}</Banner>;
  if (b.holds) {
    return (
      <Banner icon="clock">
        <Ailment text={b.holds} />
        <div class="small">{t("bridge.holds", { n: b.owed })}</div>
      </Banner>
    );
  }
  if (!ails(b)) return null;
  return (
    <Banner mood={b.state === "misconfigured" ? "bad" : ""}>
      <Ailment text={b.error ?? ""} />
      {b.retry_at && (
        <div class="small">{t("bridge.retry", { time: moment(b.retry_at, language.value, new Date()) })}</div>
      )}
      <div class="small">{t(b.state === "misconfigured" ? "bridge.misconfigured" : "bridge.kept")}</div>
    </Banner>
  );
}
