// The pages, in the order of the navigation. A new page is one folder and one line here.
import type { ComponentType } from "preact";
import type { Word } from "../core/words";
import type { IconName } from "../ui/icon";
import { AccessPage } from "./access/page";
import { Approve } from "./approve/page";
import { BridgesPage } from "./bridges/page";
import { DeadPage } from "./dead/page";
import { DevicesPage } from "./devices/page";
import { Messages } from "./messages/page";
import { Overview } from "./overview/page";
import { SettingsPage } from "./settings/page";
import { Start } from "./start/page";
import { Topics } from "./topics/page";

export interface Page {
  id: string; // in the address
  name: Word;
  icon: IconName;
  hidden?: boolean; // not in the navigation
  view: ComponentType<{ arg: string; query: Record<string, string> }>;
}

export const pages: Page[] = [
  { id: "", name: "nav.overview", icon: "overview", view: Overview },
  { id: "devices", name: "nav.devices", icon: "devices", view: DevicesPage },
  { id: "messages", name: "nav.messages", icon: "messages", view: Messages },
  { id: "topics", name: "nav.topics", icon: "topics", view: Topics },
  { id: "bridges", name: "nav.bridges", icon: "bridges", view: BridgesPage },
  { id: "dead", name: "nav.dead", icon: "dead", view: DeadPage },
  { id: "access", name: "nav.access", icon: "access", view: AccessPage },
  { id: "settings", name: "nav.settings", icon: "settings", view: SettingsPage },
  { id: "approve", name: "approve.title", icon: "check", view: Approve, hidden: true },
  { id: "start", name: "start.title", icon: "arrow", view: Start, hidden: true },
];
