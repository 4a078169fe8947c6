/** Whether a contender computes the same thing as float64 does. */
import { rankAgreement } from '../lib/index.js';
import type { Tolerance } from './contenders.js';
import { errorOverMean, mean, meanRelativeError } from './statistics.js';

export interface Agreement {
  error: number;
  kendallTau: number | null;
}

/** Compares rows of scores or logits with the first rows and columns of the reference. */
export async function agreement(
  kind: 'scores' | 'ranker',
  values: readonly (readonly number[])[],
  reference: readonly (readonly number[])[],
): Promise<Agreement> {
  const width = values[0]?.length ?? 0;
  const expected = reference.slice(0, values.length).map((row) => row.slice(0, width));
  const error = (kind === 'scores' ? meanRelativeError : errorOverMean)(values, expected);
  if (width < 2 || Number.isNaN(error)) return { error, kendallTau: null };
  const { kendallTau } = await rankAgreement(
    Float32Array.from(values.flat()),
    Float32Array.from(expected.flat()),
    [values.length, width],
  );
  return { error, kendallTau: mean(Array.from(kendallTau)) };
}

/** Why a contender is not timed, or null. NaN disagrees. */
export function disagreement(found: Agreement, tolerance: Tolerance): string | null {
  if (!(found.error <= tolerance.error)) {
    return `Its error against float64 is ${found.error.toExponential(1)}, allowed are ${tolerance.error.toExponential(1)}.`;
  }
  if (found.kendallTau !== null && !(found.kendallTau >= tolerance.kendallTau)) {
    return `Its Kendall tau against float64 is ${found.kendallTau.toFixed(3)}, at least ${tolerance.kendallTau} is asked for.`;
  }
  return null;
}
