/** How far apart two tensors are. */
import type { ExecutionContext } from 'ava';

/** Largest |a - b|. */
export function absoluteDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    // A NaN on either side must not compare as equal.
    const difference = Math.abs((a[index] as number) - (b[index] as number));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

/** Largest |a - b| / |b|. */
export function relativeDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    const reference = b[index] as number;
    const difference = Math.abs((a[index] as number) - reference) / Math.abs(reference);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

export function isWithin(
  t: ExecutionContext,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: { absolute: number } | { relative: number },
  what: string,
): void {
  t.is(actual.length, expected.length, `${what}: number of values`);
  const [difference, limit] =
    'absolute' in tolerance
      ? [absoluteDifference(actual, expected), tolerance.absolute]
      : [relativeDifference(actual, expected), tolerance.relative];
  t.true(difference <= limit, `${what}: off by ${difference}, at most ${limit} is allowed`);
}
