import { readRanking, type PictureRanking } from './keep-list.js';
import { callCore } from './native/call.js';
import type { Box } from './patch-grid.js';
import { words, type JobOptions } from './types.js';
import { checkOptions, invalid } from './validation.js';

/** Options of {@link denseRegions}. */
export interface RegionOptions extends JobOptions {
  /** Regions, at most: an integer in [1, 1024]. Default 1. */
  count?: number | undefined;
  /** Share of the patches that regions are made of, in (0, 1]. Default 0.25. */
  keepRatio?: number | undefined;
  /** Added on each side, as a share of the region's own side, in [0, 10]. Default 0. */
  padding?: number | undefined;
  /** Width / height of the boxes, in [0.01, 100]; they grow until they have it. Default: as they come. */
  aspect?: number | undefined;
}

const regionKeys = words<keyof RegionOptions>()('signal onProgress count keepRatio padding aspect');

/** A part of a picture where high ranks lie together. */
export interface Region {
  /** In pixels of the picture, within it. */
  box: Box;
  /** Ranks in it (the best patch: as many as are kept; the last: 1) by those of all kept patches, in (0, 1]. */
  weight: number;
}

/**
 * Where the patches with the highest ranks lie together: those of `keepRatio`, joined with their neighbours above, below, left and right.
 * Regions come by falling weight. A box is what its patches cover, then `padding`, then `aspect`; it is moved into the picture, or cut to it.
 *
 * @param ranking - of a whole picture, as {@link rankFiles} returns it.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, a `view`, options out of range, and logits that are NaN, infinite (but
 *   for -Infinity), or all -Infinity.
 *
 * @example
 * ```ts
 * const [region] = await denseRegions(ranking, { aspect: 1, padding: 0.1 });
 * ```
 */
export async function denseRegions(
  ranking: PictureRanking,
  options?: RegionOptions,
): Promise<Region[]> {
  const checked = checkOptions(options, regionKeys);
  const { count, keepRatio, padding, aspect } = checked;
  const { logits, view, ...picture } = readRanking(ranking);
  if (view !== undefined) throw invalid('ranking.view is not for regions: rank the whole picture.');
  return callCore(checked, { logits }, (core, job, given) =>
    core.denseRegions(job, given.logits, picture, { count, keepRatio, padding, aspect }),
  );
}
