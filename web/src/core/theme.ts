// Light, dark, or as the device is set.
import { effect, signal } from "@preact/signals";
import { remember, remembered } from "./words";

export type Theme = "auto" | "light" | "dark";
const KEY = "edgepost.theme";
const known = remembered(KEY);

export const theme = signal<Theme>(known === "light" || known === "dark" ? known : "auto");

/** Counts the changes of what colours look like: plots draw anew. */
export const paint = signal(0);

export function choose(value: Theme): void {
  theme.value = value;
  remember(KEY, value);
}

export function dress(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    paint.value = paint.peek() + 1;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    paint.value++;
  });
}
