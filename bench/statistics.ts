/** Small sums over repeated timings and over scores. */
import { mulberry32 } from '../lib/evaluation/random.js';
import { quantile } from '../lib/quantile.js';

/** What repeated timings come to. */
export interface Spread {
  median: number;
  /** First and third quartile. */
  low: number;
  high: number;
  /** How many values. */
  count: number;
}

/** Median and quartiles; null for no values. */
export function spread(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  return {
    median: quantile(values, 0.5),
    low: quantile(values, 0.25),
    high: quantile(values, 0.75),
    count: values.length,
  };
}

/** Mean over all values of |value − reference| / |reference|: for scores, which are positive. */
export function meanRelativeError(
  values: readonly (readonly number[])[],
  reference: readonly (readonly number[])[],
): number {
  return pairwise(values, reference, (pairs) =>
    mean(pairs.map(([value, expected]) => Math.abs(value - expected) / Math.abs(expected))),
  );
}

/** Mean |value − reference| over mean |reference|: for logits, which cross zero. */
export function errorOverMean(
  values: readonly (readonly number[])[],
  reference: readonly (readonly number[])[],
): number {
  return pairwise(
    values,
    reference,
    (pairs) =>
      mean(pairs.map(([value, expected]) => Math.abs(value - expected))) /
      mean(pairs.map(([, expected]) => Math.abs(expected))),
  );
}

/** NaN, which agrees with nothing, unless `values` are the first rows and columns of `reference`. */
function pairwise(
  values: readonly (readonly number[])[],
  reference: readonly (readonly number[])[],
  measure: (pairs: readonly (readonly [number, number])[]) => number,
): number {
  const pairs: [number, number][] = [];
  for (const [i, row] of values.entries()) {
    for (const [j, value] of row.entries()) pairs.push([value, reference[i]?.[j] ?? NaN]);
  }
  return pairs.length === 0 ? NaN : measure(pairs);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of the mean over independent values. */
export function standardError(values: readonly number[]): number {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

/** Slope of the least-squares line through points (x, y). */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const [middle, height] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  let [above, below] = [0, 0];
  for (const [x, y] of points) {
    above += (x - middle) * (y - height);
    below += (x - middle) ** 2;
  }
  return above / below;
}

/** `count` draws without replacement out of [0, limit), ascending; the same for the same seed everywhere. */
export function drawAscending(limit: number, count: number, seed: number): number[] {
  const random = mulberry32(seed);
  const ids = Array.from({ length: limit }, (_, id) => id);
  for (let i = 0; i < count; i++) {
    const other = i + Math.floor(random() * (limit - i));
    [ids[i], ids[other]] = [ids[other] as number, ids[i] as number];
  }
  return ids.slice(0, count).sort((a, b) => a - b);
}

/**
 * How much of the work a contender is given: all of it where it fits into the budget, otherwise fewer images, then fewer
 * variants, at least one variant of one image. An image costs one pass for the anchor and one for each variant.
 */
export function affordable(
  wanted: { images: number; variants: number },
  millisecondsPerPass: number,
  budgetMs: number,
): { images: number; variants: number } {
  const passes = Math.max(2, Math.floor(budgetMs / millisecondsPerPass));
  const images = Math.max(1, Math.min(wanted.images, Math.floor(passes / (1 + wanted.variants))));
  const variants = Math.max(1, Math.min(wanted.variants, Math.floor(passes / images) - 1));
  return { images, variants };
}
