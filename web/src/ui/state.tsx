// Where a message stands with one receiver, and other states: each a shape and a word.
import type { Outcome } from "../core/nouns";
import { maybe, t, type Word } from "../core/words";
import type { IconName } from "./icon";
import { Badge, type Mood } from "./parts";

const looks: Record<Outcome, [Mood, IconName]> = {
  stored: ["", "ring"],
  waiting: ["warn", "clock"],
  sent: ["info", "arrow"],
  delivered: ["good", "check"],
  expired: ["bad", "clock"],
  dead: ["bad", "cross"],
  cancelled: ["", "cross"],
  lost: ["bad", "warning"],
};

export function StateBadge({ state }: { state: Outcome }) {
  const [mood, icon] = looks[state] ?? ["", "ring"];
  return (
    <Badge mood={mood} icon={icon}>
      {t(`state.${state}` as Word)}
    </Badge>
  );
}

export function Online({ online }: { online: boolean }) {
  return online ? (
    <Badge mood="good" icon="dot">
      {t("device.online")}
    </Badge>
  ) : (
    <Badge mood="" icon="ring">
      {t("device.offline")}
    </Badge>
  );
}

const bridges: Record<string, [Mood, IconName]> = {
  connected: ["good", "check"],
  connecting: ["", "clock"],
  waiting: ["warn", "clock"],
  misconfigured: ["bad", "warning"],
  paused: ["warn", "pause"],
  draining: ["info", "arrow"],
  orphaned: ["bad", "warning"],
};

export function BridgeBadge({ state }: { state: string }) {
  const [mood, icon] = bridges[state] ?? ["", "ring"];
  return (
    <Badge mood={mood} icon={icon}>
      {maybe(`state.bridge-${state}`) ?? state}
    </Badge>
  );
}
