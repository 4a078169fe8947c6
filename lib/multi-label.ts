import type { LossAndGradient } from './losses.js';
import { callCore } from './native/call.js';
import { words, type JobOptions } from './types.js';
import { checkOptions, jobKeys, readShort } from './validation.js';

/** Options of {@link asymmetricLoss}. */
export interface AsymmetricLossOptions extends JobOptions {
  /** Focusing power of absent labels, at least 0. Default 4. */
  gammaNegative?: number | undefined;
  /** Focusing power of present labels, at least 0. Default 0. */
  gammaPositive?: number | undefined;
  /** In [0, 1): absent labels of a probability up to this have no loss. Default 0.05. */
  margin?: number | undefined;
}

const lossKeys = words<keyof AsymmetricLossOptions>()(
  'signal onProgress gammaNegative gammaPositive margin',
);

/**
 * The asymmetric loss of multi-label classification (Ridnik et al., ICCV 2021) and its gradient. With p = σ(logit) and
 * q = min(1 − p + margin, 1): −Σ [y (1 − p)^γ₊ log p + (1 − y) (1 − q)^γ₋ log q], divided by the number of images. The powers
 * carry no gradient, as in the authors' code. Probabilities are at least 1e-8. Sums run in float64.
 *
 * @param logits - [images, classes].
 * @param targets - [images, classes]: 1 where the label is present, else 0.
 * @returns `loss`: the sum over classes, per image. `gradient`: [images * classes], its derivative by `logits`.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, other targets, logits that are not finite, and options out of range.
 */
export async function asymmetricLoss(
  logits: Float32Array,
  targets: Float32Array | Uint8Array,
  shape: readonly [images: number, classes: number],
  options?: AsymmetricLossOptions,
): Promise<LossAndGradient> {
  const checked = checkOptions(options, lossKeys);
  const sizes = readShort('shape', shape) as typeof shape;
  return callCore(checked, { logits, targets }, (core, job, given) =>
    core.asymmetricLoss(job, given.logits, given.targets, sizes, checked),
  );
}

/** How well scores find the labels of a data set. */
export interface MeanAveragePrecision {
  /** In [0, 1]: mean of `perClass` over the classes with a positive; NaN where there is none. */
  mean: number;
  /** `[classes]`: average precision; NaN for a class without a positive. */
  perClass: Float64Array;
  /** Number of classes without a positive, which `mean` leaves out. */
  withoutPositive: number;
}

/**
 * Average precision of each class over a whole data set: Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores, falling; equal scores are one
 * threshold, so the order of images does not matter. scikit-learn's `average_precision_score` is the same. Never average the
 * results of batches: that is another measure.
 *
 * @param scores - [images, classes]: logits or probabilities; only their order within a class counts.
 * @param targets - [images, classes]: 1 where the label is present, else 0.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, other targets, and scores that are not finite.
 */
export async function meanAveragePrecision(
  scores: Float32Array,
  targets: Float32Array | Uint8Array,
  shape: readonly [images: number, classes: number],
  options?: JobOptions,
): Promise<MeanAveragePrecision> {
  const checked = checkOptions(options, jobKeys);
  const sizes = readShort('shape', shape) as typeof shape;
  return callCore(checked, { scores, targets }, (core, job, given) =>
    core.averagePrecision(job, given.scores, given.targets, sizes),
  );
}
