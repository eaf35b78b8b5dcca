// What was sent from this page since it was opened, each with where it is.
import { format } from "../../core/router";
import { t } from "../../core/words";
import { Badge, Card } from "../../ui/parts";
import { summary, useTrace } from "../../ui/places";
import { StateBadge } from "../../ui/state";

export function Sent({ ids }: { ids: string[] }) {
  return (
    <Card title={t("messages.sent")}>
      {ids.length === 0 ? (
        <p class="soft">{t("messages.sent.none")}</p>
      ) : (
        <ul class="stack">
          {ids.map((id) => (
            <Line key={id} id={id} />
          ))}
        </ul>
      )}
    </Card>
  );
}

function Line({ id }: { id: string }) {
  const { trace, error } = useTrace(id);
  const states = trace?.states ?? [];
  return (
    <li class="stack tight">
      <span class="row apart">
        <a class="mono break" href={format("messages", id)}>
          {id}
        </a>
        {error && !trace ? (
          <Badge mood="bad">{t("messages.unknown")}</Badge>
        ) : states.length === 1 ? (
          <StateBadge state={states[0]!.state} />
        ) : null}
      </span>
      <span class="soft small" role="status">
        {trace?.message?.topic} {states.length === 0 ? t("messages.nobody") : summary(states)}
      </span>
    </li>
  );
}
