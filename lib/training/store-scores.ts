/** Writes stored score maps, shard by shard. Several processes may work on one store at a time. */
import { existsSync } from 'node:fs';
import { PictureDecoder } from '../data/decoder.js';
import type { ScoreStore, StoredPicture } from '../data/score-store.js';
import type { Source } from '../data/sources.js';
import { LtrpError, toLtrpError, type LtrpErrorCode, dataUnreadable } from '../errors.js';
import type { CoreBinding, NativeMae, NativePicture } from '../native/binding.js';
import { runJob } from '../native/job.js';
import { doParts } from '../shared-parts.js';
import { loadSharp } from '../sharp.js';

export interface StoreRun {
  core: CoreBinding;
  teacher: NativeMae;
  store: ScoreStore;
  sources: readonly Source[];
  /** Pictures decoded at a time. */
  concurrency: number;
  /** Share of all pictures that may be unreadable, whichever process comes across them, in [0, 1]. */
  maxUnreadable: number;
  signal: AbortSignal;
  /** Crops of a shard that are done, of how many. */
  onProgress: (shard: number, done: number, total: number) => void;
  onUnreadable: (path: string, error: LtrpError) => void;
  /** A sentence for people. */
  onNotice: (sentence: string) => void;
}

/** What one process did. */
export interface StoreResult {
  shards: number;
  maps: number;
  unreadable: number;
}

interface Entry {
  path: string;
  root: number;
  name: string;
  problem: LtrpError | undefined;
}

interface Decoded {
  pictures: (NativePicture & { number: number })[];
  stored: StoredPicture[];
  unreadable: Unreadable[];
}

interface Unreadable {
  entry: Entry;
  error: LtrpError;
}

/** Faults of the picture itself. All others may be gone at the next attempt: a shard must not remember them. */
const lasting: readonly LtrpErrorCode[] = [
  'ERR_LTRP_IMAGE_NOT_FOUND',
  'ERR_LTRP_IMAGE_DECODE',
  'ERR_LTRP_IMAGE_SIZE',
];

/**
 * Writes all shards that are not there. A killed process leaves whole shards and nothing else that counts; which process writes a
 * shard, and when, does not change its bytes, as long as all run on one kind of processor and device.
 *
 * @throws {LtrpError} `ERR_LTRP_DATA_UNREADABLE`, `ERR_LTRP_FILE_WRITE`; what keeps pictures from being decoded and is no fault of
 *   theirs, such as `ERR_LTRP_OUT_OF_MEMORY`; `signal.reason`. Then the running shard is lost.
 */
export async function storeScores(run: StoreRun): Promise<StoreResult> {
  await loadSharp(); // before anything is begun
  return new Storing(run).all();
}

class Storing {
  readonly #entries: readonly Entry[];
  readonly #decoder: PictureDecoder;
  readonly #result: StoreResult = { shards: 0, maps: 0, unreadable: 0 };
  /** Shards that were not there at the beginning. */
  readonly #missing: readonly number[];
  /** Of each finished shard that was looked into: how many pictures were unreadable. */
  readonly #counted = new Map<number, number>();
  /** The last of them that this process came across. */
  #refused: Unreadable | undefined;
  /** Decoded while the shard before is scored. */
  #ahead: { shard: number; decoded: Promise<Decoded> } | undefined;

  constructor(private readonly run: StoreRun) {
    this.#entries = run.sources.flatMap(({ files, names, problems }, root) =>
      files.map((path, i) => ({
        path,
        root,
        name: names[i] as string,
        problem: problems.get(path),
      })),
    );
    const { decodeSize: shortSide } = run.store.manifest;
    const { concurrency } = run;
    this.#decoder = new PictureDecoder({ shortSide, cacheBytes: 0, concurrency, digests: true });
    this.#missing = run.store.missing();
  }

  async all(): Promise<StoreResult> {
    const { store, signal, onNotice } = this.run;
    await doParts({
      parts: this.#missing,
      folder: store.path,
      isDone: (shard) => this.#isDone(shard),
      lockPath: (shard) => store.lockPath(shard),
      passOverLocked: true,
      work: (shard) => this.#write(shard),
      onWait: (shard, holder) => onNotice(`waiting for shard ${shard}, which ${holder} writes`),
      signal,
    });
    // Shards that were written at the same time did not know of each other.
    if (this.#refused !== undefined) await this.#checkUnreadable(this.#refused);
    return this.#result;
  }

  #isDone(shard: number): boolean {
    return existsSync(this.run.store.shardPath(shard));
  }

  async #write(shard: number): Promise<void> {
    const { core, teacher, store, signal } = this.run;
    const { pictures, stored, unreadable } = await this.#take(shard);
    for (const { entry, error } of unreadable) this.run.onUnreadable(entry.path, error);
    this.#result.unreadable += unreadable.length;
    const last = unreadable.at(-1);
    if (last !== undefined) await this.#checkUnreadable((this.#refused = last), unreadable.length);
    this.#decodeAhead(shard + 1);
    const { manifest } = store;
    const metadata = {
      store: store.identity,
      teacher: manifest.teacher,
      precision: teacher.precision,
      options: JSON.stringify(manifest.options),
      shard: String(shard),
      pictures: JSON.stringify(stored),
      unreadable: JSON.stringify(unreadable.map(({ entry }) => [entry.root, entry.name])),
    };
    const onProgress = ({ done, total }: { done: number; total: number }): void =>
      this.run.onProgress(shard, done, total);
    const options = JSON.stringify(manifest.options);
    const path = store.shardPath(shard);
    await runJob(core, { signal, onProgress }, (job) =>
      teacher.storeScores(job, pictures, { path, options, metadata }),
    );
    this.#result.shards++;
    this.#result.maps += pictures.length * manifest.options.crops;
  }

  #take(shard: number): Promise<Decoded> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead?.shard === shard ? ahead.decoded : this.#decode(shard);
  }

  /** The next shard that nobody has begun, if it turns out to be this process's. */
  #decodeAhead(first: number): void {
    const { store } = this.run;
    const next = this.#missing.find(
      (shard) => shard >= first && !this.#isDone(shard) && !existsSync(store.lockPath(shard)),
    );
    if (next === undefined) return;
    const decoded = this.#decode(next);
    decoded.catch(() => undefined); // reported when it is taken, or of no interest
    this.#ahead = { shard: next, decoded };
  }

  async #decode(shard: number): Promise<Decoded> {
    const { store, signal } = this.run;
    const { shardPictures } = store.manifest;
    const first = shard * shardPictures;
    const entries = this.#entries.slice(first, first + shardPictures);
    const outcomes = await Promise.all(
      entries.map(async ({ path }, i) => {
        try {
          const { digest = '', ...picture } = await this.#decoder.decode(path, signal);
          return { digest, picture: { ...picture, number: first + i } };
        } catch (cause) {
          signal.throwIfAborted();
          const error = toLtrpError(cause);
          if (!lasting.includes(error.code)) throw error;
          return error;
        }
      }),
    );
    const decoded: Decoded = { pictures: [], stored: [], unreadable: [] };
    for (const [i, outcome] of outcomes.entries()) {
      const entry = entries[i] as Entry;
      if (outcome instanceof LtrpError) {
        decoded.unreadable.push({ entry, error: entry.problem ?? outcome });
      } else {
        decoded.pictures.push(outcome.picture);
        decoded.stored.push([entry.root, entry.name, outcome.digest]);
      }
    }
    return decoded;
  }

  /** Counts those of all finished shards, whoever wrote them, and of one that is not finished. */
  async #checkUnreadable({ entry, error }: Unreadable, unfinished = 0): Promise<void> {
    const { core, store, maxUnreadable, signal } = this.run;
    const missing = new Set(store.missing());
    let count = unfinished;
    for (let shard = 0; shard < store.shards; shard++) {
      if (missing.has(shard)) continue;
      let own = this.#counted.get(shard);
      if (own === undefined) {
        const path = store.shardPath(shard);
        const { metadata } = await runJob(core, { signal }, (job) =>
          core.readScoreShard(job, path),
        );
        own = (JSON.parse(metadata['unreadable'] ?? '[]') as unknown[]).length;
        this.#counted.set(shard, own);
      }
      count += own;
    }
    const total = this.#entries.length;
    if (count <= maxUnreadable * total) return;
    throw dataUnreadable(
      `${count} of ${total} images cannot be read, more than the allowed share of ${maxUnreadable}, ` +
        `among them ${entry.path}; repair or remove them, or allow more.`,
      error,
    );
  }
}
