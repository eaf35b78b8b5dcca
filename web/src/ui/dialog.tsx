// Dialogs, and the question before something is destroyed.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "../core/words";
import { Button, Input } from "./parts";
import { Trouble } from "./problem";

interface Props {
  title: string;
  onClose: () => void;
  look?: string;
  bare?: boolean; // no visible title
  children: ComponentChildren;
}

/** Dialog is modal: the browser keeps the focus inside, Escape closes it. */
export function Dialog({ title, onClose, look = "", bare, children }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement as HTMLElement | null;
    box.current?.showModal();
    return () => opener?.focus?.();
  }, []);
  return (
    <dialog
      ref={box}
      class={`fade ${look}`}
      aria-labelledby={id}
      onClose={onClose}
      onCancel={onClose}
      onMouseDown={(e) => e.target === box.current && onClose()}
    >
      <div class="inner">
        <div class={bare ? "hide" : "row apart"}>
          <h2 id={id}>{title}</h2>
          {!bare && <Button icon="close" look="bare small" label={t("close")} onClick={onClose} />}
        </div>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  text: ComponentChildren;
  word: string; // what must be typed; "" nothing
  action: string; // what the button says
  run: () => Promise<unknown>;
  onClose: () => void;
}

/** Confirm asks before something that cannot be undone; its name is typed, so that a slip destroys nothing. */
export function Confirm({ title, text, word, action, run, onClose }: ConfirmProps) {
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    if (typed !== word) return;
    setBusy(true);
    try {
      await run();
      onClose();
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <div>{text}</div>
        {word && <Input label={t("confirm.type", { word })} value={typed} onValue={setTyped} autofocus />}
        <Trouble error={error} />
        <div class="row end">
          <Button onClick={onClose}>{t("cancel")}</Button>
          <Button submit look="danger primary" busy={busy} disabled={typed !== word}>
            {action}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
