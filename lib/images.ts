/** Pictures in, tensors out: decoding and resampling with sharp, normalisation in the core. */
import { Buffer } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { LtrpError, toLtrpError } from './errors.js';
import { callCore } from './native/call.js';
import { loadCore } from './native/loader.js';
import { loadSharp, openUpright, type Sharp } from './sharp.js';
import type { ImageBatch } from './types.js';
import { checkChoice, checkOptions, invalid, type OptionKeys } from './validation.js';

/** Mean of ImageNet's pixels in [0, 1]: red, green, blue. What the published models and ours were trained with. */
export const imageNetMean: readonly [number, number, number] = [0.485, 0.456, 0.406];

/** Standard deviation of ImageNet's pixels in [0, 1]: red, green, blue. */
export const imageNetStd: readonly [number, number, number] = [0.229, 0.224, 0.225];

/** Pictures are refused when a side has fewer pixels than this: there is nothing to rank in them. */
export const minimumSide = 16;

/** Pictures are refused when one side is longer than this many times the other. */
export const maximumAspect = 100;

/** Pictures with more pixels than this are refused before they are decoded (16383 x 16383). */
export const maximumPixels = 0x3fff * 0x3fff;

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

const readKeys: OptionKeys<ReadImagesOptions> = {
  size: true,
  fit: true,
  mean: true,
  std: true,
  signal: true,
};

/** What names a picture: a path, a `file:` URL, or the bytes of an image file. */
export type PictureSource = string | URL | Uint8Array;

/** A decoded picture: RGB bytes, row by row, `height * width * 3` of them. */
export interface DecodedPicture {
  pixels: Buffer;
  height: number;
  width: number;
  /** Size of the source in pixels, after its EXIF rotation. */
  original: { height: number; width: number };
}

type Size = readonly [height: number, width: number];

/**
 * The path or the bytes that a source is. By its members, because a URL or an array of another realm is no instance of ours.
 *
 * @param which - what the source is called in messages, such as `sources[3]`.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for what is no picture.
 */
export function pathOrBytes(source: unknown, which: string, also = ''): string | Uint8Array {
  if (types.isUint8Array(source)) return source;
  if (typeof source === 'string' && source !== '') return source;
  if (typeof source === 'object' && source !== null && 'href' in source && 'protocol' in source) {
    const href = String(source.href);
    if (source.protocol !== 'file:') {
      throw invalid(
        `${which} is ${href}, but only file: URLs are read; fetch it and give its bytes.`,
      );
    }
    try {
      return fileURLToPath(href);
    } catch (cause) {
      throw invalid(`${which} is ${href}, which names no file here: ${(cause as Error).message}.`);
    }
  }
  throw invalid(
    `${which} must be a path, a file: URL${also === '' ? ' or' : ','} the bytes of an image file (Uint8Array)${also}.`,
  );
}

/** What people call a source in messages: its path, or the position of a buffer. */
export function sourceName(source: string | Uint8Array, index = 0): string {
  return typeof source === 'string' ? source : `buffer ${index} (${source.byteLength} bytes)`;
}

async function readBytes(
  source: string | Uint8Array,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (typeof source !== 'string') {
    // sharp tells buffers by their constructor, which that of another realm does not have.
    return Buffer.from(source.buffer, source.byteOffset, source.byteLength);
  }
  try {
    return await readFile(source, { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new LtrpError('ERR_LTRP_IMAGE_NOT_FOUND', `There is no image ${name}.`, { cause });
    }
    const why = code === 'EISDIR' ? 'it is a folder' : (cause as Error).message;
    throw new LtrpError('ERR_LTRP_IMAGE_DECODE', `The image ${name} cannot be read: ${why}.`, {
      cause,
    });
  }
}

/** libvips's text without its prefixes and full stop, in one line. */
function reason(cause: unknown): string {
  const { message } = (cause ?? {}) as { message?: unknown };
  const text = typeof message === 'string' ? message : String(cause);
  return (text.split('\n')[0] ?? text)
    .replace(/^Input (buffer|file) (has )?/i, '')
    .replace(/\.$/, '');
}

function decodeError(name: string, cause: unknown): LtrpError {
  return new LtrpError(
    'ERR_LTRP_IMAGE_DECODE',
    `The image ${name} cannot be decoded: ${reason(cause)}; it may be damaged, cut off or not an image.`,
    { cause },
  );
}

function checkSourceSize(name: string, width: number, height: number): void {
  const says = `The image ${name} is ${width} x ${height} pixels`;
  if (width * height > maximumPixels) {
    throw new LtrpError(
      'ERR_LTRP_IMAGE_SIZE',
      `${says}, but at most ${maximumPixels} pixels are decoded.`,
    );
  }
  if (Math.min(width, height) < minimumSide) {
    throw new LtrpError(
      'ERR_LTRP_IMAGE_SIZE',
      `${says}, but both sides must have at least ${minimumSide}.`,
    );
  }
  if (Math.max(width, height) > maximumAspect * Math.min(width, height)) {
    throw new LtrpError(
      'ERR_LTRP_IMAGE_SIZE',
      `${says}, but its longer side may be at most ${maximumAspect} times the shorter.`,
    );
  }
}

/** Where the centre of `outer` begins for a window of `inner` pixels (half a pixel rounds to even, as in torchvision). */
function centre(outer: number, inner: number): number {
  const half = (outer - inner) / 2;
  const floor = Math.floor(half);
  return half - floor === 0.5 ? floor + (floor % 2) : Math.round(half);
}

/** Size to resize to before the centre crop: covers height * 256 / 224 by width * 256 / 224, aspect kept. */
function coverSize(
  from: { height: number; width: number },
  to: { height: number; width: number },
): { height: number; width: number } {
  const height = Math.round((to.height * 256) / 224);
  const width = Math.round((to.width * 256) / 224);
  // Integer arithmetic in this order gives torchvision's sizes: the long side is rounded down.
  return from.width * height >= from.height * width
    ? { height, width: Math.max(width, Math.floor((height * from.width) / from.height)) }
    : { height: Math.max(height, Math.floor((width * from.height) / from.width)), width };
}

/**
 * Decodes one picture to 8-bit sRGB and fits it to `size`, which may depend on its own (without `size`: as it is).
 *
 * The EXIF rotation is applied; transparency is laid on white; CMYK, grey, palette, Lab and 16-bit pictures become 8-bit
 * RGB; RGB values are taken as stored (see `openUpright`); of an animation the first frame is taken. Resampling is
 * bicubic (a = -0.5) with antialiasing: libvips's `cubic` kernel, without JPEG's shrink-on-load, which uses a different
 * filter. Against Pillow's bicubic on the three golden pictures the mean difference is 0.19 to 0.24 levels of 255.
 *
 * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE`, `ERR_LTRP_IMAGE_SIZE`; each names the source.
 *   `ERR_LTRP_SHARP_LOAD`.
 */
export async function decodePicture(
  source: string | Uint8Array,
  options: {
    size?: Size | ((original: { height: number; width: number }) => Size) | undefined;
    fit?: Fit | undefined;
    name?: string | undefined;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<DecodedPicture> {
  const { fit = 'crop', signal } = options;
  const name = options.name ?? sourceName(source);
  const bytes = await readBytes(source, name, signal);
  if (bytes.byteLength === 0) {
    throw new LtrpError('ERR_LTRP_IMAGE_DECODE', `The image ${name} is empty (0 bytes).`);
  }
  const sharp = await loadSharp();
  let original: { height: number; width: number };
  let pipeline: Sharp;
  try {
    // The size is checked below, before anything is decoded.
    const { autoOrient, space } = await sharp(bytes, { limitInputPixels: false }).metadata();
    original = { height: autoOrient.height, width: autoOrient.width };
    pipeline = openUpright(sharp, bytes, space);
  } catch (cause) {
    throw decodeError(name, cause);
  }
  signal?.throwIfAborted();
  if (options.size === undefined || fit !== 'none') {
    checkSourceSize(name, original.width, original.height);
  }
  const size = typeof options.size === 'function' ? options.size(original) : options.size;
  if (size !== undefined && fit === 'none') {
    if (original.height !== size[0] || original.width !== size[1]) {
      throw new LtrpError(
        'ERR_LTRP_IMAGE_SIZE',
        `The image ${name} is ${original.width} x ${original.height} pixels, but with fit 'none' it must be ` +
          `${size[1]} x ${size[0]}; use fit 'crop' or 'stretch' to resize it.`,
      );
    }
  } else if (size !== undefined) {
    const target = { height: size[0], width: size[1] };
    const resized = fit === 'crop' ? coverSize(original, target) : target;
    pipeline.resize({ ...resized, fit: 'fill', kernel: 'cubic', fastShrinkOnLoad: false });
    if (fit === 'crop') {
      pipeline.extract({
        left: centre(resized.width, target.width),
        top: centre(resized.height, target.height),
        ...target,
      });
    }
  }
  try {
    const { data, info } = await pipeline.raw().toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`${info.channels} channels instead of 3`);
    return { pixels: data, height: info.height, width: info.width, original };
  } catch (cause) {
    throw decodeError(name, cause);
  }
}

export function checkSize(size: unknown): readonly [height: number, width: number] {
  const sides: readonly unknown[] = Array.isArray(size) ? size : [size, size];
  if (
    sides.length !== 2 ||
    !sides.every((side) => Number.isSafeInteger(side) && (side as number) > 0)
  ) {
    throw invalid('size must be a positive integer or [height, width] of two positive integers.');
  }
  return sides as [number, number];
}

function checkChannels(name: string, values: unknown, positive: boolean): readonly number[] {
  const good =
    (Array.isArray(values) || ArrayBuffer.isView(values)) &&
    (values as number[]).length === 3 &&
    Array.from(values as number[]).every(
      (value) => Number.isFinite(value) && (!positive || value > 0),
    );
  if (!good) {
    throw invalid(`${name} must be three ${positive ? 'positive ' : ''}numbers: red, green, blue.`);
  }
  return Array.from(values as number[]);
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
  return { mean: checkChannels('mean', mean, false), std: checkChannels('std', std, true) };
}

/** RGB bytes of pictures of one size, [n, height, width, 3], to a batch: (x / 255 - mean) / std, in the core. */
export async function normalizePictures(
  pixels: Uint8Array,
  [images, height, width]: readonly [images: number, height: number, width: number],
  { mean, std }: { mean: readonly number[]; std: readonly number[] },
  signal: AbortSignal | undefined,
): Promise<ImageBatch> {
  const data = await callCore({ signal }, { pixels }, (core, job, given) =>
    core.normalizeImages(job, given.pixels, [images, height, width], mean, std),
  );
  return { data, shape: [images, 3, height, width] };
}

/**
 * Reads pictures into one normalised batch.
 *
 * Sources are paths, `file:` URLs or the bytes of image files (JPEG, PNG, WebP, AVIF, TIFF, GIF, SVG). The EXIF rotation is applied,
 * transparency is laid on white, every colour space becomes 8-bit RGB (colour profiles are used for CMYK and ignored
 * otherwise, as Pillow does), and of an animation the first frame is taken.
 * Resampling is antialiased bicubic, within a mean of 0.25 levels of 255 of Pillow's on the golden pictures. Values are
 * (x / 255 - mean) / std. A few pictures are decoded at a time, on libuv's pool; normalisation runs in the core.
 *
 * A source is refused when it has fewer than {@link minimumSide} pixels on a side, a longer side of more than
 * {@link maximumAspect} times the shorter, or more than {@link maximumPixels} pixels. (With fit `'none'` only its size counts.)
 *
 * @returns [n, 3, height, width] float32 in the order of the sources.
 * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE` or `ERR_LTRP_IMAGE_SIZE`, naming the source;
 *   `ERR_LTRP_SHARP_LOAD`; `ERR_LTRP_INVALID_ARGUMENT`.
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
  if (!Array.isArray(sources) || sources.length === 0) {
    throw invalid('sources must be an array of at least one path, file: URL or Uint8Array.');
  }
  const pictures = Array.from(sources as readonly unknown[], (source, index) =>
    pathOrBytes(source, `sources[${index}]`),
  );
  const [height, width] = size;
  const imageBytes = height * width * 3;
  let pixels: Uint8Array;
  try {
    pixels = new Uint8Array(sources.length * imageBytes);
  } catch (cause) {
    throw new LtrpError(
      'ERR_LTRP_OUT_OF_MEMORY',
      `A batch of ${sources.length} images of ${width} x ${height} pixels does not fit in memory; read fewer at a time.`,
      { cause },
    );
  }
  // Before LibTorch, which takes longer to open: they take turns, see in-turn.ts.
  void loadSharp().catch(() => undefined);
  // LibTorch opens while the first pictures are decoded; what is wrong with it is said first, and ends the decoding.
  const core = loadCore();
  let coreFailed = false;
  core.catch(() => {
    coreFailed = true;
  });
  const limit = Math.min(8, availableParallelism() + 1);
  await forEachBounded(sources.length, limit, async (index) => {
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
  await core; // where it is not there yet, the pixels would be copied
  signal?.throwIfAborted();
  return normalizePictures(pixels, [sources.length, height, width], normalization, signal);
}
