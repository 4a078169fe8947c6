/** The --out folder, made on first use. */
import { mkdir, open, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { LtrpError } from '../errors.js';

export class OutputFolder {
  readonly path: string;
  #made: Promise<unknown> | undefined;

  constructor(path: string) {
    this.path = resolve(path);
  }

  /**
   * Writes a file, whole or not at all, and returns its path.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; a file of that name is then as it was.
   */
  async write(name: string, content: string | Uint8Array | Iterable<Uint8Array>): Promise<string> {
    const path = join(this.path, name);
    const partial = `${path}.${String(process.pid)}.partial`;
    try {
      await this.make();
      await writeFile(partial, content);
      await rename(partial, path);
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => undefined);
      throw writeError(path, cause);
    }
    return path;
  }

  /** A file that grows by lines. It takes the place of one of that name when the first line comes. */
  lines(name: string): LinesFile {
    return new LinesFile(this, join(this.path, name));
  }

  async make(): Promise<void> {
    this.#made ??= mkdir(this.path, { recursive: true });
    await this.#made;
  }
}

/** Lines on disk as soon as they are appended: whatever ends the process afterwards, they are there, and whole. */
export class LinesFile {
  readonly #folder: OutputFolder;
  readonly #path: string;
  #file: FileHandle | undefined;
  #length = 0;

  constructor(folder: OutputFolder, path: string) {
    this.#folder = folder;
    this.#path = path;
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; the lines before are then as they were. */
  async append(line: string): Promise<void> {
    const bytes = Buffer.from(`${line}\n`);
    try {
      this.#file ??= await this.#open();
      await this.#file.appendFile(bytes);
      this.#length += bytes.length;
    } catch (cause) {
      // Half a line where the disk is full.
      await this.#file?.truncate(this.#length).catch(() => undefined);
      throw writeError(this.#path, cause);
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #open(): Promise<FileHandle> {
    await this.#folder.make();
    // Not emptied but replaced: whoever reads the one of an earlier run keeps it.
    await rm(this.#path, { force: true });
    return open(this.#path, 'ax'); // after a half-written line was cut off, the next one belongs at the end
  }
}

function writeError(path: string, cause: unknown): LtrpError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new LtrpError('ERR_LTRP_FILE_WRITE', `${path} cannot be written: ${why}.`, { cause });
}
