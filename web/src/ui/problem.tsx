// What went wrong, in words, and what to do.
import { Problem } from "../core/api";
import { maybe, t } from "../core/words";
import { Banner, Button } from "./parts";
import { toast } from "./toast";

export function inWords(e: unknown): { what: string; detail: string } {
  if (!(e instanceof Problem)) return { what: t("error.internal"), detail: String(e) };
  const incident = e.incident ? ` (${t("error.incident", { id: e.incident })})` : "";
  return { what: maybe(`error.${e.code}`) ?? t("error.internal"), detail: e.detail + incident };
}

export function Trouble({ error, again }: { error: unknown; again?: () => void }) {
  if (!error) return null;
  const { what, detail } = inWords(error);
  return (
    <Banner mood="bad">
      <strong>{what}</strong>
      {detail && <div class="small">{detail}</div>}
      {again && (
        <Button look="small" onClick={again}>
          {t("again")}
        </Button>
      )}
    </Banner>
  );
}

export function complain(e: unknown): void {
  const { what, detail } = inWords(e);
  toast(detail ? `${what} ${detail}` : what, "bad");
}
