// The configuration in force, where each value comes from, and a check of another file before it is put in place.
import { useState } from "preact/hooks";
import { send } from "../../core/api";
import { t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Area, Badge, Button, Card, Check, Input } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";

interface Setting {
  key: string;
  value: unknown;
  origin: string;
}

export function Config() {
  const { data, error, again } = useGet<{ settings: Setting[] | null }>("/v1/config");
  const [search, setSearch] = useState("");
  const [changed, setChanged] = useState(false);
  const rows = (data?.settings ?? []).filter(
    (s) => s.key.includes(search.trim().toLowerCase()) && (!changed || s.origin !== "default"),
  );
  return (
    <>
      <Card title={t("config.title")}>
        <p class="soft">{t("config.about")}</p>
        <Trouble error={error} again={again} />
        <Input label={t("devices.search")} type="search" value={search} onValue={setSearch} />
        <Check label={t("config.changed")} value={changed} onValue={setChanged} />
        <Table
          caption={t("config.title")}
          rows={rows}
          id={(s) => s.key}
          columns={[
            { name: t("config.key"), kind: "lead", cell: (s) => <code class="break">{s.key}</code> },
            {
              name: t("overview.value"),
              cell: (s) => <code class="break">{typeof s.value === "string" ? s.value : JSON.stringify(s.value)}</code>,
            },
            { name: t("config.origin"), kind: "right", cell: (s) => <Origin origin={s.origin} /> },
          ]}
        />
        {data && rows.length === 0 && <p class="soft">{t("palette.none")}</p>}
      </Card>
      <Validate />
    </>
  );
}

function Origin({ origin }: { origin: string }) {
  if (origin === "default") return <span class="soft">{t("config.default")}</span>;
  if (origin === "flag") return <Badge mood="info">{t("config.flag")}</Badge>;
  return <Badge mood="info">{t("config.line", { n: origin.replace(/^line /, "") })}</Badge>;
}

interface Verdict {
  ok: boolean;
  mistakes: { line?: number; key?: string; detail: string }[] | null;
}

function Validate() {
  const [text, setText] = useState('[delivery]\nttl = "7d"\n');
  const [verdict, setVerdict] = useState<Verdict>();
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setError(undefined);
    setVerdict(undefined);
    try {
      const answer = await send("POST", "/v1/config/validate", {
        raw: text,
        headers: { "Content-Type": "application/toml" },
      });
      setVerdict((await answer.json()) as Verdict);
    } catch (e) {
      setError(e);
    }
  };
  const mistakes = verdict?.mistakes ?? [];
  return (
    <Card title={t("config.check")}>
      <p class="soft">{t("config.check.about")}</p>
      <form class="stack" onSubmit={submit}>
        <Area label="edgepost.toml" rows={10} value={text} onValue={setText} />
        <div>
          <Button submit>{t("check.go")}</Button>
        </div>
      </form>
      <Trouble error={error} />
      <div role="status" class="stack tight">
        {verdict?.ok && <Badge mood="good">{t("config.ok")}</Badge>}
        {mistakes.map((m) => (
          <p key={`${m.line} ${m.detail}`}>
            <Badge mood="bad">{t("config.line", { n: m.line ?? "–" })}</Badge> {m.key && <code>{m.key}</code>}{" "}
            {m.detail}
          </p>
        ))}
      </div>
    </Card>
  );
}
