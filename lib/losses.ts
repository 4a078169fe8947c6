import { callCore } from './native/call.js';
import { words, type JobOptions, type LossName } from './types.js';
import { checkOptions, readShort } from './validation.js';

/** Options of {@link rankingLoss}. */
export interface RankingLossOptions extends JobOptions {
  /**
   * A number of items, at least 1. `'listMle'`: drawn from each list without replacement, default all of them. `'focusedRank'`:
   * those in focus, required. Above the items of a list: all of them.
   */
  k?: number | undefined;
  /** `[lists * items]`: `'listMle'` with `k` takes the k items with the smallest noise. Default: drawn from `seed`. */
  noise?: Float32Array | undefined;
  /** Integer in [0, 2^53). Default 0. */
  seed?: number | undefined;
}

const lossKeys = words<keyof RankingLossOptions>()('signal onProgress k noise seed');

/** A loss and its derivative. */
export interface LossAndGradient {
  /** Mean over the lists or images. */
  loss: number;
  /** As long as the predictions: the derivative of `loss` by them. */
  gradient: Float32Array;
}

/**
 * A learning-to-rank loss of `predicted` (s) against `target` (y) and its gradient by autograd. Sums run over the items of
 * a list sorted by y, descending, and means over lists:
 *
 * - `'listMle'`: Σ_j log Σ_{l ≥ j} exp(s_l) − s_j; with `k` on k items drawn from each list (Xia et al., ICML 2008).
 * - `'listNet'`: mean of −softmax(y) · log softmax(s) over all elements (Cao et al., ICML 2007).
 * - `'pointWise'`: mean squared error.
 * - `'rankNet'`: half the mean of the binary cross-entropy of σ(s_i − s_j) against 1, ½ (|y_i − y_j| < 0.001) or 0 over all
 *   pairs, the diagonal included (Burges et al., ICML 2005).
 * - `'focusedRank'`: listMle on the k highest y plus rankNet between those and the rest.
 *
 * The choice and the settings follow section 3.2 of arXiv 2404.00680, which uses listMle with k = 20.
 * All take memory in proportion to the items; the two over pairs take time with their square.
 *
 * @param predicted - [lists, items].
 * @param target - [lists, items].
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, names and `k`, for values that are not finite, and when the loss
 *   or its gradient is not.
 */
export async function rankingLoss(
  name: LossName,
  predicted: Float32Array,
  target: Float32Array,
  shape: readonly [lists: number, items: number],
  options?: RankingLossOptions,
): Promise<LossAndGradient> {
  const checked = checkOptions(options, lossKeys);
  const sizes = readShort('shape', shape) as typeof shape;
  const { noise } = checked;
  return callCore(checked, { predicted, target, noise }, (core, job, { noise, ...given }) =>
    core.rankingLoss(job, name, given.predicted, given.target, sizes, { ...checked, noise }),
  );
}
