// The small parts that pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { t } from "../core/words";
import { Icon, type IconName } from "./icon";
import { toast } from "./toast";

type Kids = { children?: ComponentChildren };

export interface ButtonProps extends Kids {
  icon?: IconName;
  look?: string; // primary, danger, bare, small: classes of parts.css
  label?: string; // for a button that shows only its icon
  busy?: boolean;
  disabled?: boolean;
  submit?: boolean;
  onClick?: () => void;
}

export function Button({ icon, look = "", label, busy, disabled, submit, onClick, children }: ButtonProps) {
  return (
    <button
      type={submit ? "submit" : "button"}
      class={`button ${look}`}
      aria-label={label}
      title={label}
      aria-busy={busy}
      disabled={busy || disabled}
      onClick={onClick}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

interface FieldProps extends Kids {
  label: string;
  hint?: ComponentChildren;
  wrong?: string;
}

interface InputProps extends Omit<FieldProps, "children"> {
  value: string;
  onValue: (v: string) => void;
  type?: "text" | "password" | "search" | "datetime-local";
  name?: string;
  list?: string;
  placeholder?: string;
  autocomplete?: "off" | "username" | "current-password" | "new-password";
  autofocus?: boolean;
  required?: boolean;
}

/** Input is a text field with its label, a hint, and what is wrong with it. */
export function Input({
  label,
  hint,
  wrong,
  onValue,
  value,
  type = "text",
  autocomplete = "off",
  ...rest
}: InputProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        {...(rest as object)}
        type={type as "text"}
        autocomplete={autocomplete}
        autocapitalize="none"
        spellcheck={false}
        id={id}
        value={value}
        aria-invalid={wrong ? "true" : undefined}
        aria-describedby={hint || wrong ? `${id}-hint` : undefined}
        onInput={(e) => onValue(e.currentTarget.value)}
      />
      <div id={`${id}-hint`} hidden={!hint && !wrong}>
        {wrong ? (
          <span class="wrong" role="alert">
            {wrong}
          </span>
        ) : (
          <span class="hint">{hint}</span>
        )}
      </div>
    </div>
  );
}

export function Area({
  label,
  hint,
  value,
  onValue,
  rows,
}: Omit<FieldProps, "children"> & { value: string; onValue: (v: string) => void; rows?: number }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea
        id={id}
        rows={rows}
        spellcheck={false}
        value={value}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onInput={(e) => onValue(e.currentTarget.value)}
      />
      {hint && (
        <span class="hint" id={`${id}-hint`}>
          {hint}
        </span>
      )}
    </div>
  );
}

export function Select({
  label,
  value,
  onValue,
  options,
}: {
  label: string;
  value: string;
  onValue: (v: string) => void;
  options: [value: string, word: string][];
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(e) => onValue(e.currentTarget.value)}>
        {options.map(([v, word]) => (
          <option key={v} value={v}>
            {word}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Check({ label, value, onValue }: { label: string; value: boolean; onValue: (v: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={value} onChange={(e) => onValue(e.currentTarget.checked)} />
      {label}
    </label>
  );
}

/** Choice is one of few, all in sight. */
export function Choice<T extends string>({
  label,
  value,
  onValue,
  options,
}: {
  label: string;
  value: T;
  onValue: (v: T) => void;
  options: [value: T, word: string][];
}) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset draws its legend into the edge
    <div class="choice" role="group" aria-label={label}>
      {options.map(([v, word]) => (
        <button key={v} type="button" aria-pressed={v === value} onClick={() => onValue(v)}>
          {word}
        </button>
      ))}
    </div>
  );
}

export type Mood = "good" | "warn" | "bad" | "info" | "";

const shape: Record<Mood, IconName> = { good: "check", warn: "clock", bad: "cross", info: "arrow", "": "ring" };

/** Badge says a state by its shape and its word. */
export function Badge({ mood, icon, children }: Kids & { mood: Mood; icon?: IconName }) {
  return (
    <span class={`badge ${mood}`}>
      <Icon name={icon ?? shape[mood]} />
      {children}
    </span>
  );
}

export function Banner({ mood = "", icon = "warning", children }: Kids & { mood?: string; icon?: IconName }) {
  return (
    <div class={`banner ${mood}`} role={mood === "bad" ? "alert" : undefined}>
      <Icon name={icon} />
      <div>{children}</div>
    </div>
  );
}

/** Head is a page's title, one sentence, and what can be done. */
export function Head({ title, about, children }: Kids & { title: ComponentChildren; about?: ComponentChildren }) {
  return (
    <div class="head">
      <div>
        <h1 class="break">{title}</h1>
        {about && <p>{about}</p>}
      </div>
      <div class="row">{children}</div>
    </div>
  );
}

export function Card({ title, tools, children }: Kids & { title?: ComponentChildren; tools?: ComponentChildren }) {
  return (
    <section class="card">
      {(title || tools) && (
        <div class="row apart">
          <h2>{title}</h2>
          {tools && <div class="row">{tools}</div>}
        </div>
      )}
      {children}
    </section>
  );
}

/** Empty says that there is nothing and what the next step is. */
export function Empty({ icon, title, children }: Kids & { icon: IconName; title: string }) {
  return (
    <div class="empty">
      <Icon name={icon} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Tile({
  name,
  value,
  note,
  href,
}: {
  name: string;
  value: string;
  note?: ComponentChildren;
  href?: string;
}) {
  const inside = (
    <>
      <span class="soft small">{name}</span>
      <span class="value">{value}</span>
      {note && <span class="note">{note}</span>}
    </>
  );
  return href ? (
    <a class="tile" href={href}>
      {inside}
    </a>
  ) : (
    <div class="tile">{inside}</div>
  );
}

export function Facts({ rows }: { rows: [name: string, value: ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </>
      ))}
    </dl>
  );
}

/** Meter shows a part of a whole; the words beside it say it, too. */
export function Meter({ part, label }: { part: number; label: string }) {
  const percent = Math.min(100, Math.max(0, part * 100));
  const colour = part > 0.9 ? "var(--bad)" : part > 0.75 ? "var(--warn)" : "var(--accent)";
  return (
    <div class="meter" role="img" aria-label={`${label}: ${percent.toFixed(0)} %`}>
      <svg preserveAspectRatio="none" viewBox="0 0 100 1" aria-hidden="true">
        <rect width={percent} height="1" fill={colour} />
      </svg>
    </div>
  );
}

export function Copy({ text, label, word }: { text: string; label?: string; word?: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await copyText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      toast(t("copy.failed"), "bad");
    }
  };
  return (
    <Button
      icon={done ? "check" : "copy"}
      look={word ? "small" : "bare small"}
      label={label ?? t("copy")}
      onClick={copy}
    >
      {word}
    </Button>
  );
}

/** Over plain HTTP browsers have no clipboard interface. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hide";
  const host = document.querySelector("dialog[open]") ?? document.body;
  host.append(area);
  area.select();
  const ok = document.execCommand("copy");
  area.remove();
  if (!ok) throw new Error("no clipboard");
}

/** Code is text to be copied. */
export function Code({ text }: { text: string }) {
  return (
    <div class="code">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0}>{text}</pre>
      <Copy text={text} />
    </div>
  );
}

export function Tabs({
  label,
  tabs,
  now,
  onTab,
}: {
  label: string;
  tabs: [id: string, word: string][];
  now: string;
  onTab: (id: string) => void;
}) {
  useEffect(() => document.getElementById(`tab-${now}`)?.scrollIntoView({ block: "nearest", inline: "center" }), [now]);
  const step = (by: number) => {
    const at = tabs.findIndex(([id]) => id === now);
    const next = tabs[(at + by + tabs.length) % tabs.length]!;
    onTab(next[0]);
    document.getElementById(`tab-${next[0]}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label}>
      {tabs.map(([id, word]) => (
        <button
          key={id}
          id={`tab-${id}`}
          type="button"
          role="tab"
          aria-selected={id === now}
          tabIndex={id === now ? 0 : -1}
          onClick={() => onTab(id)}
          onKeyDown={(e) => {
            if (e.key === "ArrowRight") step(1);
            if (e.key === "ArrowLeft") step(-1);
          }}
        >
          {word}
        </button>
      ))}
    </div>
  );
}
