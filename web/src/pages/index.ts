// The pages, in the order of the navigation. A new page is one folder and one line here.
import type { ComponentType } from "preact";
import type { Word } from "../core/words";
import type { IconName } from "../ui/icon";
import { Overview } from "./overview/page";
import { Start } from "./start/page";

export interface Page {
  id: string; // in the address
  name: Word;
  icon: IconName;
  hidden?: boolean; // not in the navigation
  view: ComponentType<{ arg: string; query: Record<string, string> }>;
}

export const pages: Page[] = [
  { id: "", name: "nav.overview", icon: "overview", view: Overview },
  { id: "start", name: "start.title", icon: "arrow", view: Start, hidden: true },
];
