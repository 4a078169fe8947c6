/** Decoding for training: RGB bytes no larger than crops need, remembered while there is memory for them. */
import { bytesDigest } from '../file-digest.js';
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
  /** Whether pictures come with the digest of their file. Default: no. */
  digests?: boolean | undefined;
}

/** A picture as it was decoded. */
export interface DecodedFile extends NativePicture {
  /** SHA-256 of the bytes that were decoded, in hexadecimal digits, if the decoder was asked for it. */
  digest?: string;
}

/**
 * Decodes pictures, at most `concurrency` at a time in the order of the calls, and keeps the first ones until the cache
 * is full. Nothing is evicted: when every picture is used once an epoch, keeping any subset serves best.
 */
export class PictureDecoder {
  readonly #cache = new Map<string, DecodedFile>();
  #cachedBytes = 0;
  readonly #slots: Slots;

  /** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`. */
  constructor(private readonly options: DecoderOptions) {
    for (const [name, least] of [
      ['shortSide', 1],
      ['cacheBytes', 0],
      ['concurrency', 1],
    ] as const) {
      checkPresent(name, options[name]);
      checkInteger(name, options[name], least);
    }
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
  async decode(path: string, signal?: AbortSignal): Promise<DecodedFile> {
    const cached = this.#cache.get(path);
    if (cached !== undefined) return cached;
    return this.#slots.run(async () => {
      signal?.throwIfAborted();
      const picture = this.#cache.get(path) ?? (await decodeSmall(path, this.options, signal));
      const bytes = picture.pixels.byteLength;
      if (!this.#cache.has(path) && this.#cachedBytes + bytes <= this.options.cacheBytes) {
        this.#cache.set(path, picture);
        this.#cachedBytes += bytes;
      }
      return picture;
    });
  }
}

async function decodeSmall(
  path: string,
  { shortSide, digests = false }: DecoderOptions,
  signal: AbortSignal | undefined,
): Promise<DecodedFile> {
  const found: { digest?: string } = {};
  const { pixels, height, width } = await decode(path, {
    signal,
    ...(digests && {
      onBytes: (bytes) => {
        found.digest = bytesDigest(bytes);
      },
    }),
    scaling: (original) => {
      checkSourceSize(path, original.width, original.height);
      return { side: { pixels: shortSide, fit: 'outside', kernel: 'cubic' } };
    },
  });
  return { pixels, height, width, ...found };
}
