import { callCore } from './native/call.js';
import { words, type JobOptions } from './types.js';
import { checkOptions, readShort } from './validation.js';

/** Options of {@link rankAgreement}. */
export interface RankAgreementOptions extends JobOptions {
  /** Items that NDCG reads, the highest first: 1 to all. Default: all. */
  k?: number | undefined;
}

const agreementKeys = words<keyof RankAgreementOptions>()('signal onProgress k');

/** How well one ordering agrees with another, list by list. */
export interface RankAgreement {
  /** `[lists]`: Kendall's tau-b in [-1, 1]; NaN where a list is constant. */
  kendallTau: Float64Array;
  /** `[lists]`: normalised discounted cumulative gain in [0, 1], gain = target above its list's minimum. */
  ndcg: Float64Array;
  /** `[lists]`: Spearman's rank correlation in [-1, 1], equal values sharing the mean of their ranks; NaN where a list is constant. */
  spearman: Float64Array;
}

/**
 * Compares two orderings of the same items, for instance a ranker's logits with a teacher's scores. Kendall's tau-b counts
 * ties (Kendall 1945); the gain of NDCG is discounted by 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002), and equal predictions
 * are read in the order of the items.
 *
 * @param predicted - [lists, items].
 * @param target - [lists, items].
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, and `k`.
 */
export async function rankAgreement(
  predicted: Float32Array,
  target: Float32Array,
  shape: readonly [lists: number, items: number],
  options?: RankAgreementOptions,
): Promise<RankAgreement> {
  const checked = checkOptions(options, agreementKeys);
  const sizes = readShort('shape', shape) as typeof shape;
  return callCore(checked, { predicted, target }, (core, job, given) =>
    core.rankAgreement(job, given.predicted, given.target, sizes, checked),
  );
}
