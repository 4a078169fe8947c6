/** The --out folder: made on first use, each file written whole or not at all. */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { LtrpError } from '../errors.js';

export class OutputFolder {
  readonly path: string;
  #made: Promise<unknown> | undefined;

  constructor(path: string) {
    this.path = resolve(path);
  }

  /**
   * Writes a file and returns its path.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; a file of that name is then as it was.
   */
  async write(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.path, name);
    const partial = `${path}.${String(process.pid)}.partial`;
    try {
      this.#made ??= mkdir(this.path, { recursive: true });
      await this.#made;
      await writeFile(partial, content);
      await rename(partial, path);
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => undefined);
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new LtrpError('ERR_LTRP_FILE_WRITE', `${path} cannot be written: ${why}.`, { cause });
    }
    return path;
  }
}
