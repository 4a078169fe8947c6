/** From decoded pictures to kept patches, several at a time, while the next ones are decoded. */
import { availableParallelism } from 'node:os';
import { Slots } from '../slots.js';
import {
  batchOf,
  rankTogether,
  type KeepWish,
  type RankedPatches,
  type Ranks,
  type SizedPicture,
} from './rank-together.js';

/** A picture as the queue takes it: RGB bytes of `size`. */
export type QueuedPicture = SizedPicture;

/** Options of {@link RankingQueue}. */
export interface QueueSettings extends KeepWish {
  /** Pictures computed together, at most. Default {@link RankingQueue.fullBatch}. */
  batchSize?: number | undefined;
  /** Pictures decoded at the same time, at most. Default {@link RankingQueue.decoders}. */
  decoders?: number | undefined;
  signal: AbortSignal;
}

/** What becomes of one picture. */
export interface RankedPicture<Picture> extends RankedPatches {
  picture: Picture;
}

interface Waiting {
  picture: QueuedPicture;
  done: (ranked: RankedPatches) => void;
  failed: (reason: unknown) => void;
}

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
  readonly #batchSize: number;
  /** By size, each in order of arrival; the sizes in the order of their oldest picture. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #slots: Slots;
  /** Pictures announced and not decoded yet. */
  #coming = 0;
  /** Pictures decoded and not given to the compute thread yet. */
  #decoded = 0;
  #computing = 0;

  constructor(
    private readonly ranker: Ranks,
    private readonly settings: QueueSettings,
  ) {
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
        this.settings.signal.throwIfAborted();
        return decode();
      });
    } catch (error) {
      this.#coming--;
      this.#start();
      throw error;
    }
    this.#coming--;
    const ranked = new Promise<RankedPatches>((done, failed) => {
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

  async #compute(batch: readonly Waiting[]): Promise<void> {
    const pictures = batch.map(({ picture }) => picture);
    const { signal } = this.settings;
    const outcomes = await rankTogether(this.ranker, pictures, this.settings, signal);
    for (const [index, { done, failed }] of batch.entries()) {
      const outcome = outcomes[index] as PromiseSettledResult<RankedPatches>;
      if (outcome.status === 'fulfilled') done(outcome.value);
      else failed(outcome.reason);
    }
  }
}
