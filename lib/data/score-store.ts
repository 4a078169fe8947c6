/** A folder of stored score maps: scores.json says what they are of, each shard holds those of some pictures. */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { LtrpError, notFound, conflict } from '../errors.js';
import { withLock } from '../folder-lock.js';
import { readManifest } from '../manifest-file.js';
import type { NativeMaeConfig, NativeStoreOptions } from '../native/binding.js';
import { writeError } from '../output-files.js';
import type { Precision } from '../types.js';

/** scores.json. */
export interface ScoreManifest {
  format: 'ltrp-scores-1';
  /** Of the package that began the store. */
  version: string;
  /** SHA-256 of the teacher. */
  teacher: string;
  /** Of the teacher, and so of the crops. */
  model: Pick<NativeMaeConfig, 'imageHeight' | 'imageWidth' | 'patchSize' | 'mean' | 'std'>;
  /** As it was asked for. */
  precision: Precision;
  options: NativeStoreOptions;
  /** Pixels that the shorter side of a decoded picture has at most; crops are in such pixels. */
  decodeSize: number;
  data: { digest: string; images: number };
  /** Pictures of a shard. */
  shardPictures: number;
  /** Folders that the pictures' names are relative to. They may move. */
  roots: string[];
}

/** A picture of a shard, as its metadata have it: the number of its root, its name, SHA-256 of its bytes. */
export type StoredPicture = [root: number, name: string, digest: string];

export class ScoreStore {
  /** What every shard has in its metadata, so that those of different stores cannot be mixed. */
  readonly identity: string;

  private constructor(
    readonly path: string,
    readonly manifest: ScoreManifest,
  ) {
    this.identity = createHash('sha256')
      .update(JSON.stringify(compared(manifest)))
      .digest('hex');
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_RUN_DAMAGED`. */
  static async open(path: string): Promise<ScoreStore> {
    const manifest = await read(path);
    if (manifest === null) {
      throw notFound(
        `There are no stored scores in ${path}: it has no scores.json. ltrp score --store ${path} writes it.`,
      );
    }
    return new ScoreStore(path, manifest);
  }

  /**
   * Begins a store, or continues the one that is there.
   *
   * @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT` when that is of other options, pictures or another teacher;
   *   `ERR_LTRP_RUN_DAMAGED`, `ERR_LTRP_FILE_WRITE`.
   */
  static async begin(
    path: string,
    wanted: ScoreManifest,
    signal: AbortSignal,
  ): Promise<ScoreStore> {
    const begin = async (): Promise<ScoreStore> => {
      const there = await read(path);
      if (there !== null) refuseOther(path, there, wanted);
      const manifest = there === null ? wanted : { ...there, roots: wanted.roots };
      if (JSON.stringify(there) !== JSON.stringify(manifest)) {
        await writeFileAtomic(join(path, 'scores.json'), `${JSON.stringify(manifest, null, 2)}\n`);
      }
      return new ScoreStore(path, manifest);
    };
    try {
      return await withLock(join(path, '.lock'), begin, { signal });
    } catch (cause) {
      if (signal.aborted || cause instanceof LtrpError) throw cause;
      throw writeError(path, cause);
    }
  }

  /** Number of them. */
  get shards(): number {
    return Math.ceil(this.manifest.data.images / this.manifest.shardPictures);
  }

  shardPath(shard: number): string {
    return join(this.path, `scores-${String(shard).padStart(6, '0')}.safetensors`);
  }

  lockPath(shard: number): string {
    return join(this.path, `.scores-${String(shard).padStart(6, '0')}.lock`);
  }

  /** Shards that are not written yet. */
  missing(): number[] {
    const there = new Set(readdirSync(this.path));
    const all = Array.from({ length: this.shards }, (_, shard) => shard);
    return all.filter((shard) => !there.has(basename(this.shardPath(shard))));
  }
}

const read = (path: string): Promise<ScoreManifest | null> =>
  readManifest<ScoreManifest>(
    join(path, 'scores.json'),
    { what: 'the description of stored scores', things: 'scores' },
    (manifest) =>
      manifest?.format === 'ltrp-scores-1' &&
      [manifest.data?.images, manifest.shardPictures, manifest.decodeSize].every(
        (value) => Number.isSafeInteger(value) && (value as number) > 0,
      ) &&
      [manifest.options?.crops, manifest.model?.patchSize].every(Number.isSafeInteger) &&
      Array.isArray(manifest.roots),
  );

/** What a store is of, by the words for it. */
function compared(manifest: ScoreManifest): Record<string, unknown> {
  const { teacher, model, precision, options, decodeSize, data, shardPictures } = manifest;
  const { imageHeight, imageWidth, patchSize, mean, std } = model;
  return {
    teacher,
    model: [imageHeight, imageWidth, patchSize, ...mean, ...std],
    precision,
    ...options,
    decodeSize,
    pictures: data.digest,
    shard: shardPictures,
  };
}

function refuseOther(path: string, there: ScoreManifest, wanted: ScoreManifest): void {
  const [before, now] = [compared(there), compared(wanted)];
  const differences = Object.keys(now).flatMap((name) => {
    const [was, is] = [JSON.stringify(before[name]), JSON.stringify(now[name])];
    if (was === is) return [];
    if (name === 'teacher') return ['another teacher'];
    if (name === 'pictures') {
      return [
        `other pictures (${there.data.images} then, ${wanted.data.images} now, or other names)`,
      ];
    }
    return [`${name} ${was} and not ${is}`];
  });
  if (differences.length === 0) return;
  throw conflict(
    `The scores in ${path} were begun with ${differences.join('; ')}. Give the same again, or another --store.`,
  );
}
