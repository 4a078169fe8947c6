/** One Python wheel into a folder: from the index itself where that can be read, else with pip. Python is not needed for the first. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LtrpError, toLtrpError } from '../errors.js';
import { download } from './download.js';
import type { Environment } from './paths.js';
import { pipDownload, type WheelRequest } from './pip.js';
import { obstacle } from './proxy.js';
import { configuredIndexes, findWheel } from './wheel-index.js';

export interface FetchOptions {
  readonly env: Environment;
  readonly log: (line: string) => void;
  readonly onProgress?: ((done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Refuse what comes without a hash of the index. pip does not tell whether there was one. */
  readonly needHash?: boolean | undefined;
}

export interface FetchedWheel {
  readonly file: string;
  /** True when it has the SHA-256 that the index gives. */
  readonly verified: boolean;
}

/** What to do about a file whose content nobody vouches for. */
export function unverifiedError(name: string): LtrpError {
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_CHECKSUM',
    `No SHA-256 of ${name} is known to compare with. \`--unverified\` takes it as it comes; \`--from FILE\` takes a file that you have checked.`,
  );
}

/**
 * Brings the wheel. Read from an index it is continued where an earlier run stopped, and its SHA-256 is
 * compared with the index's; pip knows passwords, SOCKS proxies and local indexes, but starts anew and tells no progress.
 * Throws LtrpError ERR_LTRP_DOWNLOAD | _LIBTORCH_CHECKSUM, errors of the disk as they are, and what pip says.
 */
export async function fetchWheel(
  wheel: WheelRequest,
  folder: string,
  options: FetchOptions,
): Promise<FetchedWheel> {
  const { env, log, signal } = options;
  const project = wheel.requirement.split('==', 1)[0] as string;
  const indexes =
    wheel.index !== null
      ? [wheel.index]
      : isSet(env['PIP_NO_INDEX'])
        ? []
        : await configuredIndexes(env);
  for (const index of indexes) {
    const found = await look(index, project, wheel.fits, options);
    signal?.throwIfAborted();
    if (found === null) continue;
    const file = path.join(folder, found.name);
    // The index's host and the file's may differ in what is needed to reach them.
    const reason = obstacle(found.url, env);
    if (reason !== null) {
      log(`  not fetched directly: ${reason}`);
      continue;
    }
    if (found.sha256 === null && options.needHash === true) throw unverifiedError(found.name);
    log(`  ${found.url}`);
    if (!existsSync(file)) {
      await download(found.url, file, { env, signal, onProgress: options.onProgress });
    }
    if (found.sha256 !== null) await checkSha256(file, found.sha256, true);
    return { file, verified: found.sha256 !== null };
  }
  if (options.needHash === true)
    throw unverifiedError(`what pip would bring for ${wheel.requirement}`);
  log('  pip is asked, which tells no progress');
  return { file: await pipDownload(wheel, folder, env, signal), verified: false };
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && !['', '0', 'false', 'no', 'off'].includes(value.toLowerCase());
}

async function look(
  index: string,
  project: string,
  fits: (name: string) => boolean,
  { env, log, signal }: FetchOptions,
): ReturnType<typeof findWheel> {
  try {
    const reason = obstacle(index, env);
    if (reason === null) return await findWheel(index, project, fits, signal, env);
    log(`  not read directly: ${reason}`);
  } catch (error) {
    signal?.throwIfAborted();
    log(`  ${toLtrpError(error).message}`);
  }
  return null;
}

/**
 * The file's SHA-256, which is `expected`. With `ours` a file of another content is removed, because it would be wrong again.
 * Throws LtrpError ERR_LTRP_LIBTORCH_CHECKSUM.
 */
export async function checkSha256(file: string, expected: string, ours: boolean): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const actual = hash.digest('hex');
  if (actual === expected) return actual;
  if (ours) await rm(file, { force: true });
  throw new LtrpError(
    'ERR_LTRP_LIBTORCH_CHECKSUM',
    `${path.basename(file)} has SHA-256 ${actual}, expected ${expected}. ${ours ? 'It was removed: run the same command again.' : 'Fetch it again.'}`,
  );
}
