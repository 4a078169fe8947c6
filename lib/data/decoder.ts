/** Decoding for training: RGB bytes no larger than crops need, remembered while there is memory for them. */
import type { NativePicture } from '../native/binding.js';
import { decode } from '../pictures/decode.js';
import { checkSourceSize } from '../pictures/limits.js';
import { Slots } from '../slots.js';
import { checkInteger, checkPresent } from '../validation.js';

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

  /** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`. */
  constructor(options: DecoderOptions) {
    for (const [name, least] of [
      ['shortSide', 1],
      ['cacheBytes', 0],
      ['concurrency', 1],
    ] as const) {
      checkPresent(name, options[name]);
      checkInteger(name, options[name], least);
    }
    this.#options = options;
    this.#slots = new Slots(options.concurrency);
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /**
   * Decodes `path` (see `decode` in `lib/pictures`). JPEGs are scaled while they are decoded where that is possible.
   *
   * @throws {LtrpError} as `readImages`; `signal.reason`.
   */
  async decode(path: string, signal?: AbortSignal): Promise<NativePicture> {
    const cached = this.#cache.get(path);
    if (cached !== undefined) return cached;
    return this.#slots.run(async () => {
      signal?.throwIfAborted();
      const picture =
        this.#cache.get(path) ?? (await decodeSmall(path, this.#options.shortSide, signal));
      const bytes = picture.pixels.byteLength;
      if (!this.#cache.has(path) && this.#cachedBytes + bytes <= this.#options.cacheBytes) {
        this.#cache.set(path, picture);
        this.#cachedBytes += bytes;
      }
      return picture;
    });
  }
}

async function decodeSmall(
  path: string,
  shortSide: number,
  signal: AbortSignal | undefined,
): Promise<NativePicture> {
  const { pixels, height, width } = await decode(path, {
    signal,
    scaling: (original) => {
      checkSourceSize(path, original.width, original.height);
      return { side: { pixels: shortSide, fit: 'outside', kernel: 'cubic' } };
    },
  });
  return { pixels, height, width };
}
