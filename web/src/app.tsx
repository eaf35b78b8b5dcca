// The frame around all pages: who is here, navigation, what everybody must know.
import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { live } from "./core/live";
import { format, place } from "./core/router";
import { access, gateway, leave } from "./core/session";
import { choose, type Theme, theme } from "./core/theme";
import { language, speak, t } from "./core/words";
import icon from "./icon.svg";
import { pages } from "./pages";
import { Door } from "./pages/door/page";
import { Setup } from "./pages/setup/page";
import { Icon, type IconName } from "./ui/icon";
import { Palette, palette } from "./ui/palette";
import { Badge, Banner, Button, Empty, type Mood } from "./ui/parts";
import { Toasts } from "./ui/toast";

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});

export function App() {
  return (
    <>
      <Inside />
      <Toasts />
    </>
  );
}

function Inside() {
  const a = access.value;
  switch (a.at) {
    case "asking":
      return null;
    case "unreachable":
      return (
        <main class="alone">
          <div class="card">
            <h1>edgepost</h1>
            <Banner mood="bad">{t("error.unreachable")}</Banner>
          </div>
        </main>
      );
    case "setup":
      return <Setup />;
    case "door":
      return <Door ended={a.ended} />;
    case "in":
      return <Shell />;
  }
}

function Shell() {
  const p = place.value;
  const page = pages.find((x) => x.id === p.page);
  const [menu, setMenu] = useState(false);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const title = page ? t(page.name) : t("nav.nowhere");
  useEffect(() => {
    setMenu(false);
    if (first.current) first.current = false;
    else main.current?.focus({ preventScroll: true }); // screen readers and the keyboard go on in the new page
    scrollTo(0, 0);
  }, [p.page, p.arg]);
  document.title = `${p.arg || title} · ${gateway.value}`;
  const View = page?.view;
  return (
    <div class="shell">
      <button type="button" class="skip button" onClick={() => main.current?.focus()}>
        {t("nav.skip")}
      </button>
      <header class="bar">
        <span class="menu">
          <Button icon={menu ? "close" : "menu"} look="bare" label={t("nav.menu")} onClick={() => setMenu(!menu)} />
        </span>
        <a class="brand" href={format("")}>
          <img src={icon} alt="" />
          <span>{gateway.value}</span>
        </a>
        <LinkState />
        <span class="space" />
        <button type="button" class="button find" onClick={() => (palette.value = true)}>
          <Icon name="search" />
          <span class="label">{t("palette.short")}</span>
          <span class="key">Ctrl K</span>
        </button>
      </header>
      <nav class={`side ${menu ? "open" : ""}`} aria-label={t("nav.pages")}>
        <ul>
          {pages
            .filter((x) => !x.hidden)
            .map((x) => (
              <li key={x.id}>
                <a href={format(x.id)} aria-current={x === page ? "page" : undefined} onClick={() => setMenu(false)}>
                  <Icon name={x.icon} />
                  {t(x.name)}
                  {x.id === "dead" && <DeadCount />}
                </a>
              </li>
            ))}
        </ul>
        <div class="foot">
          <Switches />
          <Button icon="out" look="bare" label={t("session.out")} onClick={() => void leave()} />
        </div>
      </nav>
      <main class="main stack" id="main" tabIndex={-1} ref={main}>
        <Notices />
        {View ? (
          <View key={page.id} arg={p.arg} query={p.query} />
        ) : (
          <Empty icon="search" title={t("nav.nowhere")}>
            <a class="button primary" href={format("")}>
              {t("nav.overview")}
            </a>
          </Empty>
        )}
      </main>
      <Palette />
    </div>
  );
}

function DeadCount() {
  const n = live.value.tick?.dead_letters ?? 0;
  return n > 0 ? <span class="count">{n}</span> : null;
}

/** LinkState says whether what the page shows is the present. */
function LinkState() {
  const now: Record<string, [Mood, Parameters<typeof t>[0], IconName]> = {
    live: ["good", "link.live", "check"],
    connecting: ["", "link.connecting", "clock"],
    lost: ["bad", "link.lost", "warning"],
    absent: ["", "link.absent", "info"],
  };
  const [mood, word, shape] = now[live.value.link]!;
  return (
    <span role="status">
      <Badge mood={mood} icon={shape}>
        {t(word)}
      </Badge>
    </span>
  );
}

/** Notices are what every page must say: open access, warnings of the gateway, a lost connection. */
function Notices() {
  const { link, tick } = live.value;
  const warnings = tick?.warnings ?? [];
  return (
    <>
      {link === "lost" && <Banner mood="bad">{t("link.lost.long")}</Banner>}
      {tick?.anonymous && <Banner>{t("anonymous")}</Banner>}
      {tick && tick.storage.state !== "ok" && (
        <Banner mood="bad">{t("storage.refusing", { why: tick.storage.state })}</Banner>
      )}
      {warnings.map((w) => (
        <Banner key={w}>{w}</Banner>
      ))}
    </>
  );
}

const themes: Record<Theme, [next: Theme, icon: IconName]> = {
  auto: ["dark", "auto"],
  dark: ["light", "moon"],
  light: ["auto", "sun"],
};

/** Switches of language and theme. */
export function Switches() {
  const [next, shape] = themes[theme.value];
  return (
    <>
      <Button look="bare" onClick={() => speak(language.value === "zh" ? "en" : "zh")}>
        <span lang={language.value === "zh" ? "en" : "zh"}>{language.value === "zh" ? "English" : "中文"}</span>
      </Button>
      <Button look="bare" icon={shape} label={t(`theme.${theme.value}`)} onClick={() => choose(next)} />
    </>
  );
}
