/** One Python wheel into a folder: from the index itself where that can be read, else with pip. Python is not needed for the first. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LtrpError, toLtrpError, downloadFailed } from '../errors.js';
import { download } from '../download/download.js';
import { describe, isWriteError, quote, startOf } from '../download/failures.js';
import { isOn, type Environment } from './folders.js';
import { configuredIndexes, pipDownload, type WheelRequest } from './pip.js';
import { obstacle } from '../download/proxy.js';
import { findWheel } from './wheel-index.js';

/** What each step of an installation is given. */
export interface Fetching {
  readonly env: Environment;
  /** One line of news: what is done now. */
  readonly log: (line: string) => void;
  readonly onProgress?:
    ((what: 'download' | 'unpack', done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** SHA-256 of known files by name. */
export type Pins = Readonly<Record<string, string>>;

/** The SHA-256 that a file must have; undefined where none is known. */
export function pinOf(pins: Pins, name: string): string | undefined {
  return Object.hasOwn(pins, name) ? pins[name] : undefined;
}

/**
 * Downloads `url` as `name`, unless it is there, and checks its content. `indexed`, the SHA-256 that an index gives, counts only
 * where no pin is known.
 */
export async function fetchFile(
  url: string,
  file: string,
  pins: Pins,
  options: Fetching & { readonly indexed?: string | null },
): Promise<string> {
  if (!existsSync(file)) {
    const { env, signal } = options;
    checkPassable(url, env);
    await download(url, file, {
      ...{ env, signal },
      onProgress: (done, total) => options.onProgress?.('download', done, total),
    });
  }
  const expected = pinOf(pins, path.basename(file)) ?? options.indexed;
  await checkContent(file, expected, { log: options.log, ours: true });
  return file;
}

/**
 * Fetches the wheel by its exact name and checks its content. A download from an index continues where an earlier run stopped;
 * pip knows passwords, SOCKS proxies and local indexes, but starts over and reports no progress.
 * Throws LtrpError ERR_LTRP_DOWNLOAD | _LIBTORCH_CHECKSUM, and errors of the disk as they are.
 */
export async function fetchWheel(
  wheel: WheelRequest,
  folder: string,
  pins: Pins,
  options: Fetching,
): Promise<string> {
  const { env, log, signal } = options;
  const check = async (file: string): Promise<string> => {
    await checkContent(file, pinOf(pins, path.basename(file)), { log, ours: true });
    return file;
  };
  const kept = path.join(folder, wheel.name);
  if (existsSync(kept) && pinOf(pins, wheel.name) !== undefined) {
    try {
      return await check(kept);
    } catch (error) {
      log(`  ${toLtrpError(error).message}`);
    }
  }
  const project = wheel.requirement.split('==', 1)[0] as string;
  const configured = isOn(env['PIP_NO_INDEX']) ? [] : await configuredIndexes(env);
  const failures: string[] = [];
  for (const index of wheel.index === null ? configured : [wheel.index]) {
    try {
      checkPassable(index, env);
      const found = await findWheel(index, project, wheel.name, signal, env);
      checkPassable(found.url, env); // another host may need another way
      log(`  ${found.url}`);
      const file = path.join(folder, found.name);
      return await fetchFile(found.url, file, pins, { ...options, indexed: found.sha256 });
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof LtrpError) || error.code !== 'ERR_LTRP_DOWNLOAD') throw error;
      log(`  not fetched directly: ${error.message}`);
      failures.push(error.message);
    }
  }
  log('  asking pip, which reports no progress');
  try {
    return await check(await pipDownload(wheel, folder, env, signal));
  } catch (error) {
    signal?.throwIfAborted();
    if (isWriteError(error) || error instanceof LtrpError) throw error;
    failures.push(`pip: ${toLtrpError(error).message}`);
    throw downloadFailed(failures.join('; '), error);
  }
}

/** Throws LtrpError ERR_LTRP_DOWNLOAD if our request would fail. */
function checkPassable(url: string, env: Environment): void {
  const reason = URL.canParse(url) ? obstacle(url, env) : `${quote(url)} is not a web address`;
  if (reason !== null) throw downloadFailed(reason);
}

/** What to do about a bad file. Those that we fetched are removed. */
export function remedyFor(ours: boolean): string {
  return ours
    ? 'It was removed: run the same command again to fetch it again.'
    : 'Fetch it again, or name another file.';
}

/**
 * Compares the file's SHA-256 with `expected`, where one is known. With `ours` a file of another content is removed, because
 * it would be wrong again. Throws LtrpError ERR_LTRP_LIBTORCH_CHECKSUM, which says what the file is.
 */
export async function checkContent(
  file: string,
  expected: string | null | undefined,
  { log, ours }: { log: (line: string) => void; ours: boolean },
): Promise<void> {
  const name = path.basename(file);
  if (expected == null) {
    log(
      `  no SHA-256 of ${name} is known: its entries' CRC-32, its version and its structure are checked instead`,
    );
    return;
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const actual = hash.digest('hex');
  if (actual === expected) {
    log(`  SHA-256 ${actual}: as expected`);
    return;
  }
  const start = await startOf(createReadStream(file));
  if (ours) await rm(file, { force: true });
  throw new LtrpError(
    'ERR_LTRP_LIBTORCH_CHECKSUM',
    `${name} has SHA-256 ${actual}, expected ${expected}; it is ${describe(start)}. ${remedyFor(ours)}`,
  );
}
