// QR codes (ISO/IEC 18004), byte mode, error correction level M, versions 1 to 10: 213 bytes. Pure.

/** Rows of a version at level M: error correction bytes of a block, blocks in all, data bytes in all. */
const sizes: [ecc: number, blocks: number, data: number][] = [
  [10, 1, 16],
  [16, 1, 28],
  [26, 1, 44],
  [18, 2, 64],
  [24, 2, 86],
  [16, 4, 108],
  [18, 4, 124],
  [22, 4, 154],
  [22, 5, 182],
  [26, 5, 216],
];

/** encode gives the modules, dark is true; it throws when the text is too long. */
export function encode(text: string): boolean[][] {
  const bytes = new TextEncoder().encode(text);
  const version = 1 + sizes.findIndex(([, , data], i) => bytes.length + (i < 9 ? 2 : 3) <= data);
  if (version === 0) throw new RangeError("the text is too long for a QR code");
  const words = interleave(codewords(bytes, version), version);
  let best: boolean[][] | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (let mask = 0; mask < 8; mask++) {
    const m = draw(words, version, mask);
    const p = penalty(m);
    if (p < least) [best, least] = [m, p];
  }
  return best!;
}

function codewords(bytes: Uint8Array, version: number): number[] {
  const bits: number[] = [];
  const push = (value: number, n: number) => {
    for (let i = n - 1; i >= 0; i--) bits.push((value >> i) & 1);
  };
  push(4, 4);
  push(bytes.length, version < 10 ? 8 : 16);
  for (const b of bytes) push(b, 8);
  const room = sizes[version - 1]![2] * 8;
  push(0, Math.min(4, room - bits.length));
  while (bits.length % 8) bits.push(0);
  const out: number[] = [];
  for (let i = 0; i < bits.length; i += 8) out.push(Number.parseInt(bits.slice(i, i + 8).join(""), 2));
  for (let pad = 0xec; out.length < room / 8; pad ^= 0xfd) out.push(pad);
  return out;
}

function interleave(data: number[], version: number): number[] {
  const [ecc, n, total] = sizes[version - 1]!;
  const short = Math.floor(total / n);
  const blocks: number[][] = [];
  for (let i = 0, at = 0; i < n; i++) {
    const length = short + (i < n - (total % n) ? 0 : 1);
    blocks.push(data.slice(at, at + length));
    at += length;
  }
  const out: number[] = [];
  for (let i = 0; i <= short; i++) for (const b of blocks) if (i < b.length) out.push(b[i]!);
  const rest = blocks.map((b) => remainder(b, ecc));
  for (let i = 0; i < ecc; i++) for (const r of rest) out.push(r[i]!);
  return out;
}

/** times multiplies in GF(2^8) modulo x^8+x^4+x^3+x^2+1. */
function times(a: number, b: number): number {
  let z = 0;
  for (let i = 7; i >= 0; i--) z = (z << 1) ^ ((z >> 7) * 0x11d) ^ (((b >> i) & 1) * a);
  return z;
}

/** remainder is the Reed-Solomon error correction of a block. */
function remainder(data: number[], degree: number): number[] {
  const divisor = new Array<number>(degree).fill(0);
  divisor[degree - 1] = 1;
  for (let i = 0, root = 1; i < degree; i++, root = times(root, 2)) {
    for (let j = 0; j < degree; j++) divisor[j] = times(divisor[j]!, root) ^ (divisor[j + 1] ?? 0);
  }
  const out = new Array<number>(degree).fill(0);
  for (const b of data) {
    const factor = b ^ out.shift()!;
    out.push(0);
    for (let i = 0; i < degree; i++) out[i]! ^= times(divisor[i]!, factor);
  }
  return out;
}

type Cell = boolean | undefined;

const masks: ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

function draw(words: number[], version: number, mask: number): boolean[][] {
  const size = version * 4 + 17;
  const m: Cell[][] = Array.from({ length: size }, () => new Array<Cell>(size).fill(undefined));
  patterns(m, version);
  formats(m, mask);
  if (version >= 7) versions(m, version);
  let i = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (m[y]![x] !== undefined) continue;
        const bit = i < words.length * 8 && ((words[i >> 3]! >> (7 - (i & 7))) & 1) === 1;
        i++;
        m[y]![x] = bit !== masks[mask]!(x, y);
      }
    }
  }
  return m as boolean[][];
}

function patterns(m: Cell[][], version: number): void {
  const size = m.length;
  for (let i = 0; i < size; i++) m[6]![i] = m[i]![6] = i % 2 === 0;
  for (const [cx, cy] of [
    [3, 3],
    [size - 4, 3],
    [3, size - 4],
  ] as const) {
    for (let dy = -4; dy <= 4; dy++) {
      for (let dx = -4; dx <= 4; dx++) {
        const d = Math.max(Math.abs(dx), Math.abs(dy));
        const row = m[cy + dy];
        if (row && cx + dx >= 0 && cx + dx < size) row[cx + dx] = d !== 2 && d !== 4;
      }
    }
  }
  const at = alignments(version, size);
  const end = at.length - 1;
  at.forEach((x, i) => {
    at.forEach((y, j) => {
      if ((i === 0 && j === 0) || (i === 0 && j === end) || (i === end && j === 0)) return;
      for (let dy = -2; dy <= 2; dy++) {
        for (let dx = -2; dx <= 2; dx++) m[y + dy]![x + dx] = Math.max(Math.abs(dx), Math.abs(dy)) !== 1;
      }
    });
  });
}

function alignments(version: number, size: number): number[] {
  if (version === 1) return [];
  const n = Math.floor(version / 7) + 2;
  const step = Math.ceil((version * 4 + 4) / (n * 2 - 2)) * 2;
  const at = [6];
  for (let pos = size - 7; at.length < n; pos -= step) at.splice(1, 0, pos);
  return at;
}

/** formats writes level M and the mask, twice, with their BCH code. */
function formats(m: Cell[][], mask: number): void {
  const size = m.length;
  let rem = mask; // level M is 00
  for (let i = 0; i < 10; i++) rem = (rem << 1) ^ ((rem >> 9) * 0x537);
  const bits = ((mask << 10) | rem) ^ 0x5412;
  const bit = (i: number) => ((bits >> i) & 1) === 1;
  for (let i = 0; i <= 5; i++) m[i]![8] = bit(i);
  m[7]![8] = bit(6);
  m[8]![8] = bit(7);
  m[8]![7] = bit(8);
  for (let i = 9; i < 15; i++) m[8]![14 - i] = bit(i);
  for (let i = 0; i < 8; i++) m[8]![size - 1 - i] = bit(i);
  for (let i = 8; i < 15; i++) m[size - 15 + i]![8] = bit(i);
  m[size - 8]![8] = true;
}

function versions(m: Cell[][], version: number): void {
  let rem = version;
  for (let i = 0; i < 12; i++) rem = (rem << 1) ^ ((rem >> 11) * 0x1f25);
  const bits = (version << 12) | rem;
  for (let i = 0; i < 18; i++) {
    const a = m.length - 11 + (i % 3);
    const b = Math.floor(i / 3);
    m[b]![a] = m[a]![b] = ((bits >> i) & 1) === 1;
  }
}

/** penalty is how hard the code is to read: runs, blocks, what looks like a finder, imbalance. */
function penalty(m: boolean[][]): number {
  const size = m.length;
  let sum = 0;
  let dark = 0;
  const lines = [...m, ...m.map((_, x) => m.map((row) => row[x]!))];
  for (const line of lines) {
    const text = line.map((b) => (b ? "1" : "0")).join("");
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
    for (const finder of ["00001011101", "10111010000"]) {
      for (let at = text.indexOf(finder); at >= 0; at = text.indexOf(finder, at + 1)) sum += 40;
    }
  }
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      if (m[y]![x]) dark++;
      if (x > 0 && y > 0 && m[y]![x] === m[y - 1]![x] && m[y]![x] === m[y]![x - 1] && m[y]![x] === m[y - 1]![x - 1])
        sum += 3;
    }
  }
  return sum + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}
