import { preview } from "../../core/payload";
import type { Branch } from "../../core/tail";
import { t } from "../../core/words";

interface Props {
  branches: Branch[];
  chosen: string;
  onChoose: (topic: string) => void;
  depth: number;
}

const OPEN = 3; // levels that are open at first

/** Branches is the tree by nested details: the browser opens, closes and reads them out. */
export function Branches({ branches, chosen, onChoose, depth }: Props) {
  return (
    <ul>
      {branches.map((b) => (
        <li key={b.topic}>
          {b.inner.length === 0 ? (
            <Leaf b={b} chosen={chosen} onChoose={onChoose} />
          ) : (
            <details open={depth < OPEN}>
              <summary>
                <span class="break">{b.name || t("topics.level")}</span>{" "}
                <span class="soft small number">{b.count}</span>
              </summary>
              {b.value && <Leaf b={b} chosen={chosen} onChoose={onChoose} />}
              <Branches branches={b.inner} chosen={chosen} onChoose={onChoose} depth={depth + 1} />
            </details>
          )}
        </li>
      ))}
    </ul>
  );
}

function Leaf({ b, chosen, onChoose }: { b: Branch; chosen: string; onChoose: (topic: string) => void }) {
  return (
    <button
      type="button"
      class="leaf"
      aria-pressed={b.topic === chosen}
      onClick={() => onChoose(b.topic === chosen ? "" : b.topic)}
    >
      <span class="break">{b.name || t("topics.level")}</span>
      <code class="soft">{b.value && preview(b.value.message, 60)}</code>
    </button>
  );
}
