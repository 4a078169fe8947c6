/** From a ranking of a picture to the patches that another encoder keeps. The core computes. */
import { types } from 'node:util';
import { described } from './described.js';
import { callCore } from './native/call.js';
import type { Box, PatchGrid } from './patch-grid.js';
import { words, type CropRounding, type JobOptions } from './types.js';
import { checkOptions, invalid, readFields, reading, readList, readShort } from './validation.js';

/**
 * The view of a centre crop. The picture's short side is resized to `shortSide` pixels and its long side by the same factor, rounded
 * down; then the centre is cut out. A crop beyond the resized picture shows padding there.
 */
export interface CentreCrop {
  /** Pixels, an integer in [1, 1048576]. */
  shortSide: number;
  /** Pixels of the crop, an integer in [1, 1048576]. */
  height: number;
  /** Pixels of the crop, an integer in [1, 1048576]. */
  width: number;
  /** Where the crop begins when half of the difference is not whole: `'floor'` (transformers) or `'even'` (torchvision, `readImages`). */
  rounding: CropRounding;
}

/** A ranking with what it is of. A result of {@link rankFiles} is one, unless its `fit` was `'crop'`: then add the `view`. */
export interface PictureRanking {
  /** [L] in raster order; larger ranks higher. -Infinity: the patch is not ranked. */
  readonly logits: Float32Array;
  /** Rows and columns of patches; at most 1,048,576 patches. */
  readonly grid: PatchGrid;
  /** Pixels of the picture as the encoder sees it: after its EXIF rotation or before, but both alike. */
  readonly width: number;
  /** Pixels of the picture. */
  readonly height: number;
  /** The part of the picture that the grid covers: a box in its pixels, or a centre crop. Default: the whole picture. */
  readonly view?: Box | CentreCrop | undefined;
}

/**
 * An encoder's input for one picture, as its processor returned it. Exactly one of `shape`, `imageGridThw` and `spatialShape` tells the grid.
 * It is never computed from a processor's options, because implementations disagree.
 */
export interface KeepTarget {
  /**
   * `[…, height, width]`: dimensions of the pixel tensor, for encoders that cut a picture into `patchSize` (ViT, CLIP, SigLIP, DINOv2).
   * Pixels that fill no patch belong to none. Exactly one of `shape`, `imageGridThw` and `spatialShape`.
   */
  shape?: readonly number[] | undefined;
  /** With `shape`: side of a patch in pixels, an integer from 1 to the shorter side. */
  patchSize?: number | undefined;
  /**
   * With `shape`: `[height * width]`, the picture's `pixel_mask`: not 0 where the picture is, which must be a rectangle; the rest is
   * padding. Default: no padding.
   */
  pixelMask?: Uint8Array | BigInt64Array | undefined;
  /**
   * `[1, rows, columns]` in patches: the picture's row of `image_grid_thw` (Qwen2-VL and later). Exactly one of `shape`,
   * `imageGridThw` and `spatialShape`.
   */
  imageGridThw?: ArrayLike<number | bigint> | undefined;
  /** With `imageGridThw`: cells of merge * merge patches are kept or dropped whole. An integer in [1, 64] that divides rows and columns. Default 2. */
  merge?: number | undefined;
  /** `[rows, columns]` in patches: the picture's row of `spatial_shapes` (NaFlex). Exactly one of `shape`, `imageGridThw` and `spatialShape`. */
  spatialShape?: ArrayLike<number | bigint> | undefined;
  /**
   * Rows of the patch tensor that are this picture's, to be checked against the grid: as many as it has patches; with `spatialShape`
   * more, at most 1048576, if the processor padded them. Default: as many as the grid has patches.
   */
  tokens?: number | undefined;
  /**
   * The part of the picture that the input shows, or what `pixelMask` leaves of it: a box in the picture's pixels, which may reach beyond
   * the picture where it was padded; or a centre crop. Default: the whole picture.
   */
  view?: Box | CentreCrop | undefined;
}

/** Options of {@link keepFor}. Exactly one of `keep` and `keepRatio` must be given. */
export interface KeepOptions extends JobOptions {
  /** Number of cells to keep, 1 to all. Exactly one of `keep` and `keepRatio`. */
  keep?: number | undefined;
  /** Share of the cells to keep, in (0, 1]; the number is rounded, and at least 1. Exactly one of `keep` and `keepRatio`. */
  keepRatio?: number | undefined;
}

/** What {@link keepFor} keeps. K cells of the C = rows * columns of `grid`, P patches each: 1, or `merge` squared. */
export interface KeepList {
  /** `[K * P]`: rows of the encoder's patches, ascending. Of merged cells the P patches are consecutive. */
  ids: Int32Array;
  /** `[K * P, 2]`: row and column in the encoder's full grid, for position ids. */
  positions: Int32Array;
  /** `[tokens]`: 1 where kept; 0 where dropped or padding. */
  mask: Int32Array;
  /** `[K]`: ids of the kept cells in raster order, ascending. */
  cells: Int32Array;
  /** `[C]`: mean of the ranks under each cell, in [0, 1]; -Infinity where nothing is ranked. */
  values: Float64Array;
  /** Rows and columns of cells. */
  grid: PatchGrid;
}

const keepKeys = words<keyof KeepOptions>()('signal onProgress keep keepRatio');

const targetKeys = words<keyof KeepTarget>()(
  'shape patchSize pixelMask imageGridThw merge spatialShape tokens view',
);

const cropKeys = words<keyof CentreCrop>()('shortSide height width rounding');

/** Which of a target's fields go together. */
const needs = { patchSize: 'shape', pixelMask: 'shape', merge: 'imageGridThw' } as const;

/**
 * Maps a ranking onto the patches of another encoder: which of them to keep. Scores become normalised ranks, (rank - 1) / (L - 1), ties at
 * their mean. A cell's value is the area-weighted mean of the ranks under it, areas in the picture's pixels; so padding, crops and another
 * aspect are undone. If every patch under a cell outranks every patch under another, the cell does too; any monotone change of the logits
 * changes nothing; the same grid keeps the ranking's order. The K cells with the largest values are kept; those equal to 9 decimals are
 * ties, which the lower id wins; cells over padding come last. K depends on the grid and `keepRatio` alone.
 *
 * For batches, and for encoders whose tokens follow `ids` ({@link pruneOnnx}), see docs/keep.md.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for wrong sizes, a mask that is no rectangle, an encoder's view that shares nothing with
 *   the ranking's, and logits that are NaN, infinite (but for -Infinity), or all -Infinity.
 *
 * @example
 * ```ts
 * for await (const ranking of rankFiles(['cat.jpg'])) {
 *   if (!ranking.ok) throw ranking.error;
 *   const target = { imageGridThw: [1, 34, 46] }; // from the processor's image_grid_thw
 *   const { ids, positions } = await keepFor(ranking, target, { keepRatio: 0.5 });
 * }
 * ```
 */
export async function keepFor(
  ranking: PictureRanking,
  target: KeepTarget,
  options: KeepOptions,
): Promise<KeepList> {
  const checked = checkOptions(options, keepKeys);
  const { keep, keepRatio } = checked;
  if ((keep === undefined) === (keepRatio === undefined)) {
    throw invalid('Give exactly one of keep (a number of cells) and keepRatio (a share of them).');
  }
  const { logits, view, ...rest } = readRanking(ranking);
  const { pixelMask, ...encoder } = readTarget(target);
  const { shape, ...list } = await callCore(checked, { logits, pixelMask }, (core, job, given) =>
    core.keepFor(
      job,
      given.logits,
      { ...rest, view: readView('ranking.view', view) },
      { ...encoder, pixelMask: given.pixelMask },
      { keep, keepRatio },
    ),
  );
  return { ...list, grid: { rows: shape[0], columns: shape[1] } };
}

/** The fields of a ranking, each read once; the core checks them. */
export function readRanking(ranking: unknown): {
  logits: Float32Array;
  grid: unknown;
  width: unknown;
  height: unknown;
  view: unknown;
} {
  if (typeof ranking !== 'object' || ranking === null || types.isPromise(ranking)) {
    throw invalid(
      `ranking must be { logits, grid, width, height } as rankFiles returns it; got ${described(ranking)}.`,
    );
  }
  const keys = ['logits', 'grid', 'width', 'height', 'view'] as const;
  const { logits, grid, width, height, view } = readFields(ranking, keys, 'ranking');
  if (typeof grid !== 'object' || grid === null) {
    throw invalid(`ranking.grid must be { rows, columns }; got ${described(grid)}.`);
  }
  return {
    logits: logits as Float32Array,
    grid: readFields(grid, ['rows', 'columns'], 'ranking.grid'),
    width,
    height,
    view,
  };
}

function readTarget(target: KeepTarget): { pixelMask: Uint8Array | undefined } {
  const given = checkOptions(target, targetKeys, 'target');
  const grids = (['shape', 'imageGridThw', 'spatialShape'] as const).filter(
    (key) => given[key] !== undefined,
  );
  if (grids.length !== 1) {
    throw invalid(
      `target must have exactly one of shape, imageGridThw and spatialShape; got ${grids.join(', ') || 'none'}.`,
    );
  }
  for (const [key, grid] of Object.entries(needs)) {
    if (given[key as keyof typeof needs] !== undefined && grids[0] !== grid)
      throw invalid(`target.${key} is for a target with ${grid}; this one has ${grids.join()}.`);
  }
  const shape = readSizes('target.shape', given.shape);
  return {
    ...given,
    shape: Array.isArray(shape) && shape.length > 2 ? shape.slice(-2) : shape,
    imageGridThw: readSizes('target.imageGridThw', given.imageGridThw),
    spatialShape: readSizes('target.spatialShape', given.spatialShape),
    view: readView('target.view', given.view),
    pixelMask: readMask(given.pixelMask),
  } as { pixelMask: Uint8Array | undefined };
}

/** Processors make masks of 64-bit integers. */
function readMask(mask: KeepTarget['pixelMask']): Uint8Array | undefined {
  if (!types.isBigInt64Array(mask)) return mask;
  return reading('target.pixelMask', () => {
    const bytes = new Uint8Array(mask.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = mask[i] === 0n ? 0 : 1;
    return bytes;
  });
}

/** Processors count in 64 bits. */
function readSizes(name: string, sizes: unknown): unknown {
  const list = readShort(name, sizes);
  return Array.isArray(list)
    ? list.map((size: unknown) => (typeof size === 'bigint' ? Number(size) : size))
    : list;
}

function readView(name: string, view: unknown): object | undefined {
  if (view === undefined) return undefined;
  const box = readList(name, view, 4);
  if (box !== undefined) {
    const [left, top, width, height] = box;
    return { left, top, width, height };
  }
  const crop =
    typeof view === 'object' && view !== null && !Array.isArray(view) && !types.isTypedArray(view)
      ? checkOptions(view as CentreCrop, cropKeys, name)
      : undefined;
  if (crop?.shortSide === undefined) {
    throw invalid(
      `${name} must be [left, top, width, height] or { shortSide, height, width, rounding }, in pixels; got ${described(view)}.`,
    );
  }
  return crop;
}
