/** Which patches a map keeps: the highest scores, or what `selectPatches` makes of them. */
import { selectPatches, type SelectPatchesOptions } from '../../lib/index.js';
import type { Picture } from './pictures.js';
import { descending } from '../../lib/evaluation/asked.js';
import { keptCount } from './shares.js';

/** A way to choose patches by a map. */
export interface Selector {
  name: string;
  /** Of `selectPatches`; without: the highest scores. */
  options?: Pick<SelectPatchesOptions, 'scoreShare' | 'mode'>;
}

export const topK: Selector = { name: 'top-k' };

/** What is measured of every map: what `selectPatches` chooses by default. */
export const usualSelectors: readonly Selector[] = [topK];

/** What is compared to choose the default of `scoreShare`. */
export const allSelectors: readonly Selector[] = [
  topK,
  ...[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0].map((scoreShare) => ({
    name: `scoreShare ${scoreShare}`,
    options: { scoreShare },
  })),
  { name: 'compat, 0.7', options: { scoreShare: 0.7, mode: 'compat' } },
];

/** Ids of the kept patches. The same picture, map and selector give the same patches in every run. */
export async function keptPatches(
  picture: Picture,
  map: Float64Array,
  keep: number,
  { options }: Selector,
): Promise<number[]> {
  const order = descending(map);
  const count = keptCount(picture.patches, keep);
  if (options === undefined) return order.slice(0, count);
  // Places instead of scores: equal scores are taken in the same order as for the top.
  const logits = new Float32Array(order.length);
  for (const [place, id] of order.entries()) logits[id] = order.length - place;
  const { indices } = await selectPatches(picture.images, logits, {
    ...options,
    keep: count,
    patchSize: picture.patch,
  });
  return [...indices];
}
