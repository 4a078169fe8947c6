/** Files that appear whole or not at all. */
import { randomBytes } from 'node:crypto';
import { constants, copyFile, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { unwritable } from '../errors.js';
import { withLock } from '../folder-lock.js';
import { giveName } from '../output-files.js';

/**
 * Writes a model and its weights: `fill` is given their files at `targets`, in this order, and the model's comes last. Each appears
 * whole or not at all. Where several replace what is there, all old files are set aside before, the model first, and all come back
 * if that fails: a model never stands beside the weights of another.
 *
 * @param path - how messages call the model.
 * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS`, `ERR_LTRP_FILE_WRITE`; the signal's reason; or what `fill` throws.
 */
export async function writeTogether(
  path: string,
  targets: readonly string[],
  { overwrite, signal }: { overwrite: boolean; signal: AbortSignal | undefined },
  fill: (files: readonly PartialFile[]) => Promise<void>,
): Promise<void> {
  const replaces = overwrite && targets.length > 1;
  const write = async (): Promise<void> => {
    const files = targets.map((target) => new PartialFile(target));
    const aside: [name: string, target: string][] = [];
    try {
      await fill(files);
      signal?.throwIfAborted();
      for (const target of replaces ? [...targets].reverse() : []) {
        const name = await setAside(target);
        if (name !== undefined) aside.push([name, target]);
      }
      for (const file of files) await file.finish(overwrite);
    } catch (cause) {
      for (const file of files) await file.discard(!overwrite || replaces);
      for (const [name, target] of aside.reverse()) await rename(name, target);
      if (signal?.aborted === true) throw signal.reason;
      if (!(cause instanceof Error && 'errno' in cause)) throw cause;
      throw unwritable(`${path} cannot be written: ${cause.message}.`, cause);
    }
    for (const [name] of aside) await rm(name, { force: true });
  };
  // Two that replace one pair take turns, or a model of the one could stand beside the weights of the other.
  await (replaces ? withLock(`${targets.at(-1) ?? ''}.lock`, write, { signal }) : write());
}

/** Takes the file at `path` out of the way; its new name, or undefined where there is none. */
async function setAside(path: string): Promise<string | undefined> {
  const aside = temporaryName(path);
  try {
    await rename(path, aside);
    return aside;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

function temporaryName(path: string): string {
  return `${path}.${randomBytes(4).toString('hex')}.partial`;
}

/** A file under a temporary name in the folder of the final one. */
export class PartialFile {
  readonly #partial: string;
  #handle: FileHandle | undefined;
  size = 0;
  /** Whether the file has its name. */
  #finished = false;

  constructor(readonly path: string) {
    this.#partial = temporaryName(path);
  }

  async open(): Promise<void> {
    this.#handle = await open(this.#partial, 'wx');
  }

  async write(bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (bytes.length === 0) return;
    // In pieces, between which it looks at the signal.
    await this.#handle?.writeFile(bytes, { signal });
    this.size += bytes.length;
  }

  /** Fills the file with another one's bytes, in place of `open` and `write`; they share blocks where the file system can. */
  async copy(source: string): Promise<void> {
    await copyFile(source, this.#partial, constants.COPYFILE_FICLONE);
    this.#handle = await open(this.#partial, 'r+');
  }

  /** Gives the file its name once its content, and then its name, are on the disk. */
  async finish(overwrite: boolean): Promise<void> {
    await this.#handle?.sync();
    await this.#handle?.close();
    this.#handle = undefined;
    await giveName(this.#partial, this.path, overwrite);
    this.#finished = true;
    // File systems that cannot sync a folder are left alone.
    const folder = await open(dirname(this.path)).catch(() => undefined);
    await folder?.sync().catch(() => undefined);
    await folder?.close();
  }

  /** With `created`, a file that has its name is new, so that it can be taken back. */
  async discard(created: boolean): Promise<void> {
    await this.#handle?.close().catch(() => undefined);
    this.#handle = undefined;
    if (this.#finished && created) await rm(this.path, { force: true }).catch(() => undefined);
    await rm(this.#partial, { force: true }).catch(() => undefined);
  }
}
