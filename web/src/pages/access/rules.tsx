// Rules: four lists of topic filters; deny wins, and what nothing allows is denied.
import type { Rules } from "../../core/nouns";
import { t } from "../../core/words";
import { Area } from "../../ui/parts";

const lists = ["publish", "subscribe", "deny_publish", "deny_subscribe"] as const;

export type RuleText = Record<(typeof lists)[number], string>;

export const noRules: RuleText = { publish: "", subscribe: "", deny_publish: "", deny_subscribe: "" };

export function textOfRules(r: Rules | undefined): RuleText {
  return Object.fromEntries(lists.map((k) => [k, (r?.[k] ?? []).join("\n")])) as RuleText;
}

export function rulesOf(text: RuleText): Rules {
  const out: Rules = {};
  for (const k of lists) {
    const filters = text[k].split(/\s+/).filter(Boolean);
    if (filters.length > 0) out[k] = filters;
  }
  return out;
}

export function RuleFields({ value, onValue }: { value: RuleText; onValue: (v: RuleText) => void }) {
  const area = (k: (typeof lists)[number], label: string) => (
    <Area label={label} rows={2} value={value[k]} onValue={(v) => onValue({ ...value, [k]: v })} />
  );
  return (
    <fieldset class="stack tight rules">
      <legend>{t("rules")}</legend>
      <p class="soft small">{t("rules.about")}</p>
      <div class="pair">
        {area("publish", t("rules.publish"))}
        {area("subscribe", t("rules.subscribe"))}
      </div>
      <details open={value.deny_publish + value.deny_subscribe !== ""}>
        <summary>{t("rules.deny")}</summary>
        <div class="pair">
          {area("deny_publish", t("rules.deny_publish"))}
          {area("deny_subscribe", t("rules.deny_subscribe"))}
        </div>
      </details>
    </fieldset>
  );
}

export function RuleList({ rules }: { rules?: Rules }) {
  const parts = lists.flatMap((k) => (rules?.[k] ?? []).map((f) => ({ k, f })));
  if (parts.length === 0) return <span class="soft">{t("rules.none")}</span>;
  return (
    <span class="row tags">
      {parts.map(({ k, f }) => (
        <span key={k + f} class="tag break">
          {t(`rules.${k}`)} <code>{f}</code>
        </span>
      ))}
    </span>
  );
}
