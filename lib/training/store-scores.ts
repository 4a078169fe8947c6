/** Writes stored score maps, shard by shard. Several processes may work on one store at a time. */
import { existsSync } from 'node:fs';
import { PictureDecoder } from '../data/decoder.js';
import type { ScoreStore, StoredPicture } from '../data/score-store.js';
import type { Source } from '../data/sources.js';
import { LtrpError, toLtrpError } from '../errors.js';
import { fileDigest } from '../file-digest.js';
import { withLock } from '../folder-lock.js';
import type { CoreBinding, NativeMae, NativePicture } from '../native/binding.js';
import { runJob } from '../native/job.js';
import { loadSharp } from '../sharp.js';

export interface StoreRun {
  core: CoreBinding;
  teacher: NativeMae;
  store: ScoreStore;
  sources: readonly Source[];
  /** Pictures decoded at a time. */
  concurrency: number;
  /** Share of the pictures that may be unreadable, in [0, 1]. */
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
  unreadable: { path: string; entry: Entry; error: LtrpError }[];
}

/** Thrown and caught here: somebody else works on that shard. */
class Busy extends Error {}

/**
 * Writes all shards that are not there. A killed process leaves whole shards and nothing else that counts; which process writes a
 * shard, and when, does not change its bytes.
 *
 * @throws {LtrpError} `ERR_LTRP_DATA_UNREADABLE`, `ERR_LTRP_FILE_WRITE`; `signal.reason`, and then the running shard is lost.
 */
export async function storeScores(run: StoreRun): Promise<StoreResult> {
  await loadSharp(); // else every picture would count as unreadable
  return new Storing(run).all();
}

class Storing {
  readonly #run: StoreRun;
  readonly #entries: readonly Entry[];
  readonly #decoder: PictureDecoder;
  readonly #result: StoreResult = { shards: 0, maps: 0, unreadable: 0 };
  /** Decoded while the shard before is scored. */
  #ahead: { shard: number; decoded: Promise<Decoded> } | undefined;

  constructor(run: StoreRun) {
    this.#run = run;
    this.#entries = run.sources.flatMap(({ files, names, problems }, root) =>
      files.map((path, i) => ({
        path,
        root,
        name: names[i] as string,
        problem: problems.get(path),
      })),
    );
    const { decodeSize: shortSide } = run.store.manifest;
    this.#decoder = new PictureDecoder({ shortSide, cacheBytes: 0, concurrency: run.concurrency });
  }

  async all(): Promise<StoreResult> {
    const { store, signal, onNotice } = this.#run;
    const busy: number[] = [];
    for (let shard = 0; shard < store.shards; shard++) {
      if (this.#isDone(shard)) continue;
      // Who holds it takes seconds to find out, and meanwhile there is other work.
      if (existsSync(store.lockPath(shard))) busy.push(shard);
      else {
        const refuse = (): Error => new Busy();
        await this.#locked(shard, { signal, refuse }).catch((error: unknown) => {
          if (!(error instanceof Busy)) throw error;
          busy.push(shard);
        });
      }
    }
    for (const shard of busy) {
      if (this.#isDone(shard)) continue;
      const onWait = (holder: string): void => {
        onNotice(`waiting for shard ${shard}, which ${holder} writes`);
      };
      await this.#locked(shard, { signal, onWait });
    }
    return this.#result;
  }

  #isDone(shard: number): boolean {
    return existsSync(this.#run.store.shardPath(shard));
  }

  async #locked(shard: number, options: Parameters<typeof withLock>[2]): Promise<void> {
    try {
      await withLock(
        this.#run.store.lockPath(shard),
        async () => {
          if (!this.#isDone(shard)) await this.#write(shard);
        },
        options,
      );
    } catch (cause) {
      if (!(cause instanceof Error && 'errno' in cause)) throw cause;
      const { message } = cause;
      const { path } = this.#run.store;
      throw new LtrpError('ERR_LTRP_FILE_WRITE', `${path} cannot be written to: ${message}`, {
        cause,
      });
    }
  }

  async #write(shard: number): Promise<void> {
    const { core, teacher, store, signal } = this.#run;
    const { pictures, stored, unreadable } = await this.#take(shard);
    for (const { path, error } of unreadable) this.#refuse(path, error);
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
    const onProgress = ({ done, total }: { done: number; total: number }): void => {
      this.#run.onProgress(shard, done, total);
    };
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
    const { store } = this.#run;
    for (let shard = first; shard < store.shards; shard++) {
      if (this.#isDone(shard) || existsSync(store.lockPath(shard))) continue;
      const decoded = this.#decode(shard);
      decoded.catch(() => undefined); // reported when it is taken, or of no interest
      this.#ahead = { shard, decoded };
      return;
    }
  }

  async #decode(shard: number): Promise<Decoded> {
    const { store, signal } = this.#run;
    const { shardPictures } = store.manifest;
    const first = shard * shardPictures;
    const entries = this.#entries.slice(first, first + shardPictures);
    const outcomes = await Promise.all(
      entries.map(async ({ path }, i) => {
        try {
          const picture = await this.#decoder.decode(path, signal);
          return { ...picture, number: first + i, digest: await fileDigest(path) };
        } catch (error) {
          signal.throwIfAborted();
          return toLtrpError(error);
        }
      }),
    );
    const decoded: Decoded = { pictures: [], stored: [], unreadable: [] };
    for (const [i, outcome] of outcomes.entries()) {
      const entry = entries[i] as Entry;
      if (outcome instanceof LtrpError) {
        decoded.unreadable.push({ path: entry.path, entry, error: entry.problem ?? outcome });
      } else {
        const { digest, ...picture } = outcome;
        decoded.pictures.push(picture);
        decoded.stored.push([entry.root, entry.name, digest]);
      }
    }
    return decoded;
  }

  #refuse(path: string, error: LtrpError): void {
    const { maxUnreadable, onUnreadable } = this.#run;
    onUnreadable(path, error);
    const total = this.#entries.length;
    if (++this.#result.unreadable <= maxUnreadable * total) return;
    throw new LtrpError(
      'ERR_LTRP_DATA_UNREADABLE',
      `${this.#result.unreadable} of ${total} images cannot be read, more than the allowed share of ${maxUnreadable}, ` +
        `among them ${path}; repair or remove them, or allow more.`,
      { cause: error },
    );
  }
}
