/** Pictures of one size in one call of the core: their logits, and which patches are kept. */
import { permutation } from '../data/shuffle.js';
import { toLtrpError, type LtrpErrorCode } from '../errors.js';
import { rankAndSelect, type PatchRanker } from '../patch-ranker.js';
import { keepCount, selectPatches } from '../selection.js';
import type { Device, PixelBatch, Prior } from '../types.js';

/** A decoded picture: RGB bytes of `size`. */
export interface SizedPicture {
  pixels: Uint8Array;
  size: readonly [height: number, width: number];
}

/** The part of a {@link PatchRanker} that is needed. */
export type Ranks = Pick<PatchRanker, 'config' | 'rank'>;

/** Which patches are kept. */
export interface KeepWish {
  /** Number of patches to keep; of a picture with fewer, all. Without it and `keepRatio` nothing is selected. */
  keep?: number | undefined;
  /** Share of the patches to keep. Only one of `keep` and `keepRatio` is given. */
  keepRatio?: number | undefined;
  /** As in `selectPatches`. */
  scoreShare?: number | undefined;
  /** What the logits are combined with, as in `PatchRanker.rank`. */
  prior?: Prior | undefined;
  /** Seed of the noise that breaks ties between densities. */
  seed: number;
  /** Where the kept patches are chosen, as in `selectPatches`. */
  device?: Device | undefined;
}

/** What becomes of one picture. */
export interface RankedPatches {
  /** [L] in raster order. */
  logits: Float32Array;
  /** [keep], ascending; empty without a selection. */
  indices: Int32Array;
}

/** Values of a batch at most, whatever the size of its pictures. */
const fullBatchPixels = 2 ** 22;

/** How many pictures of so many pixels are computed together. */
export function batchOf(batchSize: number, pixels: number): number {
  return Math.min(batchSize, Math.max(1, Math.floor(fullBatchPixels / pixels)));
}

/** Pictures of one size as a batch. */
export function together(pictures: readonly SizedPicture[]): PixelBatch {
  const { pixels, size } = pictures[0] as SizedPicture;
  const shape = [pictures.length, ...size, 3] as const;
  if (pictures.length === 1) return { data: pixels, shape };
  const data = new Uint8Array(pictures.length * pixels.length);
  for (const [index, picture] of pictures.entries())
    data.set(picture.pixels, index * pixels.length);
  return { data, shape };
}

/** What is each picture's of the values of a batch of `count`. */
export function ofEach<Values extends Float32Array | Int32Array>(
  values: Values,
  count: number,
): Values[] {
  const length = values.length / count;
  return Array.from(
    { length: count },
    (_, index) => values.slice(index * length, (index + 1) * length) as Values,
  );
}

/**
 * Ranks pictures of one size. Never rejects: every picture gets its result or its error. A picture's result does not depend on
 * the others, to the last bit (docs/engine.md, The contract).
 */
export function rankTogether(
  ranker: Ranks,
  pictures: readonly SizedPicture[],
  wish: KeepWish,
  signal: AbortSignal,
): Promise<PromiseSettledResult<RankedPatches>[]> {
  return oneByOneIfNeeded(pictures, signal, async (batch) => {
    const { logits, indices } = await ranked(ranker, together(batch), wish, signal);
    const kept = ofEach(indices, batch.length);
    return ofEach(logits, batch.length).map((own, index) => ({
      logits: own,
      indices: kept[index] as Int32Array,
    }));
  });
}

/** Computes a batch, or where that fails for a reason that one of its items may have alone, each item by itself. Never rejects. */
export async function oneByOneIfNeeded<Item, Result>(
  items: readonly Item[],
  signal: AbortSignal,
  compute: (batch: readonly Item[]) => Promise<Result[]>,
): Promise<PromiseSettledResult<Result>[]> {
  try {
    const results = await compute(items);
    return results.map((value) => ({ status: 'fulfilled', value }));
  } catch (reason) {
    const { code } = toLtrpError(reason);
    if (items.length === 1 || signal.aborted || !aloneMayWork.includes(code)) {
      return items.map(() => ({ status: 'rejected', reason }));
    }
    const results: PromiseSettledResult<Result>[] = [];
    for (const item of items) results.push(...(await oneByOneIfNeeded([item], signal, compute)));
    return results;
  }
}

/**
 * Memory for one picture may be there where that for all is not, and a picture whose logits are not finite fails the batch. All
 * else (a disposed ranker, a device that fails) would fail again for every picture.
 */
const aloneMayWork: readonly LtrpErrorCode[] = [
  'ERR_LTRP_OUT_OF_MEMORY',
  'ERR_LTRP_INVALID_ARGUMENT',
  'ERR_LTRP_NOT_FINITE',
];

async function ranked(
  ranker: Ranks,
  images: PixelBatch,
  wish: KeepWish,
  signal: AbortSignal,
): Promise<RankedPatches> {
  const { patchSize, mean, std } = ranker.config;
  const select = selection(images, patchSize, wish);
  const { prior } = wish;
  const both = rankAndSelect(ranker, images, { prior, select }, signal);
  if (both !== undefined) return { indices: new Int32Array(0), ...(await both) };
  // A ranker of an older copy of the package has no such option.
  const combined = prior === undefined ? {} : { prior };
  const { logits } = await ranker.rank(images, { signal, ...combined });
  if (select === undefined) return { logits, indices: new Int32Array(0) };
  const options = { ...select, patchSize, mean, std, signal };
  return { logits, indices: (await selectPatches(images, logits, options)).indices };
}

function selection(
  { shape: [count, height, width] }: PixelBatch,
  patchSize: number,
  { keep: number, keepRatio, scoreShare, seed, device = 'cpu' }: KeepWish,
) {
  const patches = (height / patchSize) * (width / patchSize);
  const wish = keepRatio === undefined ? number : keepCount(patches, keepRatio);
  if (wish === undefined) return undefined;
  // The same for every picture, wherever it stands in a batch.
  const noise = Float32Array.from(permutation(patches, seed), (place) => place / patches);
  const densityNoise = new Float32Array(count * patches);
  for (let at = 0; at < densityNoise.length; at += patches) densityNoise.set(noise, at);
  return { keep: Math.min(wish, patches), scoreShare, densityNoise, device };
}
