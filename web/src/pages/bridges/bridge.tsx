// One bridge: how it is, what waits, what went over it, and the ways to steer it.
import { useState } from "preact/hooks";
import { bytes, count, moment, rate, span } from "../../core/format";
import { format } from "../../core/router";
import { language, t } from "../../core/words";
import { Banner, Button, Card, Code, Empty, Facts, Head, Tile } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";
import { BridgeBadge } from "../../ui/state";
import { toast } from "../../ui/toast";
import { Ailment, Ails, ails } from "./ails";
import { Down, Up } from "./counters";
import { eta } from "./list";
import { type Answer, type BridgeView, order } from "./noun";
import { Remove, Rewind, Skip } from "./steer";
import { useBridges } from "./watch";

export function Bridge({ name }: { name: string }) {
  const { data, error, again } = useBridges();
  const b = data?.bridges.find((x) => x.name === name);
  const runs = b && b.state !== "orphaned";
  return (
    <>
      <Head title={name} about={b && <Now b={b} />}>
        {runs && <Controls b={b} again={again} />}
      </Head>
      <Trouble error={error} again={again} />
      {data && !b && (
        <Empty icon="bridges" title={t("bridge.gone")}>
          <a class="button" href={format("bridges")}>
            {t("bridges.all")}
          </a>
        </Empty>
      )}
      {b && (
        <>
          <Ails b={b} />
          <Lag b={b} />
          {runs && <Steering b={b} again={again} />}
          {runs && (
            <div class="two top">
              <Up b={b} />
              <Down b={b} />
            </div>
          )}
          <Configuration b={b} again={again} />
        </>
      )}
    </>
  );
}

function Now({ b }: { b: BridgeView }) {
  return (
    <span class="row">
      <span role="status">
        <BridgeBadge state={b.state} />
      </span>
      {b.since && <span>{t("bridge.since", { time: moment(b.since, language.value, new Date()) })}</span>}
      <span class="break">{[b.kind, b.url].filter(Boolean).join(" · ")}</span>
    </span>
  );
}

function Lag({ b }: { b: BridgeView }) {
  const l = language.value;
  return (
    <div class="tiles">
      <Tile
        name={t("bridge.owed")}
        value={count(b.owed, l)}
        note={b.owed > 0 ? t("bridge.bytes", { bytes: bytes(b.bytes, l) }) : t("bridge.none")}
      />
      <Tile name={t("bridge.oldest")} value={b.owed > 0 ? span(b.oldest_age, l) : "–"} />
      <Tile name={t("bridge.eta")} value={eta(b)} />
      <Tile name={t("bridge.rate")} value={rate(b.rate, l)} />
    </div>
  );
}

/** Controls are the orders that destroy nothing. */
function Controls({ b, again }: { b: BridgeView; again: () => void }) {
  const give = async (what: string) => {
    try {
      await order(b.name, what);
    } catch (e) {
      complain(e);
    }
    again();
  };
  const stopped = b.state === "paused";
  return (
    <>
      {b.state !== "draining" && b.owed > 0 && (
        <Button icon="arrow" onClick={() => void give("drain")}>
          {t("bridge.drain")}
        </Button>
      )}
      {(stopped || b.state === "draining" || b.state === "waiting" || b.state === "misconfigured") && (
        <Button icon="play" look={stopped ? "primary" : ""} onClick={() => void give("resume")}>
          {stopped ? t("bridge.resume") : b.state === "draining" ? t("bridge.go-on") : t("bridge.try")}
        </Button>
      )}
      {!stopped && (
        <Button icon="pause" onClick={() => void give("pause")}>
          {t("bridge.pause")}
        </Button>
      )}
    </>
  );
}

function Steering({ b, again }: { b: BridgeView; again: () => void }) {
  const [open, setOpen] = useState<"rewind" | "skip">();
  const close = () => {
    setOpen(undefined);
    again();
  };
  return (
    <div class="two top">
      <Test name={b.name} />
      {b.config?.up?.filters?.length ? (
        <Card title={t("bridge.backlog")}>
          <p class="soft">{t("bridge.backlog.about")}</p>
          <div class="row">
            <Button onClick={() => setOpen("rewind")}>{t("bridge.rewind")}…</Button>
            <Button look="danger" disabled={b.owed === 0} onClick={() => setOpen("skip")}>
              {t("bridge.skip")}…
            </Button>
          </div>
        </Card>
      ) : null}
      {open === "rewind" && <Rewind name={b.name} onClose={close} />}
      {open === "skip" && <Skip b={b} onClose={close} />}
    </div>
  );
}

/** Test asks whether the upstream would take a connection now, beside the one that may be there. */
function Test({ name }: { name: string }) {
  const [busy, setBusy] = useState(false);
  const [answer, setAnswer] = useState<Answer>();
  const [error, setError] = useState<unknown>();
  const test = async () => {
    setBusy(true);
    setAnswer(undefined);
    setError(undefined);
    try {
      setAnswer(await order(name, "test"));
    } catch (e) {
      setError(e);
    }
    setBusy(false);
  };
  return (
    <Card title={t("bridge.test")}>
      <div role="status">
        {answer?.ok ? (
          <Banner mood="good" icon="check">
            {t("bridge.test.ok", { host: answer.url ?? "" })}
          </Banner>
        ) : (
          <p class="soft">{t("bridge.test.about")}</p>
        )}
      </div>
      <div>
        <Button icon="bridges" busy={busy} onClick={() => void test()}>
          {busy ? t("bridge.testing") : t("bridge.test.go")}
        </Button>
      </div>
      {answer && !answer.ok && (
        <Banner mood="bad">
          <Ailment text={answer.error ?? ""} />
        </Banner>
      )}
      <Trouble error={error} />
    </Card>
  );
}

function Configuration({ b, again }: { b: BridgeView; again: () => void }) {
  const [remove, setRemove] = useState(false);
  const file = b.source === "file";
  return (
    <Card title={t("bridge.configuration")}>
      {b.config && (
        <>
          <Facts
            rows={[
              [t("bridge.source"), t(file ? "bridge.source.file" : "bridge.source.api")],
              ...(b.error && !ails(b)
                ? [
                    [t("bridge.error"), `${b.error} (${moment(b.error_at, language.value, new Date())})`] as [
                      string,
                      string,
                    ],
                  ]
                : []),
            ]}
          />
          <details>
            <summary>{t("bridge.keys")}</summary>
            <Code text={JSON.stringify(b.config, null, 2)} />
          </details>
        </>
      )}
      {!file && (
        <div>
          <Button icon="trash" look="danger" onClick={() => setRemove(true)}>
            {t("bridge.remove")}…
          </Button>
        </div>
      )}
      {remove && (
        <Remove
          b={b}
          onClose={() => {
            setRemove(false);
            again();
          }}
          done={() => toast(t("bridge.removed"))}
        />
      )}
    </Card>
  );
}
