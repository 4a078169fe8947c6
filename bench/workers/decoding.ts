/** What every peer does around its decoder: which tokens go in, and what the predictions come to. */
import type { Tensor } from './tensors.js';

/** A decoder: tokens [m, T, E], CLS first, to predictions [m, T − 1, values] of the patch tokens. */
export type Decode = (tokens: Tensor) => Promise<Tensor>;

/** Decoder input of some images and which of their patches are visible. */
export interface Inputs {
  /** [n, L + 1, E]. */
  tokens: Tensor;
  /** [n][V], ascending. */
  visible: readonly (readonly number[])[];
}

/**
 * Scores of the first `variants` visible patches of the first `images` images. The dropped token is deleted, not masked, and
 * variants are decoded together, `batch` at a time: the cheapest form that a plain decoder has.
 */
export async function scoreWith(
  decode: Decode,
  { tokens, visible }: Inputs,
  { images, variants, batch }: { images: number; variants: number; batch: number },
): Promise<number[][]> {
  const [, count, width] = tokens.shape as [number, number, number];
  const scores: number[][] = [];
  for (let image = 0; image < images; image++) {
    const ids = visible[image] ?? [];
    const own = tokens.data.subarray(image * count * width, (image + 1) * count * width);
    const anchor = await decode({ data: own.slice(), shape: [1, count, width] });
    const row: number[] = [];
    for (let begin = 0; begin < variants; begin += batch) {
      const removed = ids.slice(begin, Math.min(begin + batch, variants));
      const changed = await decode(withoutTokens(own, count, width, removed));
      for (const [index, id] of removed.entries()) {
        row.push(maskedDifference(anchor, changed, index, id, ids));
      }
    }
    scores.push(row);
  }
  return scores;
}

/** One copy of the tokens for each removed patch, without its token: [m, T − 1, E]. */
export function withoutTokens(
  tokens: Float32Array,
  count: number,
  width: number,
  removed: readonly number[],
): Tensor {
  const length = (count - 1) * width;
  const data = new Float32Array(removed.length * length);
  for (const [index, id] of removed.entries()) {
    const gap = (id + 1) * width; // CLS is token 0
    data.set(tokens.subarray(0, gap), index * length);
    data.set(tokens.subarray(gap + width), index * length + gap);
  }
  return { data, shape: [removed.length, count - 1, width] };
}

/** Mean |anchor − changed| over the masked patches; in `changed` the patches behind the removed one have moved up by one. */
export function maskedDifference(
  anchor: Tensor,
  changed: Tensor,
  index: number,
  removed: number,
  visible: readonly number[],
): number {
  const [, patches, values] = anchor.shape as [number, number, number];
  const hidden = new Set(visible);
  const base = index * (patches - 1) * values;
  let sum = 0;
  for (let patch = 0; patch < patches; patch++) {
    if (hidden.has(patch)) continue;
    const from = patch * values;
    const to = base + (patch - (patch > removed ? 1 : 0)) * values;
    for (let v = 0; v < values; v++) {
      sum += Math.abs((anchor.data[from + v] as number) - (changed.data[to + v] as number));
    }
  }
  return sum / ((patches - visible.length) * values);
}
