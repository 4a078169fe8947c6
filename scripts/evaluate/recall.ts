/** What of a picture's objects the kept patches contain. */
import { sum, type ObjectPixels } from './masks.js';

/** Shares of the patches that are kept. */
export const keeps = [0.25, 0.5, 0.75] as const;

/** Number of patches kept: 49, 98 and 147 of 196. */
export function keptCount(patches: number, keep: number): number {
  return Math.floor(patches * keep);
}

/** Patches by descending score; equal scores in raster order. */
export function descending(map: ArrayLike<number>): number[] {
  return Array.from(map, (_, i) => i).sort((a, b) => (map[b] as number) - (map[a] as number));
}

/** A figure of one picture: figures of several pictures are Σ value / Σ weight. */
export interface Weighted {
  value: number;
  weight: number;
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

function inside(counts: Float64Array, kept: Iterable<number>): number {
  let total = 0;
  for (const i of kept) total += counts[i] as number;
  return total;
}
