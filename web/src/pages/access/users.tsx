// People who sign in.
import { useState } from "preact/hooks";
import { path, post, put, remove } from "../../core/api";
import { moment } from "../../core/format";
import type { Rules } from "../../core/nouns";
import { language, t } from "../../core/words";
import { Confirm, Dialog } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Badge, Button, Card, Check, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";
import { RuleFields, RuleList, rulesOf, textOfRules } from "./rules";

interface User {
  name: string;
  label?: string;
  admin?: boolean;
  rules?: Rules;
  created?: string;
}

export function Users() {
  const list = useGet<{ users: User[] | null }>("/v1/users");
  const [edit, setEdit] = useState<User | "new">();
  const [gone, setGone] = useState("");
  return (
    <Card
      title={t("access.users")}
      tools={
        <Button icon="plus" look="primary" onClick={() => setEdit("new")}>
          {t("users.add")}
        </Button>
      }
    >
      <Trouble error={list.error} again={list.again} />
      <Table
        caption={t("access.users")}
        rows={list.data?.users ?? []}
        id={(u) => u.name}
        columns={[
          {
            name: t("name"),
            kind: "lead",
            cell: (u) => (
              <span>
                {u.name} <span class="soft">{u.label}</span> {u.admin && <Badge mood="info">{t("access.admin")}</Badge>}
              </span>
            ),
          },
          { name: t("rules"), cell: (u) => <RuleList rules={u.rules} /> },
          {
            name: t("device.created"),
            cell: (u) => <span class="number">{moment(u.created, language.value, new Date())}</span>,
          },
          {
            name: t("actions"),
            kind: "tight",
            cell: (u) => (
              <span class="row end">
                <Button look="small" label={t("users.edit", { name: u.name })} onClick={() => setEdit(u)}>
                  {t("edit")}
                </Button>
                <Button
                  look="small bare danger"
                  icon="trash"
                  label={t("users.remove", { name: u.name })}
                  onClick={() => setGone(u.name)}
                />
              </span>
            ),
          },
        ]}
      />
      {edit && (
        <Edit
          user={edit === "new" ? undefined : edit}
          onClose={() => {
            setEdit(undefined);
            list.again();
          }}
        />
      )}
      {gone && (
        <Confirm
          title={t("users.remove", { name: gone })}
          text={t("users.remove.text")}
          word={gone}
          action={t("remove")}
          onClose={() => setGone("")}
          run={async () => {
            await remove(path`/v1/users/${gone}`);
            toast(t("device.removed", { id: gone }));
            list.again();
          }}
        />
      )}
    </Card>
  );
}

function Edit({ user, onClose }: { user?: User; onClose: () => void }) {
  const [name, setName] = useState("");
  const [label, setLabel] = useState(user?.label ?? "");
  const [admin, setAdmin] = useState(!!user?.admin);
  const [rules, setRules] = useState(textOfRules(user?.rules));
  const [password, setPassword] = useState("");
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    try {
      if (user) {
        await put(path`/v1/users/${user.name}`, { label, admin, rules: rulesOf(rules) });
        if (password) await put(path`/v1/users/${user.name}/password`, { password });
      } else await post("/v1/users", { name, label, admin, rules: rulesOf(rules), password });
      onClose();
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={user ? t("users.edit", { name: user.name }) : t("users.add")} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        {!user && (
          <Input label={t("name")} hint={t("device.id.hint")} value={name} onValue={setName} autofocus required />
        )}
        <Input label={t("device.label")} value={label} onValue={setLabel} />
        <Input
          label={user ? t("users.password.new") : t("door.password")}
          hint={user ? t("users.password.keep") : t("setup.password.hint", { n: 8 })}
          type="password"
          autocomplete="new-password"
          value={password}
          onValue={setPassword}
          required={!user}
        />
        <Check label={t("access.may")} value={admin} onValue={setAdmin} />
        <RuleFields value={rules} onValue={setRules} />
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
