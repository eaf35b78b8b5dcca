// Keys of programs.
import { useState } from "preact/hooks";
import { path, post, remove } from "../../core/api";
import { moment } from "../../core/format";
import type { Rules } from "../../core/nouns";
import { language, t } from "../../core/words";
import { Confirm, Dialog } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Badge, Banner, Button, Card, Check, Code, Empty, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";
import { toast } from "../../ui/toast";
import { noRules, RuleFields, RuleList, rulesOf } from "./rules";

interface Key {
  name: string;
  label?: string;
  admin?: boolean;
  rules?: Rules;
  created?: string;
}

export function Keys() {
  const list = useGet<{ keys: Key[] | null }>("/v1/keys");
  const [adding, setAdding] = useState(false);
  const [gone, setGone] = useState("");
  const rows = list.data?.keys ?? [];
  return (
    <Card
      title={t("access.keys")}
      tools={
        <Button icon="plus" look="primary" onClick={() => setAdding(true)}>
          {t("keys.add")}
        </Button>
      }
    >
      <Trouble error={list.error} again={list.again} />
      {list.data && rows.length === 0 && (
        <Empty icon="access" title={t("keys.none")}>
          <p class="soft">{t("keys.none.how")}</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <Table
          caption={t("access.keys")}
          rows={rows}
          id={(k) => k.name}
          columns={[
            {
              name: t("name"),
              kind: "lead",
              cell: (k) => (
                <span>
                  {k.name} <span class="soft">{k.label}</span>{" "}
                  {k.admin && <Badge mood="info">{t("access.admin")}</Badge>}
                </span>
              ),
            },
            { name: t("rules"), cell: (k) => <RuleList rules={k.rules} /> },
            {
              name: t("device.created"),
              cell: (k) => <span class="number">{moment(k.created, language.value, new Date())}</span>,
            },
            {
              name: t("actions"),
              kind: "tight",
              cell: (k) => (
                <Button
                  look="small bare danger"
                  icon="trash"
                  label={t("keys.remove", { name: k.name })}
                  onClick={() => setGone(k.name)}
                />
              ),
            },
          ]}
        />
      )}
      {adding && (
        <Add
          onClose={() => {
            setAdding(false);
            list.again();
          }}
        />
      )}
      {gone && (
        <Confirm
          title={t("keys.remove", { name: gone })}
          text={t("keys.remove.text")}
          word={gone}
          action={t("remove")}
          onClose={() => setGone("")}
          run={async () => {
            await remove(path`/v1/keys/${gone}`);
            toast(t("device.removed", { id: gone }));
            list.again();
          }}
        />
      )}
    </Card>
  );
}

function Add({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [label, setLabel] = useState("");
  const [admin, setAdmin] = useState(false);
  const [rules, setRules] = useState({
    ...noRules,
    publish: "device/+/in/#\ngroup/+/in/#",
    subscribe: "device/+/out/#",
  });
  const [made, setMade] = useState<{ name: string; token: string }>();
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    try {
      setMade(await post("/v1/keys", { name, label, admin, rules: rulesOf(rules) }));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={t("keys.add")} onClose={onClose}>
      {made ? (
        <>
          <Banner mood="calm" icon="info">
            {t("token.once", { id: made.name })}
          </Banner>
          <Code text={made.token} />
          <div class="row end">
            <Button look="primary" onClick={onClose}>
              {t("done")}
            </Button>
          </div>
        </>
      ) : (
        <form class="stack" onSubmit={submit}>
          <Input label={t("name")} hint={t("device.id.hint")} value={name} onValue={setName} autofocus required />
          <Input label={t("device.label")} value={label} onValue={setLabel} />
          <RuleFields value={rules} onValue={setRules} />
          <Check label={t("access.may")} value={admin} onValue={setAdmin} />
          <Trouble error={error} />
          <div class="row end">
            <Button onClick={onClose}>{t("cancel")}</Button>
            <Button submit look="primary">
              {t("keys.add")}
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
