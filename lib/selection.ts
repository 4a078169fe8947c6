import { types } from 'node:util';
import { checkNormalization, normalizePictures } from './images.js';
import { callCore, copied } from './native/call.js';
import { deviceWord } from './models.js';
import type { Device, ImageBatch, JobOptions, PixelBatch } from './types.js';
import {
  checkChoice,
  checkFloats,
  checkBatch,
  checkInteger,
  checkOptions,
  checkPresent,
  checkShare,
  imageGeometry,
  invalid,
  jobKeys,
  type OptionKeys,
} from './validation.js';

/** Options of {@link selectPatches}. Exactly one of `keep` and `keepRatio` must be given. */
export interface SelectPatchesOptions extends JobOptions {
  /** Number of patches to keep of each image, 1 to the L that have a logit above -Infinity. Exactly one of `keep` and `keepRatio`. */
  keep?: number | undefined;
  /** Share of the L patches to keep, in (0, 1]; the number is rounded, and at least 1. Exactly one of `keep` and `keepRatio`. */
  keepRatio?: number | undefined;
  /** Share of the kept patches that are simply the highest logits, in [0, 1]; the rest is for diversity. Default 0.7. */
  scoreShare?: number | undefined;
  /** Integer in [0, 2^53) that draws the noise not given. Default 0. */
  seed?: number | undefined;
  /** `'default'`: a cluster's centre represents it, raster order. `'compat'`: a random member, score order, then cluster order. */
  mode?: 'default' | 'compat' | undefined;
  /** `[n * L]` in [0, 1): breaks ties between densities. Default: drawn from `seed`. */
  densityNoise?: Float32Array | undefined;
  /** `[n * L]`, `'compat'` only: the member with the largest noise represents its cluster. Default: drawn from `seed`. */
  memberNoise?: Float32Array | undefined;
  /**
   * Where the clusters are found. Default `'cpu'`: the images are there, and it takes milliseconds for a few hundred patches.
   * Time grows with L², memory with the images: distances are made some rows at a time.
   */
  device?: Device | undefined;
  /** Side of a patch in pixels, at least 1. Default: the one for which the images have as many patches as there are logits. */
  patchSize?: number | undefined;
  /** For bytes only. Of pixels in [0, 1], red, green, blue. Default `imageNetMean`. */
  mean?: readonly number[] | undefined;
  /** For bytes only. Of pixels in [0, 1], red, green, blue. Default `imageNetStd`. */
  std?: readonly number[] | undefined;
}

const selectKeys: OptionKeys<SelectPatchesOptions> = {
  ...jobKeys,
  keep: true,
  keepRatio: true,
  scoreShare: true,
  seed: true,
  mode: true,
  densityNoise: true,
  memberNoise: true,
  device: true,
  patchSize: true,
  mean: true,
  std: true,
};

/** Patches to keep. */
export interface Selection {
  /** `[n, keep]`: ids in raster order (mode `'default'`). */
  indices: Int32Array;
  /** Of `indices`. */
  shape: readonly [images: number, keep: number];
}

/** Number of patches kept of `patches` at a share: rounded, at least 1. */
export function keepCount(patches: number, keepRatio: number): number {
  return Math.max(1, Math.round(patches * keepRatio));
}

/**
 * Chooses which patches of each image to keep: ⌊keep · scoreShare⌋ with the highest logits, the rest from DPC-KNN clusters
 * of the normalised pixels of all patches, the largest clusters without a kept representative first (section 3.3 of
 * arXiv 2404.00680; density peaks: Du et al., 2016). The same inputs and seed give the same patches. A patch whose logit is
 * -Infinity is never chosen and takes part in no cluster.
 *
 * @param images - [n, 3, H, W], normalised; or bytes [n, H, W, 3], which are normalised by `mean` and `std` first.
 * @param logits - [n * L] as {@link PatchRanker.rank} returns them; any scores will do, larger is better.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, for pixels or logits that are NaN or infinite (but for
 *   logits of -Infinity), and for a `keep` above the number of patches of an image that may be chosen.
 */
export async function selectPatches(
  images: ImageBatch | PixelBatch,
  logits: Float32Array,
  options: SelectPatchesOptions,
): Promise<Selection> {
  const checked = checkOptions(options, selectKeys);
  checkBatch(images);
  checkPresent('logits', logits);
  checkFloats('logits', logits);
  if (logits.length === 0) throw invalid('logits is empty; it needs a value for every patch.');
  const { count, height, width } = imageGeometry(images);
  checkInteger('patchSize', checked.patchSize, 1);
  const patchSize =
    checked.patchSize ?? Math.round(Math.sqrt((count * height * width) / logits.length));
  const patches = (height / patchSize) * (width / patchSize);
  if (!Number.isInteger(height / patchSize) || !Number.isInteger(width / patchSize)) {
    throw invalid(
      checked.patchSize === undefined
        ? `No patch size cuts ${count} images of ${width} x ${height} pixels into ${logits.length} patches; check the length of logits.`
        : `The images are ${width} x ${height} pixels, but both sides must be multiples of the patch size ${patchSize}.`,
    );
  }
  checkFloats('logits', logits, count * patches);
  const { keep, keepRatio, scoreShare = 0.7, seed = 0, mode = 'default' } = checked;
  if ((keep === undefined) === (keepRatio === undefined)) {
    throw invalid(
      'Give exactly one of keep (a number of patches) and keepRatio (a share of them).',
    );
  }
  checkInteger('keep', keep, 1, patches);
  checkShare('keepRatio', keepRatio, '(0, 1]');
  checkShare('scoreShare', scoreShare, '[0, 1]');
  checkInteger('seed', seed, 0);
  checkChoice('mode', mode, ['default', 'compat']);
  const { densityNoise, memberNoise } = checked;
  checkFloats('densityNoise', densityNoise, count * patches);
  checkFloats('memberNoise', memberNoise, count * patches);
  const normalization = checkNormalization(checked);
  if (!types.isUint8Array(images.data) && (checked.mean ?? checked.std) !== undefined) {
    throw invalid('mean and std are for bytes; these images are normalised already.');
  }
  const native = {
    keep: keep ?? keepCount(patches, keepRatio as number),
    device: deviceWord(checked.device ?? 'cpu'),
    patchSize,
    scoreShare,
    seed,
    mode,
  };
  const select = (
    { data, shape }: ImageBatch,
    inputs: { logits: Float32Array; densityNoise?: Float32Array; memberNoise?: Float32Array },
  ): Promise<Selection> =>
    callCore(checked, { ...inputs, data }, (core, job, given) => {
      const { densityNoise, memberNoise } = given;
      const settings = { ...native, densityNoise, memberNoise };
      return core.selectPatches(job, { data: given.data, shape }, given.logits, settings);
    });
  const inputs = {
    logits,
    ...(densityNoise && { densityNoise }),
    ...(memberNoise && { memberNoise }),
  };
  if (!types.isUint8Array(images.data)) return select(images as ImageBatch, inputs);
  // What is used after the pixels is copied now: callers may change it as soon as they have the promise.
  const later = copied(inputs);
  const size = [count, height, width] as const;
  return select(await normalizePictures(images.data, size, normalization, checked.signal), later);
}
