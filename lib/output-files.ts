/** Files that a call is about to write. */
import { lstatSync, readlinkSync, statSync } from 'node:fs';
import { link, lstat, mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { LtrpError, unwritable, messageOf } from './errors.js';

const mostLinks = 40;

/**
 * Where a file at `path` ends up: symbolic links stay, and what they point at is written, even if it is not there yet.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_WRITE` when something other than a file is there, which must not be replaced by one.
 */
export function outputTarget(path: string): string {
  let target = resolve(path);
  for (let i = 0; i < mostLinks; i++) {
    if (lstatSync(target, { throwIfNoEntry: false })?.isSymbolicLink() !== true) break;
    target = resolve(dirname(target), readlinkSync(target));
  }
  const there = statSync(target, { throwIfNoEntry: false });
  if (there === undefined || there.isFile()) return target;
  const kind = there.isDirectory()
    ? 'a folder, and a file name is needed'
    : `a ${there.isFIFO() ? 'named pipe' : there.isSocket() ? 'socket' : 'device'}, and not a file that can be replaced as a whole`;
  throw unwritable(`${path} cannot be written: it is ${kind}.`);
}

/**
 * Makes a folder and those above it; returns the first that was not there. Node's own `recursive` never returns where a file
 * system refuses with ENOENT, as /proc does.
 */
export async function makeFolders(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const exists = async (folder: string): Promise<boolean> =>
      (await stat(folder).catch(() => undefined))?.isDirectory() ?? false;
    if (code === 'EEXIST' && (await exists(path))) return undefined;
    if (code !== 'ENOENT' || (await exists(dirname(path)))) throw error;
    const first = await makeFolders(dirname(path));
    await makeFolders(path);
    return first ?? path;
  }
}

/**
 * Gives a finished file its name. Without `overwrite`, a file that appeared meanwhile stays.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS`; or the file system's error.
 */
export async function giveName(partial: string, path: string, overwrite: boolean): Promise<void> {
  if (!overwrite) {
    try {
      await link(partial, path); // unlike a rename, it never replaces
      await rm(partial);
      return;
    } catch (cause) {
      refuseExisting(path);
      // A file system without hard links: the check of a moment ago has to suffice.
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw cause;
    }
  }
  await rename(partial, path);
}

/** @throws {LtrpError} `ERR_LTRP_FILE_EXISTS` when there is something at `path`. */
export function refuseExisting(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new LtrpError(
    'ERR_LTRP_FILE_EXISTS',
    `${path} exists already; choose another name, or replace it with overwrite: true.`,
  );
}

/**
 * Devices, FIFOs and links are not replaced by files.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_WRITE` when there is something else than a regular file at `path`.
 */
export async function refuseSpecial(path: string): Promise<void> {
  const info = await lstat(path).catch(() => undefined);
  if (info === undefined || info.isFile()) return;
  throw unwritable(
    `${path} exists and is not a regular file; move it away, or choose another place.`,
  );
}

/** The system's message when `path` could not be written. */
export function writeError(path: string, cause: unknown): LtrpError {
  if (cause instanceof LtrpError) return cause;
  const why = messageOf(cause);
  return unwritable(`${path} cannot be written: ${why}.`, cause);
}
