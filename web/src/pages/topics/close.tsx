// One topic closely: its newest value, what changed, and a number of it as a curve.
import { useEffect } from "preact/hooks";
import { moment, rate } from "../../core/format";
import { diff, numbers, render, views } from "../../core/payload";
import { format } from "../../core/router";
import type { Tail, Value } from "../../core/tail";
import { language, t } from "../../core/words";
import { Card, Select } from "../../ui/parts";
import { Payload } from "../../ui/payload";
import { Plot } from "../../ui/plot";

interface Props {
  topic: string;
  value: Value;
  curve: Tail["curve"];
  onCurve: (path: string) => void;
}

export function Close({ topic, value, curve, onCurve }: Props) {
  const m = value.message;
  const found = numbers(m);
  const first = found[0]?.[0];
  useEffect(() => {
    if (first !== undefined && curve.topic !== topic) onCurve(first);
  }, [topic, first]);
  const l = language.value;
  const drawn = curve.topic === topic && curve.t.length > 0;
  return (
    <div class="stack">
      <Card
        title={<span class="break">{topic}</span>}
        tools={
          <a class="button small" href={format("messages", "", { topic })}>
            {t("topics.send")}
          </a>
        }
      >
        <p class="soft small number">
          {moment(value.at, l, new Date())} · {t("topics.seen", { n: value.count })}
          {m.from && ` · ${m.from}`} {m.id && <a href={format("messages", m.id)}>{m.id}</a>}
        </p>
        <Payload message={m} />
      </Card>
      {value.before && <Changed value={value} />}
      {found.length > 0 && (
        <Card>
          <Select
            label={t("topics.number")}
            value={curve.path}
            onValue={onCurve}
            options={found.map(([p]) => [p, p || t("topics.whole")])}
          />
          {drawn && (
            <Plot
              title={curve.path || topic}
              t={curve.t}
              show={(v) => rate(v, l)}
              lines={[{ name: curve.path || t("topics.whole"), values: curve.v }]}
            />
          )}
        </Card>
      )}
    </div>
  );
}

function Changed({ value }: { value: Value }) {
  const view = views(value.message)[0]!;
  const lines = diff(render(value.before!, view), render(value.message, view));
  if (lines.every((x) => x.sign === " ")) {
    return (
      <Card title={t("topics.changed")}>
        <p class="soft">{t("topics.same")}</p>
      </Card>
    );
  }
  return (
    <Card title={t("topics.changed")}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre class="payload" tabIndex={0}>
        {lines.map((x, i) => (
          <div key={i} class={x.sign === "+" ? "added" : x.sign === "-" ? "gone" : ""}>
            {x.sign} {x.text}
          </div>
        ))}
      </pre>
    </Card>
  );
}
