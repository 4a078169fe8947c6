/** What of a picture's objects the kept patches contain. */
import type { Weighted } from '../../lib/evaluation/resamples.js';
import { sum, type ObjectPixels } from './masks.js';

/** Shares of the patches that are kept. */
export const keeps = [0.25, 0.5, 0.75] as const;

/** Number of patches kept: 49, 98 and 147 of 196. */
export function keptCount(patches: number, keep: number): number {
  return Math.floor(patches * keep);
}

/** Share of the picture's object pixels that lie in kept patches; every picture counts the same. */
export function objectRecall({ any }: ObjectPixels, kept: Iterable<number>): Weighted {
  return { value: inside(any, kept) / sum(any), weight: 1 };
}

/** The same share of each instance; every instance counts the same. */
export function instanceRecall({ each }: ObjectPixels, kept: Iterable<number>): Weighted {
  const ids = [...kept];
  const value = each.reduce((total, counts) => total + inside(counts, ids) / sum(counts), 0);
  return { value, weight: each.length };
}

/** How many of these have at least half of their pixels in kept patches; each counts the same. */
export function halfKept(each: readonly Float64Array[], kept: Iterable<number>): Weighted {
  const ids = [...kept];
  const value = each.filter((counts) => 2 * inside(counts, ids) >= sum(counts)).length;
  return { value, weight: each.length };
}

function inside(counts: Float64Array, kept: Iterable<number>): number {
  let total = 0;
  for (const i of kept) total += counts[i] as number;
  return total;
}
