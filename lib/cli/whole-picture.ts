/** A picture of any size and aspect, stretched to a grid that covers all of it. */
import sharp from 'sharp';
import { LtrpError, toLtrpError } from '../errors.js';
import { decodePicture, normalizePictures } from '../images.js';
import type { ImageBatch, ModelConfig } from '../types.js';
import { chooseGrid, type PatchGrid } from './patch-grid.js';

/** What --grid and --patches say. */
export interface GridWish {
  grid?: PatchGrid;
  patches?: number;
}

export interface DecodedWholePicture {
  /** RGB bytes, row by row. */
  pixels: Uint8Array;
  /** Of `pixels`: the grid times the patch size. */
  size: readonly [height: number, width: number];
  grid: PatchGrid;
  /** Pixels of the file, after the EXIF rotation. */
  width: number;
  height: number;
}

export interface WholePicture extends DecodedWholePicture {
  /** A batch of one. */
  images: ImageBatch;
}

/**
 * Decodes a picture and stretches it to a grid of the model's patches: the one asked for, or about as many as the model was
 * made for in the arrangement that distorts the patches least. `fixedGrid`: the model's own, as CLS heads need it.
 *
 * @throws {LtrpError} as `readImages`; `ERR_LTRP_IMAGE_SIZE` when the grid has more rows or columns than pixels.
 */
export async function decodeWholePicture(
  file: string,
  config: ModelConfig,
  wish: GridWish,
  signal: AbortSignal,
  fixedGrid = false,
): Promise<DecodedWholePicture> {
  const { patchSize } = config;
  const [rows, columns] = config.grid;
  let found: { width: number; height: number } | undefined;
  try {
    found = (await sharp(file, { limitInputPixels: false }).metadata()).autoOrient;
  } catch {
    // decodePicture says what is wrong with the file.
  }
  const { width, height } = found ?? { width: 1, height: 1 };
  const grid = fixedGrid
    ? { rows, columns }
    : (wish.grid ?? chooseGrid(width, height, wish.patches ?? rows * columns));
  const size = [grid.rows * patchSize, grid.columns * patchSize] as const;
  const { pixels } = await decodePicture(file, { size, fit: 'stretch', signal }).catch(
    (error: unknown) => {
      signal.throwIfAborted();
      throw toLtrpError(error);
    },
  );
  if (grid.rows > height || grid.columns > width) {
    throw new LtrpError(
      'ERR_LTRP_IMAGE_SIZE',
      `The image ${file} is ${String(width)} x ${String(height)} pixels, too few for ${String(grid.rows)} rows ` +
        `and ${String(grid.columns)} columns of patches; ask for fewer.`,
    );
  }
  return { pixels, size, grid, width, height };
}

/** {@link decodeWholePicture}, normalised. */
export async function readWholePicture(
  file: string,
  config: ModelConfig,
  wish: GridWish,
  signal: AbortSignal,
): Promise<WholePicture> {
  const picture = await decodeWholePicture(file, config, wish, signal);
  const images = await normalizePictures(picture.pixels, [1, ...picture.size], config, signal);
  return { ...picture, images };
}
