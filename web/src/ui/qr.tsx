import { encode } from "../core/qr";

/** Qr is the text as a QR code. */
export function Qr({ text, label }: { text: string; label: string }) {
  const m = encode(text);
  const path = m.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return (
    <svg class="qr" viewBox={`0 0 ${m.length} ${m.length}`} role="img" aria-label={label} shape-rendering="crispEdges">
      <path d={path} fill="#000" />
    </svg>
  );
}
