import { types } from 'node:util';
import { checkNormalization } from './images.js';
import { callCore } from './native/call.js';
import type { NativeImages } from './native/binding.js';
import {
  words,
  type Device,
  type ImageBatch,
  type JobOptions,
  type PixelBatch,
  type Prior,
} from './types.js';
import { checkOptions, invalid, readImageBatch } from './validation.js';

/** Options of {@link selectPatches}. Exactly one of `keep` and `keepRatio` must be given. */
export interface SelectPatchesOptions extends JobOptions {
  /** Number of patches to keep of each image, 1 to the L that have a logit above -Infinity. Exactly one of `keep` and `keepRatio`. */
  keep?: number | undefined;
  /** Share of the L patches to keep, in (0, 1]; the number is rounded, and at least 1. Exactly one of `keep` and `keepRatio`. */
  keepRatio?: number | undefined;
  /** Share of the kept patches, in [0, 1], that the logit alone chooses; the rest adds diversity. Default 1, with `'compat'` 0.7. */
  scoreShare?: number | undefined;
  /** Integer in [0, 2^53) that draws the noise not given. Default 0. */
  seed?: number | undefined;
  /** `'default'`: a cluster's centre represents it, raster order. `'compat'`: a random member, score order, then cluster order. */
  mode?: 'default' | 'compat' | undefined;
  /**
   * `'centre'`: chooses by a patch's rank by logit and its rank by nearness to the centre, summed, as `PatchRanker.rank` combines
   * them; not for logits that it has combined already. Default `'none'`.
   */
  prior?: Prior | undefined;
  /** `[n * L]` in [0, 1): breaks ties between densities. Default: drawn from `seed`. */
  densityNoise?: Float32Array | undefined;
  /** `[n * L]`, `'compat'` only: the member with the largest noise represents its cluster. Default: drawn from `seed`. */
  memberNoise?: Float32Array | undefined;
  /**
   * Where the clusters are found. Default `'cpu'`: the images are there, and it takes milliseconds for a few hundred patches.
   * Time grows with L², memory with the images: distances are made some rows at a time.
   */
  device?: Device | undefined;
  /** Side of a patch in pixels, at least 1. Default: the one that gives as many patches as there are logits. */
  patchSize?: number | undefined;
  /** For bytes only. Of pixels in [0, 1], red, green, blue. Default `imageNetMean`. */
  mean?: readonly number[] | undefined;
  /** For bytes only. Of pixels in [0, 1], red, green, blue. Default `imageNetStd`. */
  std?: readonly number[] | undefined;
}

const selectKeys = words<keyof SelectPatchesOptions>()(
  'signal onProgress keep keepRatio scoreShare seed mode prior densityNoise memberNoise device patchSize mean std',
);

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
 * arXiv 2404.00680; density peaks: Du et al., 2016). The same image, logits and noise give the same patches in any batch and on any
 * number of threads; noise that is drawn depends on the seed and the image's place. A patch whose logit is -Infinity is never
 * chosen and takes part in no cluster.
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
  const { data, shape } = readImageBatch(images);
  const { keep, keepRatio, densityNoise, memberNoise } = checked;
  if ((keep === undefined) === (keepRatio === undefined)) {
    throw invalid(
      'Give exactly one of keep (a number of patches) and keepRatio (a share of them).',
    );
  }
  if (types.isFloat32Array(data) && (checked.mean ?? checked.std) !== undefined) {
    throw invalid('mean and std are for bytes; these images are normalised already.');
  }
  const settings = { ...checked, ...checkNormalization(checked) };
  const arrays = { data, logits, densityNoise, memberNoise };
  return callCore(checked, arrays, (core, job, { data, logits, ...noise }) => {
    const given = { data, shape } as NativeImages;
    return core.selectPatches(job, given, logits, { ...settings, ...noise });
  });
}
