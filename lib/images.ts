/** Pictures in, tensors out: decoding and resampling with sharp, normalisation in the core. */
import { availableParallelism } from 'node:os';
import { described } from './described.js';
import { LtrpError, toLtrpError } from './errors.js';
import type { NativeNormalization } from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import { pathOrBytes, sourceName, type PictureSource } from './pictures/bytes.js';
import { decode, type DecodedPicture } from './pictures/decode.js';
import { checkSourceSize } from './pictures/limits.js';
import type { PictureSize } from './pictures/types.js';
import { loadSharp } from './sharp.js';
import { words, type ImageBatch, type PixelBatch } from './types.js';
import { checkChoice, checkOptions, invalid, reading, readList } from './validation.js';

/** Mean of ImageNet's pixels in [0, 1]: red, green, blue. The published models and ours were trained with them. */
export const imageNetMean: readonly [number, number, number] = [0.485, 0.456, 0.406];

/** Standard deviation of ImageNet's pixels in [0, 1]: red, green, blue. */
export const imageNetStd: readonly [number, number, number] = [0.229, 0.224, 0.225];

export { maximumAspect, maximumPixels, minimumSide } from './pictures/limits.js';
export type { PictureSource } from './pictures/bytes.js';

/** How a picture is fitted to the size asked for. */
export type Fit = 'crop' | 'stretch' | 'none';

/** Options of {@link readImages}. */
export interface ReadImagesOptions {
  /** Pixels: one number for squares, or `[height, width]`. */
  size: number | readonly [height: number, width: number];
  /**
   * `'crop'` (default): resize so that the picture covers size * 256 / 224, then cut the centre out, as the published
   * models are evaluated. `'stretch'`: the whole picture, its aspect changed. `'none'`: it must have the size already.
   */
  fit?: Fit | undefined;
  /** Of pixels in [0, 1], red, green, blue. Default {@link imageNetMean}. */
  mean?: readonly number[] | undefined;
  /** Of pixels in [0, 1], red, green, blue. Default {@link imageNetStd}. */
  std?: readonly number[] | undefined;
  /** Cancels the call; the promise rejects with the signal's reason. Without it the call cannot be cancelled. */
  signal?: AbortSignal | undefined;
}

const readKeys = words<keyof ReadImagesOptions>()('size fit mean std signal');

type Size = readonly [height: number, width: number];

/** Where the centre of `outer` begins for a window of `inner` pixels (half a pixel rounds to even, as in torchvision). */
function centre(outer: number, inner: number): number {
  const half = (outer - inner) / 2;
  const floor = Math.floor(half);
  return half - floor === 0.5 ? floor + (floor % 2) : Math.round(half);
}

/** Size to resize to before the centre crop: covers height * 256 / 224 by width * 256 / 224, aspect kept. */
function coverSize(from: PictureSize, to: PictureSize): PictureSize {
  const height = Math.round((to.height * 256) / 224);
  const width = Math.round((to.width * 256) / 224);
  // Integer arithmetic in this order gives torchvision's sizes: the long side is rounded down.
  return from.width * height >= from.height * width
    ? { height, width: Math.max(width, Math.floor((height * from.width) / from.height)) }
    : { height: Math.max(height, Math.floor((width * from.height) / from.width)), width };
}

/**
 * Decodes one picture (see {@link decode}) and fits it to `size`, which may depend on its own (without `size`: as it is).
 *
 * Resampling is bicubic (a = -0.5) with antialiasing: libvips's `cubic` kernel, without JPEG's shrink-on-load, which uses a
 * different filter. Against Pillow's bicubic on the three golden pictures the mean difference is 0.19 to 0.24 levels of 255.
 *
 * @throws {LtrpError} as {@link decode}.
 */
export async function decodePicture(
  source: string | Uint8Array,
  options: {
    size?: Size | ((original: PictureSize) => Size) | undefined;
    fit?: Fit | undefined;
    name?: string | undefined;
    signal?: AbortSignal | undefined;
    /** Throws an error of the library for a picture that is not to be decoded, by its header. */
    check?: ((original: PictureSize) => void) | undefined;
  } = {},
): Promise<DecodedPicture> {
  const { fit = 'crop', name = sourceName(source), signal } = options;
  return decode(source, {
    name,
    signal,
    scaling: (original) => {
      const { width, height } = original;
      options.check?.(original);
      if (options.size === undefined || fit !== 'none') checkSourceSize(name, width, height);
      if (options.size === undefined) return {};
      const size = typeof options.size === 'function' ? options.size(original) : options.size;
      const target = { height: size[0], width: size[1] };
      if (fit === 'stretch') return { exact: target };
      if (fit === 'none') {
        if (height === target.height && width === target.width) return {};
        throw new LtrpError(
          'ERR_LTRP_IMAGE_SIZE',
          `The image ${name} is ${width} x ${height} pixels, but with fit 'none' it must be ` +
            `${target.width} x ${target.height}; use fit 'crop' or 'stretch' to resize it.`,
        );
      }
      const covering = coverSize(original, target);
      const left = centre(covering.width, target.width);
      const top = centre(covering.height, target.height);
      return { exact: { ...covering, cut: { left, top, ...target } } };
    },
  });
}

export function checkSize(size: unknown): readonly [height: number, width: number] {
  const sides = typeof size === 'number' ? [size, size] : readList('size', size, 2);
  if (!sides?.every((side) => Number.isSafeInteger(side) && (side as number) > 0)) {
    throw invalid(
      `size must be a positive integer or [height, width] of two positive integers; got ${described(size)}.`,
    );
  }
  return sides as [number, number];
}

function readChannels(name: string, values: unknown, positive: boolean): number[] {
  const channels = readList(name, values, 3);
  if (!channels?.every((value) => Number.isFinite(value) && (!positive || (value as number) > 0))) {
    throw invalid(
      `${name} must be three ${positive ? 'positive ' : ''}numbers: red, green, blue; got ${described(values)}.`,
    );
  }
  return channels as number[];
}

/** Runs `work` for 0 … count - 1, at most `limit` at a time; the first failure stops new ones and is thrown. */
async function forEachBounded(
  count: number,
  limit: number,
  work: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (next < count && !failed) {
      try {
        await work(next++);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(limit, count) }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** Mean and standard deviation as they were given, or ImageNet's. */
export function checkNormalization({
  mean = imageNetMean,
  std = imageNetStd,
}: Pick<ReadImagesOptions, 'mean' | 'std'>): { mean: readonly number[]; std: readonly number[] } {
  const means = readChannels('mean', mean, false);
  const deviations = readChannels('std', std, true);
  // The darkest and the brightest value that there can be, in float32 as the core has them.
  const fits = means.every((value, channel) =>
    [0, 1].every((pixel) =>
      Number.isFinite(
        Math.fround(Math.fround(pixel - value) / Math.fround(deviations[channel] as number)),
      ),
    ),
  );
  if (!fits) {
    throw invalid(
      `mean and std must leave normalised pixels that are finite in float32; got ${described(means)} and ${described(deviations)}.`,
    );
  }
  return { mean: means, std: deviations };
}

/**
 * Reads pictures into one normalised batch.
 *
 * Sources are paths, `file:` URLs or the bytes of image files (JPEG, PNG, WebP, AVIF, TIFF, GIF, SVG), which are read at the
 * call. The EXIF rotation is applied, transparency is laid on white, every colour space becomes 8-bit RGB (colour profiles are used for CMYK and ignored
 * otherwise, as Pillow does), and the first frame of an animation is taken.
 * Resampling is antialiased bicubic, within a mean of 0.25 levels of 255 of Pillow's on the golden pictures. Values are
 * (x / 255 - mean) / std. A few pictures are decoded at a time, off the JavaScript thread; normalisation runs in the core.
 *
 * A source is refused when it has fewer than {@link minimumSide} pixels on a side, a longer side of more than
 * {@link maximumAspect} times the shorter, or more than {@link maximumPixels} pixels (with fit `'none'` only its size counts); when
 * its samples are neither of 8 nor of 16 bits; or when decoding it needs more memory than the environment variable
 * `LTRP_DECODE_MEMORY` allows (such as `4GB`; 1 GB without it), which also bounds what decodes take together.
 *
 * @returns [n, 3, height, width] float32 in the order of the sources.
 * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE` or `ERR_LTRP_IMAGE_SIZE`, naming the source;
 *   `ERR_LTRP_OUT_OF_MEMORY`; `ERR_LTRP_SHARP_LOAD`; `ERR_LTRP_INVALID_ARGUMENT`.
 */
export async function readImages(
  sources: readonly PictureSource[],
  options: ReadImagesOptions,
): Promise<ImageBatch> {
  const checked = checkOptions(options, readKeys);
  const { fit = 'crop', signal } = checked;
  signal?.throwIfAborted();
  const size = checkSize(checked.size);
  const normalization = checkNormalization(checked);
  checkChoice('fit', fit, ['crop', 'stretch', 'none']);
  const list = reading('sources', () =>
    Array.isArray(sources) ? Array.from(sources as readonly unknown[]) : [],
  );
  if (list.length === 0) {
    throw invalid(
      `sources must be an array of at least one path, file: URL or Uint8Array; got ${described(sources)}.`,
    );
  }
  const pictures = list.map((source, index) => {
    const which = `sources[${index}]`;
    return reading(which, () => pathOrBytes(source, which));
  });
  const [height, width] = size;
  const imageBytes = height * width * 3;
  let pixels: Uint8Array;
  try {
    pixels = new Uint8Array(pictures.length * imageBytes);
  } catch (cause) {
    throw new LtrpError(
      'ERR_LTRP_OUT_OF_MEMORY',
      `A batch of ${pictures.length} images of ${width} x ${height} pixels does not fit in memory; read fewer at a time.`,
      { cause },
    );
  }
  // Before LibTorch, which takes longer to open: they take turns, see in-turn.ts.
  void loadSharp().catch(() => undefined);
  // LibTorch opens while the first pictures are decoded; if it fails, its error comes first and ends the decoding.
  const core = loadCore();
  let coreFailed = false;
  core.catch(() => {
    coreFailed = true;
  });
  const limit = Math.min(8, availableParallelism() + 1);
  await forEachBounded(pictures.length, limit, async (index) => {
    signal?.throwIfAborted();
    if (coreFailed) await core;
    const source = pictures[index] as string | Uint8Array;
    const name = sourceName(source, index);
    const picture = await decodePicture(source, { size, fit, name, signal }).catch(
      (error: unknown) => {
        signal?.throwIfAborted();
        throw toLtrpError(error);
      },
    );
    pixels.set(picture.pixels, index * imageBytes);
  }).catch(async (error: unknown) => {
    signal?.throwIfAborted();
    await core;
    throw error;
  });
  await core;
  const batch: PixelBatch = { data: pixels, shape: [pictures.length, height, width, 3] };
  return normalizePixels(batch, normalization, signal);
}

/** Bytes to a batch as models see it, in the core: (x / 255 - mean) / std. */
export async function normalizePixels(
  batch: PixelBatch,
  { mean, std }: NativeNormalization,
  signal: AbortSignal | undefined,
): Promise<ImageBatch> {
  const core = await loadCore();
  return runJob(core, { signal }, (job) => core.normalizeImages(job, batch, { mean, std }));
}
