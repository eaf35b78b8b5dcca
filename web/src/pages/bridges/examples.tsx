// Ten lines of configuration that make a bridge to each kind of upstream. The gateway itself is asked which kinds it
// has, so that none is shown that it would refuse.
import { useEffect, useState } from "preact/hooks";
import { send } from "../../core/api";
import { gateway } from "../../core/session";
import { t } from "../../core/words";
import { Banner, Code, Tabs } from "../../ui/parts";
import { complain } from "../../ui/problem";
import { examples, names } from "./toml";

interface Mistake {
  key?: string;
  detail: string;
}

export function Examples() {
  const [chosen, setChosen] = useState("mqtt");
  const [absent, setAbsent] = useState<Record<string, string>>();
  const all = examples(gateway.value);
  useEffect(() => {
    ask(all).then(setAbsent).catch(complain);
  }, []);
  if (!absent) return null;
  const shown = all.filter(([kind]) => !absent[kind]?.includes("there is no connector"));
  const now = shown.find(([kind]) => kind === chosen) ?? shown[0];
  if (!now) return null;
  return (
    <div class="stack">
      <Tabs
        label={t("overview.kind")}
        tabs={shown.map(([kind]) => [kind, names[kind]!])}
        now={now[0]}
        onTab={setChosen}
      />
      <p class="soft">{t("bridges.example")}</p>
      {absent[now[0]] && <Banner mood="bad">{absent[now[0]]}</Banner>}
      <Code text={now[1]} />
    </div>
  );
}

/** ask gives what is wrong with the kind of each example, by kind. */
async function ask(all: [kind: string, text: string][]): Promise<Record<string, string>> {
  const answer = await send("POST", "/v1/config/validate", {
    raw: all.map(([, text]) => text).join("\n"),
    headers: { "Content-Type": "application/toml" },
  });
  const { mistakes } = (await answer.json()) as { mistakes?: Mistake[] | null };
  const found = (mistakes ?? []).flatMap((m): [string, string][] => {
    const at = /^bridge\[(\d+)\]/.exec(m.key ?? "");
    return at ? [[all[Number(at[1])]![0], m.detail]] : [];
  });
  return Object.fromEntries(found);
}
