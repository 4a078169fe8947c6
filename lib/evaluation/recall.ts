/** What of a picture's objects the kept patches contain. */
import { sum, type ObjectPixels } from './masks.js';
import type { Weighted } from './resamples.js';

/** Share of the picture's object pixels that lie in kept patches; every picture counts the same. */
export function objectRecall({ any }: Pick<ObjectPixels, 'any'>, kept: Iterable<number>): Weighted {
  return { value: inside(any, kept) / sum(any), weight: 1 };
}

/** The same share of each instance; every instance counts the same. */
export function instanceRecall(
  { each }: Pick<ObjectPixels, 'each'>,
  kept: Iterable<number>,
): Weighted {
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
