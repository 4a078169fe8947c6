/** The --out folder: who may write to it, what its files are called, and how they are written. */
import { lstat, realpath, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { unwritable } from '../errors.js';
import { withLock } from '../folder-lock.js';
import { makeFolders, refuseSpecial, writeError } from '../output-files.js';
import { markOf, sourceId } from '../output-mark.js';
import { outputStem } from './image-arguments.js';
import { LinesFile } from './lines-file.js';

const lockName = '.ltrp-lock';

/** Names of the pictures made from one input. */
export interface OutputName {
  /** Their name before the suffix; no other input's. */
  name: string;
  /** Identifies the input, see `output-mark.ts`. */
  id: string;
  /** There are such pictures of an earlier call, which will be replaced. */
  again: boolean;
}

export class OutputFolder {
  readonly path: string;
  #made: Promise<string | undefined> | undefined;

  constructor(path: string) {
    this.path = resolve(path);
  }

  /**
   * Runs `work` while no other process of ltrp writes to the folder, which is made; waits for the one that does. `work` is given
   * what throws when the lock was lost to another process.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE` when there can be no such folder.
   */
  async hold<T>(
    work: (check: () => Promise<void>) => Promise<T>,
    options: { onWait: (holder: string) => void; signal: AbortSignal },
  ): Promise<T> {
    const state = { begun: false };
    try {
      for (let attempt = 1; ; attempt++) {
        await this.make();
        try {
          return await withLock(
            join(this.path, lockName),
            (check) => {
              state.begun = true;
              return work(check);
            },
            options,
          );
        } catch (error) {
          if (state.begun || options.signal.aborted) throw error;
          // Its holder had no results and removed the folder.
          const gone = (error as NodeJS.ErrnoException).code === 'ENOENT' && attempt < 10;
          if (!gone) throw writeError(this.path, error);
          this.#made = undefined;
        }
      }
    } finally {
      await this.#removeIfEmpty();
    }
  }

  /** A name for the outputs of each file: its own where no other file has or had that. */
  async names(files: readonly string[], suffixes: readonly string[]): Promise<OutputName[]> {
    const taken = new Set<string>();
    const names: OutputName[] = [];
    for (const file of files) {
      const stem = outputStem(file);
      const id = sourceId(await realpath(file).catch(() => resolve(file)));
      for (let number = 1; ; number++) {
        const name = number === 1 ? stem : `${stem}-${number}`;
        if (taken.has(name.toLowerCase())) continue;
        const there = await this.#there(name, id, suffixes);
        if (there === 'other') continue;
        taken.add(name.toLowerCase());
        names.push({ name, id, again: there === 'same' });
        break;
      }
    }
    return names;
  }

  /** Whose pictures of this name there are. */
  async #there(
    name: string,
    id: string,
    suffixes: readonly string[],
  ): Promise<'none' | 'same' | 'other'> {
    let answer: 'none' | 'same' = 'none';
    for (const suffix of suffixes) {
      const path = join(this.path, `${name}${suffix}`);
      if ((await lstat(path).catch(() => undefined)) === undefined) continue;
      if ((await markOf(path)) !== id) return 'other';
      answer = 'same';
    }
    return answer;
  }

  /**
   * Writes a file, whole or not at all, and returns its path.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; an existing file stays unchanged.
   */
  async write(name: string, content: string | Uint8Array | Iterable<Uint8Array>): Promise<string> {
    const path = join(this.path, name);
    // Not the name with a suffix, which may be too long.
    const partial = join(this.path, `.${process.pid}-${++written}.partial`);
    try {
      await this.make();
      await refuseSpecial(path);
      await writeFile(partial, content);
      await rename(partial, path);
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => undefined);
      throw writeError(path, cause);
    }
    return path;
  }

  /** A file that grows by lines, after those that it has. */
  lines(name: string): LinesFile {
    return new LinesFile(this, join(this.path, name));
  }

  async make(): Promise<void> {
    this.#made ??= this.#make();
    await this.#made;
  }

  async #make(): Promise<string | undefined> {
    const info = await stat(this.path).catch(() => undefined);
    if (info !== undefined && !info.isDirectory()) {
      const what = info.isFile() ? 'a file' : 'no folder';
      throw unwritable(`${this.path} is ${what}; choose another --out.`);
    }
    return makeFolders(this.path).catch((cause: unknown) => {
      throw writeError(this.path, cause);
    });
  }

  /** A call without results leaves nothing behind. */
  async #removeIfEmpty(): Promise<void> {
    const first = await this.#made;
    if (first === undefined) return;
    try {
      for (let folder = this.path; ; folder = dirname(folder)) {
        await rmdir(folder);
        if (folder === resolve(first)) return;
      }
    } catch {
      // There are results in it.
    }
  }
}

let written = 0;
