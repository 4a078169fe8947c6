/** A picture of any size and aspect, stretched to a grid that covers all of it. */
import { LtrpError, toLtrpError } from './errors.js';
import { decodePicture } from './images.js';
import { sourceName } from './pictures/bytes.js';
import type { PictureSize } from './pictures/types.js';
import { chooseGrid, type PatchGrid } from './patch-grid.js';
import type { ModelConfig, PixelBatch } from './types.js';

/** Which grid a picture is to be cut into; neither: as many patches as the model was made for. */
export interface GridWish {
  grid?: PatchGrid | undefined;
  /** About so many patches, in the arrangement that distorts them least. */
  patches?: number | undefined;
}

export interface DecodedWholePicture extends PictureSize {
  /** RGB bytes, row by row. */
  pixels: Uint8Array;
  /** Of `pixels`: the grid times the patch size. */
  size: readonly [height: number, width: number];
  grid: PatchGrid;
}

export interface WholePictureOptions {
  /** It is stretched to the model's own grid, as CLS heads need it. */
  fixedGrid?: boolean | undefined;
  /** The picture's name in messages. */
  name?: string | undefined;
  /** As of `decodePicture`. */
  check?: ((size: PictureSize) => void) | undefined;
}

export interface WholePicture extends DecodedWholePicture {
  /** A batch of one. */
  images: PixelBatch;
}

/**
 * Decodes a picture and stretches it to a grid of the model's patches: the one asked for, or about as many as the model was
 * made for in the arrangement that distorts the patches least.
 *
 * @throws {LtrpError} as `readImages`; `ERR_LTRP_IMAGE_SIZE` when the grid has more rows or columns than pixels.
 */
export async function decodeWholePicture(
  source: string | Uint8Array,
  config: Pick<ModelConfig, 'grid' | 'patchSize'>,
  wish: GridWish,
  signal: AbortSignal,
  { fixedGrid = false, name = sourceName(source), check }: WholePictureOptions = {},
): Promise<DecodedWholePicture> {
  const { patchSize } = config;
  const [rows, columns] = config.grid;
  let grid: PatchGrid = { rows, columns };
  const sizeFor = ({ width, height }: PictureSize) => {
    if (!fixedGrid) grid = wish.grid ?? chooseGrid(width, height, wish.patches ?? rows * columns);
    if (grid.rows > height || grid.columns > width) {
      throw new LtrpError(
        'ERR_LTRP_IMAGE_SIZE',
        `The image ${name} is ${width} x ${height} pixels, too few for ${grid.rows} rows ` +
          `and ${grid.columns} columns of patches; ask for fewer.`,
      );
    }
    return [grid.rows * patchSize, grid.columns * patchSize] as const;
  };
  const { pixels, original, ...size } = await decodePicture(source, {
    size: sizeFor,
    fit: 'stretch',
    name,
    signal,
    check,
  }).catch((error: unknown) => {
    signal.throwIfAborted();
    throw toLtrpError(error);
  });
  return { pixels, size: [size.height, size.width], grid, ...original };
}

/** {@link decodeWholePicture}, as a batch. */
export async function readWholePicture(
  file: string,
  config: ModelConfig,
  wish: GridWish,
  signal: AbortSignal,
): Promise<WholePicture> {
  const picture = await decodeWholePicture(file, config, wish, signal);
  return { ...picture, images: { data: picture.pixels, shape: [1, ...picture.size, 3] } };
}
