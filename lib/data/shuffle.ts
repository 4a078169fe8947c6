/** Seeded order without global state: the same words always give the same permutation. */

/** sfc32, its state filled from the words by a multiply-xorshift hash. Values are 32-bit unsigned. */
function generator(words: readonly number[]): () => number {
  let hash = 0x9e3779b9;
  const mix = (value: number): number => {
    hash = Math.imul(hash ^ value, 0x85ebca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2ae35);
    hash ^= hash >>> 16;
    return hash;
  };
  for (const word of words) {
    mix(word | 0);
    mix(Math.floor(word / 2 ** 32)); // seeds have up to 53 bits
  }
  let [a, b, c, d] = [mix(1), mix(2), mix(3), 1];
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

/** Shuffles in place (Fisher-Yates); returns its argument. */
export function shuffle(items: Uint32Array, ...words: number[]): Uint32Array {
  const next = generator(words);
  for (let i = items.length - 1; i > 0; i--) {
    const j = next() % (i + 1); // the bias is below 2^-10 for a million items: an order, not a statistic
    const kept = items[i] as number;
    items[i] = items[j] as number;
    items[j] = kept;
  }
  return items;
}

/** A permutation of 0 … n - 1. */
export function permutation(n: number, ...words: number[]): Uint32Array {
  return shuffle(
    Uint32Array.from({ length: n }, (_, i) => i),
    ...words,
  );
}
