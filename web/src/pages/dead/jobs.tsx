// Sending many again is a job of the gateway, with its progress and a way to stop it.
import { useEffect, useState } from "preact/hooks";
import { path, post, remove } from "../../core/api";
import { count } from "../../core/format";
import { reason } from "../../core/reason";
import { language, t, type Word } from "../../core/words";
import { Dialog } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Badge, Banner, Button, Card, Select } from "../../ui/parts";
import { complain, Trouble } from "../../ui/problem";

interface Job {
  id: string;
  what: string;
  state: "running" | "done" | "stopped" | "failed";
  total: number;
  done: number;
  failed: number;
  error?: string;
}

export function Jobs() {
  const [busy, setBusy] = useState(false);
  const list = useGet<{ jobs: Job[] | null }>("/v1/jobs", busy ? 1 : 5);
  const jobs = list.data?.jobs ?? [];
  const running = jobs.some((j) => j.state === "running");
  useEffect(() => setBusy(running), [running]);
  const shown = jobs.slice(-1);
  const stop = async (j: Job) => {
    try {
      await remove(path`/v1/jobs/${j.id}`);
    } catch (e) {
      complain(e);
    }
    list.again();
  };
  return (
    <>
      {shown.map((j) => (
        <Card
          key={j.id}
          title={t("job.requeue")}
          tools={
            j.state === "running" ? <Button onClick={() => void stop(j)}>{t("job.stop")}</Button> : <Outcome job={j} />
          }
        >
          <progress max={Math.max(j.total, 1)} value={j.done + j.failed} aria-label={t("job.requeue")} />
          <p class="soft small number" role="status">
            {t("job.progress", { done: count(j.done, language.value), total: count(j.total, language.value) })}
            {j.failed > 0 && ` · ${t("job.failed.count", { n: j.failed })}`}
          </p>
          {j.error && <Banner mood="bad">{j.error}</Banner>}
        </Card>
      ))}
    </>
  );
}

function Outcome({ job }: { job: Job }) {
  const mood = job.state === "done" ? "good" : job.state === "failed" ? "bad" : "warn";
  return (
    <Badge mood={mood} icon={job.state === "done" ? "check" : "pause"}>
      {t(`state.job-${job.state}` as Word)}
    </Badge>
  );
}

export function RequeueMany({ cause, count: n, onClose }: { cause?: string; count: number; onClose: () => void }) {
  const [rate, setRate] = useState("10");
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    try {
      await post("/v1/dead/requeue", { reason: cause || undefined, rate: Number(rate) });
      onClose();
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={t("dead.many")} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <p>{cause ? t("dead.many.cause", { n, cause: reason(cause) }) : t("dead.many.text", { n })}</p>
        <Select
          label={t("dead.rate")}
          value={rate}
          onValue={setRate}
          options={["1", "10", "100", "1000"].map((r): [string, string] => [r, t("dead.rate.each", { n: r })])}
        />
        <Trouble error={error} />
        <div class="row end">
          <Button onClick={onClose}>{t("cancel")}</Button>
          <Button submit look="primary" icon="send">
            {t("dead.begin")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
