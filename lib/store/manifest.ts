/** A folder of results: store.json says what they are of and in how many parts they come. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { LtrpError, notFound, conflict } from '../errors.js';
import { withLock } from '../folder-lock.js';
import { readManifest } from '../manifest-file.js';
import { writeError } from '../output-files.js';
import type { Unit } from './division.js';

export type ResultKind = 'rank' | 'score';

/** store.json. */
export interface ResultManifest {
  format: 'ltrp-results-1';
  kind: ResultKind;
  /** Of the package that began the store. */
  version: string;
  /** SHA-256 of the model. */
  model: string;
  /** All options that the results depend on. */
  options: Record<string, unknown>;
  /** How many files hold all results. */
  parts: number;
  /** SHA-256 of the names of all pictures and shards. */
  names: string;
  data: Unit[];
}

const fileName = 'store.json';

export const hasManifest = (path: string): boolean => existsSync(join(path, fileName));

export class ResultStore {
  /** What every part has in its metadata, so that those of different stores cannot be mixed. */
  readonly identity: string;

  private constructor(
    readonly path: string,
    readonly manifest: ResultManifest,
  ) {
    const { kind, model, options, parts, names, data } = manifest;
    this.identity = createHash('sha256')
      .update(JSON.stringify([kind, model, options, parts, names, data]))
      .digest('hex');
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_RUN_DAMAGED`. */
  static async open(path: string): Promise<ResultStore> {
    const manifest = await read(path);
    if (manifest !== null) return new ResultStore(path, manifest);
    throw notFound(
      `There are no results in ${path}: it has no ${fileName}. ltrp rank --store ${path} writes it.`,
    );
  }

  /**
   * Begins a store, or continues the one that is there: the first process decides, and the number of parts is the store's own.
   *
   * @param make - called where there is no store yet.
   * @param wanted - what the store must be of; `parts` only if it was asked for.
   * @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT`, `ERR_LTRP_RUN_DAMAGED`, `ERR_LTRP_FILE_WRITE`.
   */
  static async begin(
    path: string,
    wanted: Omit<ResultManifest, 'parts' | 'data'> & { parts: number | undefined },
    make: () => Promise<Pick<ResultManifest, 'parts' | 'data'>>,
    signal: AbortSignal,
  ): Promise<ResultStore> {
    const begin = async (): Promise<ResultStore> => {
      let manifest = await read(path);
      if (manifest === null) {
        manifest = { ...wanted, ...(await make()) };
        await writeFileAtomic(join(path, fileName), `${JSON.stringify(manifest, null, 1)}\n`);
      }
      refuseOther(path, manifest, wanted);
      return new ResultStore(path, manifest);
    };
    try {
      // Most processes come later, and need not wait for each other.
      if (hasManifest(path)) return await begin();
      return await withLock(join(path, '.lock'), begin, { signal });
    } catch (cause) {
      if (signal.aborted || cause instanceof LtrpError) throw cause;
      throw writeError(path, cause);
    }
  }

  /** @param part - from 0; people count from 1. */
  partPath(part: number): string {
    return join(this.path, this.partName(part));
  }

  partName(part: number): string {
    const width = Math.max(5, String(this.manifest.parts).length);
    const [number, of] = [part + 1, this.manifest.parts].map((n) => String(n).padStart(width, '0'));
    return `part-${number ?? ''}-of-${of ?? ''}.parquet`;
  }

  lockPath(part: number): string {
    return join(this.path, `.${this.partName(part)}.lock`);
  }

  has(part: number): boolean {
    return existsSync(this.partPath(part));
  }

  /** Parts that are not written yet. */
  missing(): number[] {
    const all = Array.from({ length: this.manifest.parts }, (_, part) => part);
    return all.filter((part) => !this.has(part));
  }
}

const read = (path: string): Promise<ResultManifest | null> =>
  readManifest<ResultManifest>(
    join(path, fileName),
    { what: 'the description of results', things: 'results' },
    (manifest) =>
      manifest?.format === 'ltrp-results-1' &&
      Number.isSafeInteger(manifest.parts) &&
      (manifest.parts as number) > 0 &&
      Array.isArray(manifest.data),
  );

function refuseOther(
  path: string,
  there: ResultManifest,
  wanted: Omit<ResultManifest, 'parts' | 'data'> & { parts: number | undefined },
): void {
  const differences: string[] = [];
  if (there.kind !== wanted.kind)
    differences.push(`ltrp ${there.kind} and not ltrp ${wanted.kind}`);
  if (there.model !== wanted.model) differences.push('another model');
  if (there.names !== wanted.names)
    differences.push('other pictures or shards, or other names of them');
  const names = new Set([...Object.keys(there.options), ...Object.keys(wanted.options)]);
  for (const name of names) {
    const [was, is] = [there.options[name], wanted.options[name]].map((value) =>
      JSON.stringify(value ?? null),
    );
    if (was !== is) differences.push(`${name} ${was ?? ''} and not ${is ?? ''}`);
  }
  if (wanted.parts !== undefined && there.parts !== wanted.parts) {
    differences.push(`${there.parts} parts and not ${wanted.parts}`);
  }
  if (differences.length === 0) return;
  throw conflict(
    `The results in ${path} were begun with ${differences.join('; ')}. Give the same again, or another --store.`,
  );
}
