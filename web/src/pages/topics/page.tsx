// Topics as they come: a tree of what there is, the newest messages, and one topic closely.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, moment } from "../../core/format";
import type { Message } from "../../core/nouns";
import { preview } from "../../core/payload";
import { refine } from "../../core/router";
import { follow, noTail, seen, type Tail, tree } from "../../core/tail";
import { language, t } from "../../core/words";
import { useStream } from "../../ui/follow";
import { Badge, Banner, Button, Card, Empty, Head, Input } from "../../ui/parts";
import { Close } from "./close";
import { Branches } from "./tree";

const FRAME = 250; // ms between two drawings

export function Topics({ query }: { query: Record<string, string> }) {
  const filter = query.filter ?? "#";
  const [typed, setTyped] = useState(filter);
  const [paused, setPaused] = useState(false);
  const [up, setUp] = useState(true);
  const [gap, setGap] = useState(false);
  const [tail, setTail] = useState<Tail>(noTail);
  const fresh = useRef<Message[]>([]);
  useEffect(() => {
    setTail(noTail);
    fresh.current = [];
    setTyped(filter);
    setGap(false);
  }, [filter]);
  const onMessage = (m: Message) => {
    if (!paused) fresh.current.push(m); // the stream ends a frame after the button
  };
  useStream(filter, !paused, { onMessage, onLink: setUp, onGap: () => setGap(true) });
  useEffect(() => {
    const timer = setInterval(() => {
      if (fresh.current.length === 0) return;
      const batch = fresh.current;
      fresh.current = [];
      setTail((s) => seen(s, batch, Date.now()));
    }, FRAME);
    return () => clearInterval(timer);
  }, []);
  const topic = query.topic ?? "";
  const chosen = tail.values.get(topic);
  return (
    <>
      <Head title={t("nav.topics")} about={t("topics.about")}>
        <Badge mood={paused ? "warn" : up ? "good" : "bad"} icon={paused ? "pause" : up ? "check" : "warning"}>
          {paused ? t("topics.paused") : up ? t("link.live") : t("link.lost")}
        </Badge>
        <Button icon={paused ? "play" : "pause"} onClick={() => setPaused(!paused)}>
          {paused ? t("topics.go") : t("topics.pause")}
        </Button>
        <Button onClick={() => setTail(noTail)}>{t("topics.clear")}</Button>
      </Head>
      <form
        class="row bottom"
        onSubmit={(e) => {
          e.preventDefault();
          refine({ filter: typed, topic: undefined });
        }}
      >
        <div class="grow">
          <Input label={t("topics.filter")} value={typed} onValue={setTyped} placeholder="device/+/out/#" />
        </div>
        <Button submit>{t("topics.follow")}</Button>
      </form>
      {gap && <Banner icon="info">{t("topics.gap")}</Banner>}
      <Counts tail={tail} />
      {tail.total === 0 ? (
        <Card>
          <Empty icon="topics" title={t("topics.empty")}>
            <p class="soft">{t("topics.empty.how")}</p>
          </Empty>
        </Card>
      ) : (
        <div class="two topics">
          <Tree tail={tail} topic={topic} />
          {chosen ? (
            <Close
              topic={topic}
              value={chosen}
              curve={tail.curve}
              onCurve={(path) => setTail((s) => follow(s, topic, path))}
            />
          ) : (
            <Newest tail={tail} />
          )}
        </div>
      )}
    </>
  );
}

function Counts({ tail }: { tail: Tail }) {
  const l = language.value;
  if (tail.total === 0) return null;
  return (
    <p class="soft small number">
      {t("topics.count", { n: count(tail.total, l), topics: count(tail.values.size, l) })}
      {tail.skipped > 0 && ` · ${t("topics.skipped", { n: count(tail.skipped, l) })}`}
      {tail.unlisted > 0 && ` · ${t("topics.unlisted", { n: count(tail.unlisted, l) })}`}
    </p>
  );
}

function Tree({ tail, topic }: { tail: Tail; topic: string }) {
  const branches = useMemo(() => tree(tail.values), [tail.values]);
  return (
    <Card title={t("topics.tree")}>
      <div class="tree">
        <Branches branches={branches} chosen={topic} onChoose={(x) => refine({ topic: x })} depth={0} />
      </div>
    </Card>
  );
}

function Newest({ tail }: { tail: Tail }) {
  return (
    <Card title={t("topics.newest")}>
      <p class="soft small">{t("topics.choose")}</p>
      <ul class="tail">
        {tail.rows.slice(0, 60).map((r) => (
          <li key={r.n}>
            <span class="row apart">
              <button type="button" class="link break" onClick={() => refine({ topic: r.message.topic })}>
                {r.message.topic}
              </button>
              <span class="soft small number">{moment(r.at, language.value, new Date())}</span>
            </span>
            <code class="break">{preview(r.message)}</code>
          </li>
        ))}
      </ul>
    </Card>
  );
}
