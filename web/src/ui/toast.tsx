// Short news in a corner, read out by screen readers.
import { signal } from "@preact/signals";
import { t } from "../core/words";
import { Icon } from "./icon";

interface Toast {
  id: number;
  text: string;
  mood: "good" | "bad";
  undo?: () => void;
}

const toasts = signal<Toast[]>([]);
let last = 0;

export function toast(text: string, mood: Toast["mood"] = "good", undo?: () => void): void {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { id, text, mood, undo }];
  setTimeout(() => drop(id), undo || mood === "bad" ? 9000 : 4500);
}

function drop(id: number): void {
  toasts.value = toasts.value.filter((x) => x.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((x) => (
        <div key={x.id} class="toast fade">
          <Icon name={x.mood === "good" ? "check" : "warning"} />
          <span>{x.text}</span>
          {x.undo && (
            <button
              type="button"
              class="button small"
              onClick={() => {
                x.undo?.();
                drop(x.id);
              }}
            >
              {t("undo")}
            </button>
          )}
        </div>
      ))}
    </div>
  );
}
