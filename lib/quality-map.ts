import { keepFor, readRanking, type PictureRanking } from './keep-list.js';
import type { PatchGrid } from './patch-grid.js';
import { blockPixels } from './pictures/soften.js';
import { loadSharp } from './sharp.js';
import { words, type JobOptions } from './types.js';
import { checkBoolean, checkInteger, checkOptions, invalid } from './validation.js';

/** Options of {@link qualityMap}. */
export interface QualityMapOptions extends JobOptions {
  /** Side of a block in pixels: the encoder's, an integer in [4, 1024]. Default 16. */
  block?: number | undefined;
  /** Also make `pixels`. Default false. */
  pixels?: boolean | undefined;
}

/** What {@link qualityMap} returns. */
export interface QualityMap {
  /** `[rows * columns]` in raster order: mean of the ranks under each block, in [0, 1]; 1 ranks highest, 0 too where nothing is ranked. */
  values: Float64Array;
  /** Rows and columns of blocks. The last of them may reach beyond the picture. */
  grid: PatchGrid;
  /** Side of a block in pixels. */
  block: number;
  /** Pixels of the picture. */
  width: number;
  /** Pixels of the picture. */
  height: number;
  /** `[height * width]` on request: the value of each pixel's block, from 0 to 255. */
  pixels?: Uint8Array;
}

const qualityKeys = words<keyof QualityMapOptions>()('signal onProgress block pixels');

/** As of the patches of any encoder. */
const mostBlocks = 2 ** 20;

/**
 * How much of an encoder's quality each block of a picture deserves by its rank: a value for each block, for encoders that take a quality or
 * a quantiser's offset for each of theirs (regions of interest). Ranks become values as in {@link keepFor}.
 *
 * @param ranking - of a whole picture, as {@link rankFiles} returns it.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, a `view`, more than 1,048,576 blocks, and logits that are NaN, infinite (but
 *   for -Infinity), or all -Infinity; or the signal's reason.
 *
 * @example
 * ```ts
 * const { values, grid } = await qualityMap(ranking, { block: 64 });
 * ```
 */
export async function qualityMap(
  ranking: PictureRanking,
  options?: QualityMapOptions,
): Promise<QualityMap> {
  const checked = checkOptions(options, qualityKeys);
  const { block = 16, pixels = false, ...job } = checked;
  checkInteger('block', block, 4, 1024);
  checkBoolean('pixels', pixels);
  const { logits, grid: given, width, height, view } = readRanking(ranking);
  if (view !== undefined)
    throw invalid('ranking.view is not for a quality map: rank the whole picture.');
  const [rows, columns] = [height, width].map((side) =>
    // Sizes that are wrong are refused by the core.
    Number.isInteger(side) ? Math.max(Math.ceil((side as number) / block), 1) : 1,
  ) as [number, number];
  if (rows * columns > mostBlocks) {
    throw invalid(
      `block must be larger: ranking.width and ranking.height make ${rows * columns} blocks, and at most ${mostBlocks} are possible.`,
    );
  }
  const sides = [rows * block, columns * block] as const;
  const { values: ranks } = await keepFor(
    { logits, grid: given as PatchGrid, width: width as number, height: height as number },
    { shape: sides, patchSize: block, view: [0, 0, sides[1], sides[0]] },
    { keep: 1, ...job },
  );
  const values = ranks.map((rank) => Math.max(rank, 0));
  const map = {
    values,
    grid: { rows, columns },
    block,
    width: width as number,
    height: height as number,
  };
  if (!pixels) return map;
  const made = await blockPixels(await loadSharp(), map);
  checked.signal?.throwIfAborted();
  return { ...map, pixels: made };
}
