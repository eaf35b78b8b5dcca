// What the page says, in English and Chinese. A test holds the two lists of keys against each other and against what the
// source asks for.
import { computed, signal } from "@preact/signals";
import en from "../words/en.json";
import zh from "../words/zh.json";

export type Word = keyof typeof en;
export type Language = "en" | "zh";
export type Values = Record<string, string | number>;

const KEY = "edgepost.language";

function first(): Language {
  const chosen = remembered(KEY);
  if (chosen === "en" || chosen === "zh") return chosen;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Storage may be switched off; then nothing is remembered. */
export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // said above
  }
}

export const language = signal<Language>(typeof navigator === "undefined" ? "en" : first());

export function speak(l: Language): void {
  language.value = l;
  remember(KEY, l);
}

const list = computed<Record<string, string>>(() => (language.value === "zh" ? zh : en));

/** The word in the language of now; {name} is replaced. A number n picks "key.one" where the language has one. */
export function t(key: Word, values?: Values): string {
  return fill(list.value[one(key, values)] ?? list.value[key] ?? key, values);
}

/** The word, if there is one: for codes that the gateway makes. */
export function maybe(key: string, values?: Values): string | undefined {
  const text = list.value[key];
  return text === undefined ? undefined : fill(text, values);
}

function one(key: string, values?: Values): string {
  return values?.n === 1 && language.value === "en" ? `${key}.one` : key;
}

export function fill(text: string, values?: Values): string {
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole)) : text;
}
