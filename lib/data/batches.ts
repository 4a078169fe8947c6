/** Batches of decoded pictures, ready before the compute thread asks for them. */
import { LtrpError, toLtrpError, type LtrpErrorCode, dataUnreadable } from '../errors.js';
import type { NativePicture } from '../native/binding.js';
import { isUnreachable } from '../shards/shard.js';
import type { Dataset } from './dataset.js';
import type { DecodedFile, PictureDecoder } from './decoder.js';

/** Makes a decoded picture, of a place in the data set's files, one to learn from. */
export type Complete = (
  picture: DecodedFile,
  index: number,
) => NativePicture | Promise<NativePicture>;

/** A file that could not be read, by its place in the data set's files. */
export interface Refusal {
  index: number;
  code: LtrpErrorCode;
  message: string;
}

export interface BatchOptions {
  dataset: Dataset;
  decoder: PictureDecoder;
  batchSize: number;
  /** Of each batch, the pictures that are wanted here. Default: all. */
  part?: readonly [first: number, count: number] | undefined;
  seed: number;
  /** Batches made before (of a resumed run). */
  firstBatch: number;
  /** Batches decoded ahead of the one being waited for. */
  prefetch: number;
  /** Share of the data set that may be unreadable, in [0, 1]. */
  maxUnreadable: number;
  /** What a picture at an index of the data set's files is given before it is used; what it throws makes the file unreadable. */
  complete?: Complete | undefined;
  /** Called once for each unreadable file. */
  onUnreadable?: ((path: string, error: LtrpError) => void) | undefined;
}

/**
 * A stream of batches. Batch k holds the pictures at positions k · batchSize … of the data set's sequence, whatever the
 * order in which they were decoded. In the place of an unreadable picture comes the next readable one of the sequence,
 * so batches depend on the files alone and a resumed run sees the same ones.
 */
export class BatchStream {
  readonly #abort = new AbortController();
  readonly #ready: Promise<NativePicture[]>[] = [];
  readonly #unreadable = new Map<string, LtrpError>();
  /** Of them, those that takeRefused() has not given yet. */
  readonly #refused: Refusal[] = [];
  /** Ends every batch to come, whichever of the pictures decoded side by side was the one too many. */
  #tooMany: LtrpError | undefined;
  #next: number;
  #waitedSeconds = 0;

  constructor(private readonly options: BatchOptions) {
    this.#next = options.firstBatch;
    this.#fill();
  }

  /** Seconds that {@link next} has kept its callers waiting. */
  get waitedSeconds(): number {
    return this.#waitedSeconds;
  }

  get unreadable(): readonly string[] {
    return [...this.#unreadable.keys()];
  }

  /** @throws {LtrpError} `ERR_LTRP_DATA_UNREADABLE` when more than the allowed share of the files is unreadable. */
  async next(): Promise<NativePicture[]> {
    const batch = this.#ready.shift();
    if (batch === undefined) throw new LtrpError('ERR_LTRP_DISPOSED', 'The batches are closed.');
    this.#fill();
    const start = performance.now();
    try {
      return await batch;
    } catch (error) {
      this.close();
      throw error;
    } finally {
      this.#waitedSeconds += (performance.now() - start) / 1000;
    }
  }

  /** Stops decoding. Idempotent. */
  close(): void {
    this.#abort.abort(new LtrpError('ERR_LTRP_CANCELLED', 'The batches are closed.'));
    this.#ready.length = 0;
  }

  #fill(): void {
    while (this.#ready.length <= this.options.prefetch && !this.#abort.signal.aborted) {
      const { batchSize, part = [0, batchSize] } = this.options;
      const first = this.#next++ * batchSize + part[0];
      const slots = Array.from({ length: part[1] }, (_, i) => this.#pictureAt(first + i));
      const batch = Promise.all(slots);
      batch.catch(() => undefined); // reported by next(), or of no interest after close()
      this.#ready.push(batch);
    }
  }

  async #pictureAt(position: number): Promise<NativePicture> {
    const { dataset, decoder, seed, complete } = this.options;
    for (let ahead = 0; ahead < 2 * dataset.size && this.#tooMany === undefined; ahead++) {
      const index = dataset.at(position + ahead, seed);
      const path = dataset.files[index] as string;
      if (this.#unreadable.has(path)) continue;
      try {
        const picture = await decoder.decode(path, this.#abort.signal);
        return complete === undefined ? picture : await complete(picture, index);
      } catch (error) {
        this.#abort.signal.throwIfAborted();
        // No fault of the picture: leaving it out would change the order for good.
        if (isUnreachable(error)) throw error;
        this.#refuse(index, toLtrpError(error));
      }
    }
    throw this.#tooMany ?? dataUnreadable(`None of the ${dataset.pictures} images can be read.`);
  }

  /** What was found unreadable since the last call, for other processes that share the batches. */
  takeRefused(): Refusal[] {
    return this.#refused.splice(0);
  }

  /** Counts what another process found unreadable. */
  refuseToo(refusals: readonly Refusal[]): void {
    for (const { index, code, message } of refusals) {
      this.#refuse(index, new LtrpError(code, message), false);
    }
  }

  #refuse(index: number, error: LtrpError, here = true): void {
    const { dataset, maxUnreadable, onUnreadable } = this.options;
    const path = dataset.files[index] as string;
    if (this.#unreadable.has(path)) return;
    this.#unreadable.set(path, error);
    if (here) this.#refused.push({ index, code: error.code, message: error.message });
    onUnreadable?.(path, error);
    const count = this.#unreadable.size;
    if (count > maxUnreadable * dataset.pictures && this.#tooMany === undefined) {
      const named = [...this.#unreadable.keys()].slice(0, 5).join(', ');
      this.#tooMany = dataUnreadable(
        `${count} of ${dataset.pictures} images cannot be read, more than the allowed share of ${maxUnreadable}: ` +
          `${named}${count > 5 ? ', …' : ''}; repair or remove them, or allow more.`,
        error,
      );
    }
  }
}
