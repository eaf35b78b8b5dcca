// Settings of the gateway and of this page.
import { refine } from "../../core/router";
import { t } from "../../core/words";
import { Head, Tabs } from "../../ui/parts";
import { Backup } from "./backup";
import { CertificateView } from "./certificate";
import { Config } from "./config";
import { General } from "./general";

const tabs = { general: General, config: Config, backup: Backup, certificate: CertificateView };

export function SettingsPage({ query }: { arg: string; query: Record<string, string> }) {
  const tab = (query.tab && query.tab in tabs ? query.tab : "general") as keyof typeof tabs;
  const View = tabs[tab];
  return (
    <>
      <Head title={t("nav.settings")} />
      <Tabs
        label={t("nav.settings")}
        now={tab}
        onTab={(x) => refine({ tab: x })}
        tabs={[
          ["general", t("settings.general")],
          ["config", t("config.title")],
          ["backup", t("backup.tab")],
          ["certificate", t("settings.certificate")],
        ]}
      />
      <div role="tabpanel" aria-labelledby={`tab-${tab}`} class="stack">
        <View />
      </div>
    </>
  );
}
