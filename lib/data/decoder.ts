/** Decoding for training: RGB bytes no larger than crops need, remembered while there is memory for them. */
import { LtrpError } from '../errors.js';
import { maximumAspect, maximumPixels, minimumSide } from '../images.js';
import type { NativePicture } from '../native/binding.js';
import { loadSharp, openUpright } from '../sharp.js';
import { Slots } from '../slots.js';

export interface DecoderOptions {
  /** Pictures are scaled down so that their shorter side has at most this many pixels; never up. */
  shortSide: number;
  /** Bytes of decoded pictures that are kept. 0: none. */
  cacheBytes: number;
  /** Pictures decoded at the same time. */
  concurrency: number;
}

/**
 * Decodes pictures, at most `concurrency` at a time in the order of the calls, and keeps the first ones until the cache
 * is full. Nothing is evicted: when every picture is used once an epoch, keeping any subset serves best.
 */
export class PictureDecoder {
  readonly #options: DecoderOptions;
  readonly #cache = new Map<string, NativePicture>();
  #cachedBytes = 0;
  readonly #slots: Slots;

  constructor(options: DecoderOptions) {
    this.#options = options;
    this.#slots = new Slots(options.concurrency);
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /**
   * Decodes `path`: EXIF rotation applied, transparency laid on white, any colour space to 8-bit sRGB, the first frame of
   * an animation. JPEGs are scaled while they are decoded where that is possible.
   *
   * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE` or `ERR_LTRP_IMAGE_SIZE`; `ERR_LTRP_SHARP_LOAD`;
   *   `signal.reason`.
   */
  async decode(path: string, signal?: AbortSignal): Promise<NativePicture> {
    const cached = this.#cache.get(path);
    if (cached !== undefined) return cached;
    return this.#slots.run(async () => {
      signal?.throwIfAborted();
      const picture = this.#cache.get(path) ?? (await decodeSmall(path, this.#options.shortSide));
      const bytes = picture.pixels.byteLength;
      if (!this.#cache.has(path) && this.#cachedBytes + bytes <= this.#options.cacheBytes) {
        this.#cache.set(path, picture);
        this.#cachedBytes += bytes;
      }
      return picture;
    });
  }
}

async function decodeSmall(path: string, shortSide: number): Promise<NativePicture> {
  const sharp = await loadSharp();
  try {
    const { autoOrient, space } = await sharp(path, { limitInputPixels: maximumPixels }).metadata();
    const [short, long] = [autoOrient.width, autoOrient.height].sort((a, b) => a - b) as [
      number,
      number,
    ];
    if (short < minimumSide || long > maximumAspect * short) {
      throw new LtrpError(
        'ERR_LTRP_IMAGE_SIZE',
        `${path} is ${autoOrient.width} x ${autoOrient.height} pixels: too small or too long to train on.`,
      );
    }
    const { data, info } = await openUpright(sharp, path, space)
      .resize(shortSide, shortSide, { fit: 'outside', withoutEnlargement: true, kernel: 'cubic' })
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`${info.channels} channels instead of 3`);
    return { pixels: data, height: info.height, width: info.width };
  } catch (cause) {
    if (cause instanceof LtrpError) throw cause;
    const text = cause instanceof Error ? cause.message : String(cause);
    const missing = /input file is missing/i.test(text);
    throw new LtrpError(
      missing ? 'ERR_LTRP_IMAGE_NOT_FOUND' : 'ERR_LTRP_IMAGE_DECODE',
      missing
        ? `There is no image ${path}.`
        : `The image ${path} cannot be decoded: ${text.split('\n')[0]}`,
      { cause },
    );
  }
}
