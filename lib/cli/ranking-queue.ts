/** From decoded pictures to kept patches, several at a time, while the next ones are decoded. */
import { availableParallelism } from 'node:os';
import { permutation } from '../data/shuffle.js';
import { normalizePictures } from '../images.js';
import type { PatchRanker } from '../patch-ranker.js';
import { keepCount, selectPatches } from '../selection.js';
import type { Device } from '../types.js';

/** A picture as the queue takes it: RGB bytes of `size`. */
export interface QueuedPicture {
  pixels: Uint8Array;
  size: readonly [height: number, width: number];
}

export interface QueueSettings {
  /** Share of the patches to keep. */
  keepRatio: number;
  scoreShare: number;
  seed: number;
  /** Where the kept patches are chosen. Default: on the CPU. */
  device?: Device;
  signal: AbortSignal;
}

/** What becomes of one picture. */
export interface RankedPicture<Picture> {
  picture: Picture;
  /** [L] in raster order. */
  logits: Float32Array;
  /** [keep], ascending. */
  indices: Int32Array;
}

interface Waiting {
  picture: QueuedPicture;
  done: (ranked: { logits: Float32Array; indices: Int32Array }) => void;
  failed: (reason: unknown) => void;
}

/** Pictures of a batch: enough for every core to take some through the whole network. */
const fullBatch = Math.max(8, 2 * availableParallelism());

/** Values of a batch at most, whatever the size of its pictures. */
const fullBatchPixels = 2 ** 22;

/**
 * Ranks pictures that come one by one. Those of one size are computed together once there are enough of them, or when none
 * is being decoded any more. A picture's result does not depend on the others.
 */
export class RankingQueue {
  /** Pictures to have in flight, so that one batch is decoded while another is computed and a third is put together. */
  static readonly window = 4 * fullBatch;

  readonly #ranker: PatchRanker;
  readonly #settings: QueueSettings;
  /** By size, in order of arrival. */
  readonly #waiting = new Map<string, Waiting[]>();
  #decoding = 0;

  constructor(ranker: PatchRanker, settings: QueueSettings) {
    this.#ranker = ranker;
    this.#settings = settings;
  }

  /** Waits for the picture that `decode` yields and then for its ranks. What fails rejects this picture's promise alone. */
  async rank<Picture extends QueuedPicture>(
    decode: () => Promise<Picture>,
  ): Promise<RankedPicture<Picture>> {
    this.#decoding++;
    let picture: Picture;
    try {
      picture = await decode();
    } catch (error) {
      this.#decoding--;
      this.#start();
      throw error;
    }
    this.#decoding--;
    const ranked = new Promise<{ logits: Float32Array; indices: Int32Array }>((done, failed) => {
      const key = picture.size.join(' x ');
      const group = this.#waiting.get(key) ?? [];
      group.push({ picture, done, failed });
      this.#waiting.set(key, group);
    });
    this.#start();
    return { picture, ...(await ranked) };
  }

  /** Computes what is ready to be computed. */
  #start(): void {
    for (const [key, group] of this.#waiting) {
      const [height, width] = (group[0] as Waiting).picture.size;
      const most = Math.min(fullBatch, Math.max(1, Math.floor(fullBatchPixels / (height * width))));
      while (group.length >= most || (this.#decoding === 0 && group.length > 0)) {
        void this.#compute(group.splice(0, most));
      }
      if (group.length === 0) this.#waiting.delete(key);
    }
  }

  /** Never rejects: every picture of the batch gets its result or its error. */
  async #compute(batch: readonly Waiting[]): Promise<void> {
    try {
      const { keepRatio, scoreShare, seed, device, signal } = this.#settings;
      const { patchSize, mean, std } = this.#ranker.config;
      const count = batch.length;
      const [height, width] = (batch[0] as Waiting).picture.size;
      const bytes = height * width * 3;
      let pixels = (batch[0] as Waiting).picture.pixels;
      if (count > 1) {
        pixels = new Uint8Array(count * bytes);
        for (const [index, { picture }] of batch.entries()) {
          pixels.set(picture.pixels, index * bytes);
        }
      }
      const images = await normalizePictures(pixels, [count, height, width], { mean, std }, signal);
      const { logits } = await this.#ranker.rank(images, { signal });
      const patches = logits.length / count;
      const keep = keepCount(patches, keepRatio);
      // The same for every picture, wherever it stands in a batch.
      const noise = Float32Array.from(permutation(patches, seed), (place) => place / patches);
      const densityNoise = new Float32Array(count * patches);
      for (let index = 0; index < count; index++) densityNoise.set(noise, index * patches);
      const { indices } = await selectPatches(images, logits, {
        keep,
        scoreShare,
        densityNoise,
        ...(device !== undefined && { device }),
        patchSize,
        signal,
      });
      for (const [index, { done }] of batch.entries()) {
        done({
          logits: logits.slice(index * patches, (index + 1) * patches),
          indices: indices.slice(index * keep, (index + 1) * keep),
        });
      }
    } catch (error) {
      if (batch.length > 1 && !this.#settings.signal.aborted) {
        // Memory for one picture may be there where that for all is not.
        for (const one of batch) await this.#compute([one]);
      } else {
        for (const { failed } of batch) failed(error);
      }
    }
  }
}
