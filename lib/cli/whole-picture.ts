/** A picture of any size and aspect as a batch of one whose grid covers all of it. */
import sharp from 'sharp';
import { LtrpError } from '../errors.js';
import { readImages } from '../images.js';
import type { ImageBatch, ModelConfig } from '../types.js';
import { chooseGrid, type PatchGrid } from './patch-grid.js';

/** What --grid and --patches say. */
export interface GridWish {
  grid?: PatchGrid;
  patches?: number;
}

export interface WholePicture {
  images: ImageBatch;
  grid: PatchGrid;
  /** Pixels, after the EXIF rotation. */
  width: number;
  height: number;
}

/**
 * Reads a picture and stretches it to a grid of the model's patches: the one asked for, or about as many as the model was
 * made for in the arrangement that distorts the patches least. `fixedGrid`: the model's own, as CLS heads need it.
 *
 * @throws {LtrpError} as {@link readImages}; `ERR_LTRP_IMAGE_SIZE` when the grid has more rows or columns than pixels.
 */
export async function readWholePicture(
  file: string,
  config: ModelConfig,
  wish: GridWish,
  signal: AbortSignal,
  fixedGrid = false,
): Promise<WholePicture> {
  const { patchSize, mean, std } = config;
  const [rows, columns] = config.grid;
  let size: { width: number; height: number } | undefined;
  try {
    size = (await sharp(file, { limitInputPixels: false }).metadata()).autoOrient;
  } catch {
    // readImages says what is wrong with the file.
  }
  const { width, height } = size ?? { width: 1, height: 1 };
  const grid = fixedGrid
    ? { rows, columns }
    : (wish.grid ?? chooseGrid(width, height, wish.patches ?? rows * columns));
  const images = await readImages([file], {
    size: [grid.rows * patchSize, grid.columns * patchSize],
    fit: 'stretch',
    mean,
    std,
    signal,
  });
  if (grid.rows > height || grid.columns > width) {
    throw new LtrpError(
      'ERR_LTRP_IMAGE_SIZE',
      `The image ${file} is ${String(width)} x ${String(height)} pixels, too few for ${String(grid.rows)} rows ` +
        `and ${String(grid.columns)} columns of patches; ask for fewer.`,
    );
  }
  return { images, grid, width, height };
}
