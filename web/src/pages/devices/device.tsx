// One device: its queue, what happened to it, a box to send to it, its credentials.
import { useState } from "preact/hooks";
import { path, put, remove } from "../../core/api";
import { count, moment, span } from "../../core/format";
import type { DeviceRow, Device as Registered } from "../../core/nouns";
import { reason } from "../../core/reason";
import { go, refine } from "../../core/router";
import { language, t } from "../../core/words";
import { Confirm, Dialog } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Button, Card, Facts, Head, Input, Tabs } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Online } from "../../ui/state";
import { toast } from "../../ui/toast";
import { ProfileSelect } from "./add";
import { Credentials } from "./credentials";
import { Queue } from "./queue";
import { SendBox } from "./sendbox";
import { Timeline } from "./timeline";

export function Device({ id, tab }: { id: string; tab: string }) {
  const device = useGet<Registered>(path`/v1/devices/${id}`, 3);
  const row = useGet<{ devices: DeviceRow[] }>(`/v1/devices?search=${encodeURIComponent(id)}&limit=50`, 3);
  const [dialog, setDialog] = useState<"edit" | "remove">();
  const d = device.data;
  if (!d) {
    return (
      <>
        <Head title={id} />
        <Trouble error={device.error} again={device.again} />
      </>
    );
  }
  const seen = row.data?.devices.find((x) => x.id === id);
  return (
    <>
      <Head
        title={id}
        about={
          <>
            <Online online={!!d.inbox?.connected} /> {d.label}
          </>
        }
      >
        <Button onClick={() => setDialog("edit")}>{t("edit")}</Button>
        <Button look="danger" icon="trash" onClick={() => setDialog("remove")}>
          {t("remove")}
        </Button>
      </Head>
      <Summary d={d} seen={seen} />
      <Tabs
        label={id}
        now={tab}
        onTab={(x) => refine({ tab: x })}
        tabs={[
          ["queue", t("device.queue")],
          ["timeline", t("device.timeline")],
          ["send", t("send")],
          ["credentials", t("device.credentials")],
        ]}
      />
      <div role="tabpanel" aria-labelledby={`tab-${tab}`} class="stack">
        {tab === "queue" && <Queue id={id} />}
        {tab === "timeline" && <Timeline id={id} />}
        {tab === "send" && <SendBox id={id} />}
        {tab === "credentials" && <Credentials id={id} />}
      </div>
      {dialog === "edit" && <Edit d={d} onClose={() => setDialog(undefined)} done={device.again} />}
      {dialog === "remove" && (
        <Confirm
          title={t("device.remove", { id })}
          text={t("device.remove.text", { n: d.inbox?.depth ?? 0 })}
          word={id}
          action={t("remove")}
          onClose={() => setDialog(undefined)}
          run={async () => {
            await remove(path`/v1/devices/${id}`);
            toast(t("device.removed", { id }));
            go("devices");
          }}
        />
      )}
    </>
  );
}

function Summary({ d, seen }: { d: Registered; seen?: DeviceRow }) {
  const l = language.value;
  const now = new Date();
  const box = d.inbox;
  const rows: Parameters<typeof Facts>[0]["rows"] = [
    [
      box?.connected ? t("device.since") : t("device.away"),
      <span key="s">
        {(seen?.since ?? box?.since) ? moment(seen?.since ?? box?.since, l, now) : t("device.never")}{" "}
        {!box?.connected && <span class="soft">{reason(seen?.reason)}</span>}
      </span>,
    ],
    [t("devices.seen"), box?.connected ? t("devices.now") : moment(seen?.last_seen, l, now)],
    [
      t("overview.owed"),
      box?.depth ? `${count(box.depth, l)} · ${t("overview.oldest", { span: span(box.oldest_age ?? 0, l) })}` : "0",
    ],
    [t("device.flight"), count(box?.in_flight ?? 0, l)],
    [t("devices.dropped"), count(seen?.dropped ?? 0, l)],
    [t("devices.groups"), (d.groups ?? []).join(", ") || "–"],
    [t("device.profile"), d.profile || "–"],
    [t("device.created"), moment(d.created, l, now)],
  ];
  return (
    <Card>
      <div class="two">
        <Facts rows={rows.slice(0, 4)} />
        <Facts rows={rows.slice(4)} />
      </div>
    </Card>
  );
}

function Edit({ d, onClose, done }: { d: Registered; onClose: () => void; done: () => void }) {
  const [label, setLabel] = useState(d.label ?? "");
  const [groups, setGroups] = useState((d.groups ?? []).join(" "));
  const [profile, setProfile] = useState(d.profile ?? "");
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    try {
      await put(path`/v1/devices/${d.id}`, {
        label,
        groups: groups.split(/[\s,]+/).filter(Boolean),
        rules: d.rules,
        profile: profile || undefined,
      });
      done();
      onClose();
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={t("device.edit", { id: d.id })} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <Input label={t("device.label")} hint={t("device.label.hint")} value={label} onValue={setLabel} autofocus />
        <Input label={t("devices.groups")} hint={t("device.groups.hint")} value={groups} onValue={setGroups} />
        <ProfileSelect value={profile} onValue={setProfile} />
        <Trouble error={error} />
        <div class="row end">
          <Button onClick={onClose}>{t("cancel")}</Button>
          <Button submit look="primary">
            {t("save")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
