// Ctrl-K: pages, devices, messages by their id, and what can be done.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, query } from "../core/api";
import { live } from "../core/live";
import type { DeviceRow } from "../core/nouns";
import { go } from "../core/router";
import { leave } from "../core/session";
import { choose } from "../core/theme";
import { speak, t } from "../core/words";
import { pages } from "../pages";
import { Dialog } from "./dialog";
import { Icon, type IconName } from "./icon";

export const palette = signal(false);

interface Entry {
  icon: IconName;
  text: string;
  kind: string;
  run: () => void;
}

export function listenForPalette(): void {
  addEventListener("keydown", (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k") {
      e.preventDefault();
      palette.value = !palette.value;
    }
  });
}

function fixed(): Entry[] {
  return [
    ...pages.map((p) => ({ icon: p.icon, text: t(p.name), kind: t("palette.page"), run: () => go(p.id) })),
    ...(live.value.tick?.bridges ?? []).map((b) => ({
      icon: "bridges" as const,
      text: b.name,
      kind: t("palette.bridge"),
      run: () => go("bridges", b.name),
    })),
    { icon: "plus", text: t("devices.add"), kind: t("palette.action"), run: () => go("devices", "", { add: "1" }) },
    { icon: "moon", text: t("theme.dark"), kind: t("palette.action"), run: () => choose("dark") },
    { icon: "sun", text: t("theme.light"), kind: t("palette.action"), run: () => choose("light") },
    { icon: "info", text: "中文", kind: t("palette.action"), run: () => speak("zh") },
    { icon: "info", text: "English", kind: t("palette.action"), run: () => speak("en") },
    { icon: "out", text: t("session.out"), kind: t("palette.action"), run: () => void leave() },
  ];
}

/** What is typed may be a message's id, or a topic to follow. */
function direct(text: string): Entry[] {
  const entries: Entry[] = [];
  if (/^[a-z2-9]{8}-[1-9]\d*$/.test(text)) {
    entries.push({
      icon: "messages",
      text: t("palette.trace", { id: text }),
      kind: t("nav.messages"),
      run: () => go("messages", text),
    });
  }
  if (/[/#+]/.test(text)) {
    entries.push({
      icon: "topics",
      text: t("palette.follow", { topic: text }),
      kind: t("nav.topics"),
      run: () => go("topics", "", { filter: text }),
    });
  }
  return entries;
}

export function Palette() {
  return palette.value ? <Open /> : null;
}

const combobox = { role: "combobox" as const, "aria-expanded": true, "aria-controls": "entries" } as object;

function Open() {
  const [text, setText] = useState("");
  const [devices, setDevices] = useState<DeviceRow[]>([]);
  const [at, setAt] = useState(0);
  const close = () => {
    palette.value = false;
  };
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      get<{ devices: DeviceRow[] }>(`/v1/devices${query({ search: text, limit: 8 })}`, { signal: stop.signal })
        .then((a) => setDevices(a.devices))
        .catch(() => undefined);
    }, 120);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text]);
  const wanted = text.trim().toLowerCase();
  const entries: Entry[] = [
    ...direct(text.trim()),
    ...fixed().filter((e) => e.text.toLowerCase().includes(wanted)),
    ...devices.map((d) => ({
      icon: "devices" as const,
      text: d.label ? `${d.id} · ${d.label}` : d.id,
      kind: t("palette.device"),
      run: () => go("devices", d.id),
    })),
  ];
  const chosen = Math.min(at, entries.length - 1);
  const run = (e?: Entry) => {
    if (!e) return;
    close();
    e.run();
  };
  const key = (e: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (by) {
      e.preventDefault();
      const next = (chosen + by + entries.length) % entries.length;
      setAt(next);
      document.getElementById(`entry-${next}`)?.scrollIntoView({ block: "nearest" });
    } else if (e.key === "Enter") {
      e.preventDefault();
      run(entries[chosen]);
    }
  };
  return (
    <Dialog title={t("palette.title")} onClose={close} look="palette" bare>
      <input
        type="text"
        {...combobox}
        aria-activedescendant={`entry-${chosen}`}
        aria-label={t("palette.title")}
        placeholder={t("palette.hint")}
        autofocus
        value={text}
        onInput={(e) => {
          setText(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={key}
      />
      <div class="entries" id="entries" role="listbox" aria-label={t("palette.title")}>
        {entries.map((e, i) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the combobox takes the keys
          // biome-ignore lint/a11y/useFocusableInteractive: the combobox has the focus and names the chosen entry
          <div
            key={`${e.kind} ${e.text}`}
            id={`entry-${i}`}
            role="option"
            aria-selected={i === chosen}
            onClick={() => run(e)}
          >
            <Icon name={e.icon} />
            <span class="break">{e.text}</span>
            <span class="kind">{e.kind}</span>
          </div>
        ))}
        {entries.length === 0 && <p class="soft">{t("palette.none")}</p>}
      </div>
    </Dialog>
  );
}
