/** From decoded pictures to kept patches, several at a time, while the next ones are decoded. */
import { availableParallelism } from 'node:os';
import { permutation } from '../data/shuffle.js';
import { toLtrpError, type LtrpErrorCode } from '../errors.js';
import { rankAndSelect, type PatchRanker } from '../patch-ranker.js';
import { keepCount, selectPatches } from '../selection.js';
import type { Device, PixelBatch, Prior } from '../types.js';
import { Slots } from '../slots.js';

/** A picture as the queue takes it: RGB bytes of `size`. */
export interface QueuedPicture {
  pixels: Uint8Array;
  size: readonly [height: number, width: number];
}

/** The part of a {@link PatchRanker} that the queue needs. */
export type Ranks = Pick<PatchRanker, 'config' | 'rank'>;

/** Options of {@link RankingQueue}. */
export interface QueueSettings {
  /** Number of patches to keep; of a picture with fewer, all. Without it and `keepRatio` nothing is selected. */
  keep?: number | undefined;
  /** Share of the patches to keep. Only one of `keep` and `keepRatio` is given. */
  keepRatio?: number | undefined;
  /** As in `selectPatches`. */
  scoreShare?: number | undefined;
  /** What the logits are combined with, as in `PatchRanker.rank`. */
  prior?: Prior | undefined;
  /** Seed of the noise that breaks ties between densities. */
  seed: number;
  /** Where the kept patches are chosen, as in `selectPatches`. */
  device?: Device | undefined;
  /** Pictures computed together, at most. Default {@link RankingQueue.fullBatch}. */
  batchSize?: number | undefined;
  /** Pictures decoded at the same time, at most. Default {@link RankingQueue.decoders}. */
  decoders?: number | undefined;
  signal: AbortSignal;
}

/** What becomes of one picture. */
export interface RankedPicture<Picture> {
  picture: Picture;
  /** [L] in raster order. */
  logits: Float32Array;
  /** [keep], ascending; empty without a selection. */
  indices: Int32Array;
}

interface Waiting {
  picture: QueuedPicture;
  done: (ranked: { logits: Float32Array; indices: Int32Array }) => void;
  failed: (reason: unknown) => void;
}

/** Values of a batch at most, whatever the size of its pictures. */
const fullBatchPixels = 2 ** 22;

/** Batches given to the compute thread: the one it works on, and one more so that it never waits for this thread. */
const computing = 2;

/**
 * Ranks pictures that come one by one. Those of one size are computed together once there are enough of them, or when none
 * is being decoded any more. A picture's result does not depend on the others, to the last bit (docs/engine.md, The contract).
 */
export class RankingQueue {
  /** Pictures of a batch: enough for every core to take some through the whole network. */
  static readonly fullBatch = Math.max(8, 2 * availableParallelism());

  /** Pictures decoded at the same time: they are decoded in libuv's pool, and read from disk meanwhile. */
  static readonly decoders = Math.max(4, availableParallelism() + 1);

  /**
   * Pictures of so many pixels to have in flight, so that one batch is decoded while another is computed and a third is put
   * together.
   */
  static window(batchSize: number, pixels: number): number {
    return 4 * batchOf(batchSize, pixels);
  }

  readonly #ranker: Ranks;
  readonly #settings: QueueSettings;
  readonly #batchSize: number;
  /** By size, each in order of arrival; the sizes in the order of their oldest picture. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #slots: Slots;
  /** Pictures announced and not decoded yet. */
  #coming = 0;
  /** Pictures decoded and not given to the compute thread yet. */
  #decoded = 0;
  #computing = 0;

  constructor(ranker: Ranks, settings: QueueSettings) {
    this.#ranker = ranker;
    this.#settings = settings;
    this.#batchSize = settings.batchSize ?? RankingQueue.fullBatch;
    this.#slots = new Slots(settings.decoders ?? RankingQueue.decoders);
  }

  /** Waits for the picture that `decode` yields and then for its ranks. What fails rejects this picture's promise alone. */
  async rank<Picture extends QueuedPicture>(
    decode: () => Promise<Picture>,
  ): Promise<RankedPicture<Picture>> {
    this.#coming++;
    let picture: Picture;
    try {
      picture = await this.#slots.run(() => {
        this.#settings.signal.throwIfAborted();
        return decode();
      });
    } catch (error) {
      this.#coming--;
      this.#start();
      throw error;
    }
    this.#coming--;
    const ranked = new Promise<{ logits: Float32Array; indices: Int32Array }>((done, failed) => {
      const key = picture.size.join(' x ');
      const group = this.#waiting.get(key) ?? [];
      group.push({ picture, done, failed });
      this.#waiting.set(key, group);
      this.#decoded++;
    });
    this.#start();
    return { picture, ...(await ranked) };
  }

  /** Gives the compute thread what is ready for it. */
  #start(): void {
    while (this.#computing < computing) {
      const batch = this.#full() ?? (this.#isDue() ? this.#oldest() : undefined);
      if (batch === undefined) return;
      this.#computing++;
      void this.#compute(batch).finally(() => {
        this.#computing--;
        this.#start();
      });
    }
  }

  /** Whether to compute a batch that is not full: no picture would join it, or the compute thread would be idle. */
  #isDue(): boolean {
    return this.#coming === 0 || (this.#computing === 0 && this.#decoded >= this.#batchSize);
  }

  #full(): Waiting[] | undefined {
    for (const [key, group] of this.#waiting) {
      if (group.length >= this.#most(group)) return this.#take(key, group);
    }
    return undefined;
  }

  #oldest(): Waiting[] | undefined {
    for (const [key, group] of this.#waiting) return this.#take(key, group);
    return undefined;
  }

  #most(group: readonly Waiting[]): number {
    const [height, width] = (group[0] as Waiting).picture.size;
    return batchOf(this.#batchSize, height * width);
  }

  #take(key: string, group: Waiting[]): Waiting[] {
    const batch = group.splice(0, this.#most(group));
    this.#waiting.delete(key);
    if (group.length > 0) this.#waiting.set(key, group);
    this.#decoded -= batch.length;
    return batch;
  }

  /** Never rejects: every picture of the batch gets its result or its error. */
  async #compute(batch: readonly Waiting[]): Promise<void> {
    try {
      const count = batch.length;
      const { logits, indices } = await this.#ranked(together(batch.map(({ picture }) => picture)));
      const patches = logits.length / count;
      const keep = indices.length / count;
      for (const [index, { done }] of batch.entries()) {
        done({
          logits: logits.slice(index * patches, (index + 1) * patches),
          indices: indices.slice(index * keep, (index + 1) * keep),
        });
      }
    } catch (error) {
      const { code } = toLtrpError(error);
      if (batch.length > 1 && !this.#settings.signal.aborted && aloneMayWork.includes(code)) {
        for (const one of batch) await this.#compute([one]);
      } else {
        for (const { failed } of batch) failed(error);
      }
    }
  }

  async #ranked(images: PixelBatch): Promise<{ logits: Float32Array; indices: Int32Array }> {
    const { signal, prior } = this.#settings;
    const { patchSize, mean, std } = this.#ranker.config;
    const select = this.#selection(images, patchSize);
    const both = rankAndSelect(this.#ranker, images, { prior, select }, signal);
    if (both !== undefined) return { indices: new Int32Array(0), ...(await both) };
    // A ranker of an older copy of the package has no such option.
    const combined = prior === undefined ? {} : { prior };
    const { logits } = await this.#ranker.rank(images, { signal, ...combined });
    if (select === undefined) return { logits, indices: new Int32Array(0) };
    const options = { ...select, patchSize, mean, std, signal };
    return { logits, indices: (await selectPatches(images, logits, options)).indices };
  }

  #selection({ shape: [count, height, width] }: PixelBatch, patchSize: number) {
    const { keep: number, keepRatio, scoreShare, seed, device = 'cpu' } = this.#settings;
    const patches = (height / patchSize) * (width / patchSize);
    const wish = keepRatio === undefined ? number : keepCount(patches, keepRatio);
    if (wish === undefined) return undefined;
    // The same for every picture, wherever it stands in a batch.
    const noise = Float32Array.from(permutation(patches, seed), (place) => place / patches);
    const densityNoise = new Float32Array(count * patches);
    for (let at = 0; at < densityNoise.length; at += patches) densityNoise.set(noise, at);
    return { keep: Math.min(wish, patches), scoreShare, densityNoise, device };
  }
}

/** Pictures of one size as a batch. */
function together(pictures: readonly QueuedPicture[]): PixelBatch {
  const { pixels, size } = pictures[0] as QueuedPicture;
  const shape = [pictures.length, ...size, 3] as const;
  if (pictures.length === 1) return { data: pixels, shape };
  const data = new Uint8Array(pictures.length * pixels.length);
  for (const [index, picture] of pictures.entries())
    data.set(picture.pixels, index * pixels.length);
  return { data, shape };
}

/**
 * Memory for one picture may be there where that for all is not, and a picture whose logits are not finite fails the batch. All
 * else (a disposed ranker, a device that fails) would fail again for every picture.
 */
const aloneMayWork: readonly LtrpErrorCode[] = [
  'ERR_LTRP_OUT_OF_MEMORY',
  'ERR_LTRP_INVALID_ARGUMENT',
  'ERR_LTRP_NOT_FINITE',
];

/** How many pictures of so many pixels are computed together. */
function batchOf(batchSize: number, pixels: number): number {
  return Math.min(batchSize, Math.max(1, Math.floor(fullBatchPixels / pixels)));
}
