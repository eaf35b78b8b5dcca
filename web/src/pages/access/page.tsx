// Who may what: keys, people, the dry run, issuers, sessions, and who did what.
import { refine } from "../../core/router";
import { t } from "../../core/words";
import { Head, Tabs } from "../../ui/parts";
import { Audit } from "./audit";
import { Check } from "./check";
import { Keys } from "./keys";
import { Sessions } from "./sessions";
import { Tokens } from "./tokens";
import { Users } from "./users";

const tabs = { keys: Keys, users: Users, check: Check, tokens: Tokens, sessions: Sessions, audit: Audit };

export function AccessPage({ query }: { arg: string; query: Record<string, string> }) {
  const tab = (query.tab && query.tab in tabs ? query.tab : "keys") as keyof typeof tabs;
  const View = tabs[tab];
  return (
    <>
      <Head title={t("nav.access")} about={t("access.about")} />
      <Tabs
        label={t("nav.access")}
        now={tab}
        onTab={(x) => refine({ tab: x })}
        tabs={[
          ["keys", t("access.keys")],
          ["users", t("access.users")],
          ["check", t("access.check")],
          ["tokens", t("access.tokens")],
          ["sessions", t("access.sessions")],
          ["audit", t("access.audit")],
        ]}
      />
      <div role="tabpanel" aria-labelledby={`tab-${tab}`} class="stack">
        <View />
      </div>
    </>
  );
}
