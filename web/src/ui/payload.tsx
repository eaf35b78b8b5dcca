// A payload in the views that make sense of it. It is text of others: it is only ever set as text.
import { useState } from "preact/hooks";
import { bytes } from "../core/format";
import type { Message } from "../core/nouns";
import { bytesOf, render, type View, views } from "../core/payload";
import { language, t } from "../core/words";
import { Choice } from "./parts";

const names: Record<View, string> = { json: "JSON", xml: "XML", text: "", protobuf: "Protobuf", hex: "Hex" };

export function Payload({ message }: { message: Message }) {
  const possible = views(message);
  const [wanted, setWanted] = useState<View>();
  const view = wanted && possible.includes(wanted) ? wanted : possible[0]!;
  const size = bytesOf(message).length;
  return (
    <div class="stack tight">
      <div class="row apart">
        <Choice
          label={t("payload.view")}
          value={view}
          onValue={setWanted}
          options={possible.map((v) => [v, names[v] || t("payload.text")])}
        />
        <span class="soft small">
          {bytes(size, language.value)}
          {message.ct && ` · ${message.ct}`}
        </span>
      </div>
      {size === 0 ? (
        <p class="soft">{t("payload.empty")}</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        <pre class="payload" tabIndex={0}>
          {render(message, view)}
        </pre>
      )}
    </div>
  );
}
