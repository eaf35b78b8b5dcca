// Adding a device: its name, then its token and how to use it.
import { useState } from "preact/hooks";
import { post } from "../../core/api";
import { format } from "../../core/router";
import { t } from "../../core/words";
import { Dialog } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Banner, Button, Input, Select } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Hello } from "../start/hello";

export interface ProfileInfo {
  name: string;
  about: string;
}

export function ProfileSelect({ value, onValue }: { value: string; onValue: (v: string) => void }) {
  const { data } = useGet<{ profiles: ProfileInfo[] }>("/v1/profiles");
  const options = (data?.profiles ?? []).map((p): [string, string] => [p.name, p.name]);
  return (
    <Select
      label={t("device.profile")}
      value={value}
      onValue={onValue}
      options={[["", t("device.profile.none")], ...options]}
    />
  );
}

export function AddDevice({ onClose }: { onClose: () => void }) {
  const [id, setId] = useState("");
  const [label, setLabel] = useState("");
  const [groups, setGroups] = useState("");
  const [profile, setProfile] = useState("");
  const [made, setMade] = useState<{ id: string; token: string }>();
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    try {
      const body = { id, label, groups: groups.split(/[\s,]+/).filter(Boolean), profile: profile || undefined };
      setMade(await post("/v1/devices", body));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={t("devices.add")} onClose={onClose}>
      {made ? (
        <>
          <Banner mood="calm" icon="info">
            {t("token.once", { id: made.id })}
          </Banner>
          <Hello id={made.id} token={made.token} />
          <div class="row end">
            <a class="button primary" href={format("devices", made.id)}>
              {t("devices.open", { id: made.id })}
            </a>
          </div>
        </>
      ) : (
        <form class="stack" onSubmit={submit}>
          <Input label={t("device.id")} hint={t("device.id.hint")} value={id} onValue={setId} autofocus required />
          <Input label={t("device.label")} hint={t("device.label.hint")} value={label} onValue={setLabel} />
          <Input label={t("devices.groups")} hint={t("device.groups.hint")} value={groups} onValue={setGroups} />
          <ProfileSelect value={profile} onValue={setProfile} />
          <Trouble error={error} />
          <div class="row end">
            <Button onClick={onClose}>{t("cancel")}</Button>
            <Button submit look="primary">
              {t("devices.add")}
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
