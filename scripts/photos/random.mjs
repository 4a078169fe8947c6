/** A small seeded generator (sfc32, seeded by hashing the given words with the FNV-1a and xorshift finalisers). */
export function seededRandom(...words) {
  let hash = 0x811c9dc5;
  for (const char of words.join('|')) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  const word = () => {
    hash = (hash + 0x9e3779b9) | 0;
    let x = hash ^ (hash >>> 16);
    x = Math.imul(x, 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return x ^ (x >>> 15);
  };
  let [a, b, c, d] = [word(), word(), word(), 1];
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    c |= 0;
    return (t >>> 0) / 4294967296;
  };
  for (let i = 0; i < 12; i++) next();
  return {
    /** Uniform in [0, 1). */
    next,
    /** Uniform in [low, high). */
    uniform: (low, high) => low + (high - low) * next(),
    /** Integer in [0, n). */
    below: (n) => Math.floor(next() * n),
    pick: (items) => items[Math.floor(next() * items.length)],
    /** k distinct items, in random order. */
    sample(items, k) {
      const pool = [...items];
      for (let i = 0; i < k; i++) {
        const j = i + Math.floor(next() * (pool.length - i));
        [pool[i], pool[j]] = [pool[j], pool[i]];
      }
      return pool.slice(0, k);
    },
  };
}
