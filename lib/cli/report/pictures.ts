/** Pictures that the command writes: heat maps, kept patches, reconstructions. Drawing happens in sharp, off the JavaScript thread. */
import type { PatchGrid } from '../../patch-grid.js';
import { decode } from '../../pictures/decode.js';
import { loadSharp, type Sharp, type SharpModule } from '../../sharp.js';
import { heatColour, rankShares } from './colours.js';

/** Longest side of the pictures written, in pixels. */
export const pictureSide = 1280;

/** Longest side of the pictures inside an HTML page, in pixels. */
export const pageSide = 900;

/** A picture as it is shown: upright, on white, in sRGB, within a number of pixels. */
export interface ShownPicture {
  pixels: Buffer;
  width: number;
  height: number;
}

/** Reads an image file for display, no larger than `side` pixels on its longer side. */
export async function readForDisplay(
  file: string,
  signal?: AbortSignal,
  side = pictureSide,
): Promise<ShownPicture> {
  const scaling = () => ({ side: { pixels: side, fit: 'inside', kernel: 'lanczos3' } as const });
  const { pixels, width, height } = await decode(file, { signal, scaling });
  return { pixels, width, height };
}

function fromPixels(sharp: SharpModule, { pixels, width, height }: ShownPicture): Sharp {
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

/** One colour with opacity for every patch, drawn over the picture. */
async function overPatches(
  base: Sharp,
  { width, height }: ShownPicture,
  { rows, columns }: PatchGrid,
  colour: (patch: number) => readonly [red: number, green: number, blue: number, alpha: number],
): Promise<Buffer> {
  const pixels = Buffer.alloc(rows * columns * 4);
  for (let patch = 0; patch < rows * columns; patch++) pixels.set(colour(patch), patch * 4);
  const sharp = await loadSharp();
  const overlay = await sharp(pixels, { raw: { width: columns, height: rows, channels: 4 } })
    .resize({ width, height, fit: 'fill', kernel: 'nearest' })
    .png({ compressionLevel: 1 })
    .toBuffer();
  return base
    .composite([{ input: overlay }])
    .png()
    .toBuffer();
}

/** PNG: the picture in grey under colours that rise with the patch's rank within the image. */
export async function heatMapPicture(
  picture: ShownPicture,
  grid: PatchGrid,
  scores: ArrayLike<number>,
): Promise<Buffer> {
  const sharp = await loadSharp();
  const shares = rankShares(scores);
  // Two steps, because greyscale() would apply to the finished composite.
  const grey = await fromPixels(sharp, picture).greyscale().toColourspace('srgb').png().toBuffer();
  return overPatches(sharp(grey), picture, grid, (patch) => [
    ...heatColour(shares[patch] as number),
    166,
  ]);
}

/** PNG: the kept patches as they are, the others almost white. */
export async function keptPicture(
  picture: ShownPicture,
  grid: PatchGrid,
  kept: Iterable<number>,
): Promise<Buffer> {
  const keep = new Set(kept);
  return overPatches(fromPixels(await loadSharp(), picture), picture, grid, (patch) =>
    keep.has(patch) ? [0, 0, 0, 0] : [244, 244, 242, 226],
  );
}

/** JPEG for a page, as a data URI. */
export async function pageImage(picture: ShownPicture): Promise<string> {
  const jpeg = await fromPixels(await loadSharp(), picture)
    .resize({ width: pageSide, height: pageSide, fit: 'inside', withoutEnlargement: true })
    .jpeg({ quality: 82, mozjpeg: true })
    .toBuffer();
  return `data:image/jpeg;base64,${jpeg.toString('base64')}`;
}

/** Data for drawing a reconstruction. Pixels are normalised, [3, rows * p, columns * p]. */
export interface ReconstructionPicture {
  pixels: Float32Array;
  /** [L, p * p * 3] in target space, values ordered (row, column, channel). */
  patches: Float32Array;
  visible: Iterable<number>;
  grid: PatchGrid;
  patchSize: number;
  mean: readonly number[];
  std: readonly number[];
  /** The model predicts patches of mean 0 and variance 1; the true patch's statistics are put back to show them. */
  normalizedTarget: boolean;
}

/** RGB bytes, rows * p by columns * p, of what the model saw, what it made of it, and the original. */
function reconstructionPanels(picture: ReconstructionPicture): {
  masked: Buffer;
  reconstructed: Buffer;
  original: Buffer;
  error: number;
} {
  const { pixels, patches, grid, patchSize, mean, std } = picture;
  const width = grid.columns * patchSize;
  const plane = width * grid.rows * patchSize;
  const visible = new Set(picture.visible);
  const values = patchSize * patchSize * 3;
  const masked = Buffer.alloc(plane * 3);
  const reconstructed = Buffer.alloc(plane * 3);
  const original = Buffer.alloc(plane * 3);
  const byte = (value: number, channel: number): number =>
    Math.min(
      255,
      Math.max(0, Math.round((value * (std[channel] ?? 1) + (mean[channel] ?? 0)) * 255)),
    );
  let squares = 0;
  let count = 0;
  for (let patch = 0; patch < grid.rows * grid.columns; patch++) {
    const corner =
      Math.floor(patch / grid.columns) * patchSize * width + (patch % grid.columns) * patchSize;
    const pixelAt = (value: number): number => {
      const position = Math.floor(value / 3);
      return corner + Math.floor(position / patchSize) * width + (position % patchSize);
    };
    let shift = 0;
    let scale = 1;
    if (picture.normalizedTarget) {
      let sum = 0;
      let sumOfSquares = 0;
      for (let value = 0; value < values; value++) {
        const x = pixels[(value % 3) * plane + pixelAt(value)] as number;
        sum += x;
        sumOfSquares += x * x;
      }
      shift = sum / values;
      // Unbiased variance and 1e-6, as the target was made.
      scale = Math.sqrt(Math.max(0, (sumOfSquares - sum * shift) / (values - 1)) + 1e-6);
    }
    const seen = visible.has(patch);
    for (let value = 0; value < values; value++) {
      const channel = value % 3;
      const pixel = pixelAt(value);
      const truth = pixels[channel * plane + pixel] as number;
      const predicted = (patches[patch * values + value] as number) * scale + shift;
      const target = pixel * 3 + channel;
      original[target] = byte(truth, channel);
      masked[target] = seen ? byte(truth, channel) : 128;
      reconstructed[target] = seen ? byte(truth, channel) : byte(predicted, channel);
      if (!seen) {
        squares += (predicted - truth) ** 2;
        count++;
      }
    }
  }
  return { masked, reconstructed, original, error: count === 0 ? 0 : squares / count };
}

/**
 * PNG of three panels side by side: the visible patches on grey, the reconstruction (visible patches as they are), the
 * original. `error` is the mean squared error on the masked patches, in normalised pixels.
 *
 * @param shape - size of the source, whose aspect the panels get.
 */
export async function reconstructionPicture(
  picture: ReconstructionPicture,
  shape: { width: number; height: number },
): Promise<{ png: Buffer; error: number }> {
  const { masked, reconstructed, original, error } = reconstructionPanels(picture);
  const width = picture.grid.columns * picture.patchSize;
  const height = picture.grid.rows * picture.patchSize;
  const side = 2 * Math.max(width, height);
  const scale = side / Math.max(shape.width, shape.height);
  const panel = {
    width: Math.max(1, Math.round(shape.width * scale)),
    height: Math.max(1, Math.round(shape.height * scale)),
  };
  const gap = 12;
  const sharp = await loadSharp();
  const inputs = await Promise.all(
    [masked, reconstructed, original].map((bytes) =>
      sharp(bytes, { raw: { width, height, channels: 3 } })
        .resize({ ...panel, fit: 'fill', kernel: 'cubic' })
        .png({ compressionLevel: 1 })
        .toBuffer(),
    ),
  );
  const png = await sharp({
    create: {
      width: panel.width * 3 + gap * 2,
      height: panel.height,
      channels: 3,
      background: '#ffffff',
    },
  })
    .composite(inputs.map((input, index) => ({ input, top: 0, left: index * (panel.width + gap) })))
    .png()
    .toBuffer();
  return { png, error };
}
