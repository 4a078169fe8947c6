/**
 * Fetching LibTorch into the user's cache: an explicit step, never a side effect of `npm install`.
 *
 * Sources in order: `pip download` from the configured index, `pip download` from PyTorch's own index, the official
 * archive over HTTP with resume. One process at a time (a lock file), verified, unpacked beside its place, renamed into it.
 *
 * A CUDA build lies in the cache as pip would lay it out, `torch/` beside `nvidia/`, because that is where its libraries look
 * for NVIDIA's.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LtrpError, toLtrpError } from '../errors.js';
import { download } from './download.js';
import { withLock } from './folder-lock.js';
import { inspectLibtorch } from './libtorch-inspect.js';
import { releaseFor, type LibtorchRelease } from './libtorch-releases.js';
import { isMusl } from './libtorch.js';
import { isCudaVariant } from './libraries.js';
import { installNvidia, nvidiaIsComplete } from './nvidia-install.js';
import { cacheFolder, libtorchCacheFolder, type Environment } from './paths.js';
import { pipDownload } from './pip.js';
import { unpackLibtorch } from './unpack.js';

export interface InstallOptions {
  readonly env?: Environment | undefined;
  /** One line of news: what is done now. */
  readonly log?: ((line: string) => void) | undefined;
  readonly onProgress?:
    ((what: 'download' | 'unpack', done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** `pip`, `archive`, or a wheel or archive that is here already. Default: pip, then the archive. */
  readonly from?: string | undefined;
  /** Fetch again although it is there. */
  readonly force?: boolean | undefined;
  /** Which build. Default `'cpu'`. */
  readonly device?: 'cpu' | 'cuda' | undefined;
  /** Without NVIDIA's libraries: enough for building, not for running. Default false. */
  readonly buildOnly?: boolean | undefined;
  /** For tests. */
  readonly release?: LibtorchRelease | undefined;
}

export interface InstallResult {
  readonly path: string;
  readonly version: string;
  readonly variant: string;
  readonly installed: boolean;
}

/** Throws LtrpError ERR_LTRP_LIBTORCH_UNSUPPORTED | _ARCHIVE | _CHECKSUM, ERR_LTRP_DOWNLOAD, ERR_LTRP_FILE_WRITE. */
export async function installLibtorch(options: InstallOptions = {}): Promise<InstallResult> {
  const env = options.env ?? process.env;
  const log = options.log ?? ((): void => undefined);
  const device = options.device ?? 'cpu';
  const release = options.release ?? releaseFor(process.platform, process.arch, device);
  if (release === null || isMusl()) {
    throw new LtrpError(
      'ERR_LTRP_LIBTORCH_UNSUPPORTED',
      `There is no LibTorch${device === 'cuda' ? ' with CUDA' : ''} to fetch for ${process.platform}-${process.arch}${isMusl() ? ' with musl' : ''}. Where one exists, name it with LIBTORCH=<folder>.`,
    );
  }
  const folder = libtorchCacheFolder(env);
  const target = path.join(folder, `${release.version}-${release.variant}`);
  const { version, variant } = release;
  const done = { path: target, version, variant };
  const isThere = (): boolean =>
    options.force !== true && isComplete(target, release) && hasNvidia(target, release, options);
  if (isThere()) return { ...done, installed: false };
  try {
    return await withLock(
      `${target}.lock`,
      async () => {
        // Somebody else may have brought it while we waited.
        if (isThere()) return { ...done, installed: false };
        if (options.force === true || !isComplete(target, release)) {
          await checkSpace(folder, release.bytesNeeded);
          const file = await obtain(release, env, options, log);
          await place(file, target, release, options, log);
          await removeDownloads(file, env);
        }
        if (!hasNvidia(target, release, options)) {
          const place = { downloads: downloadsFolder(env), target };
          await installNvidia(release.nvidia, place, {
            ...options,
            env,
            log,
            checkSpace: (bytes) => checkSpace(folder, bytes),
            verify: (file, sha256) => verify(file, sha256, log, true),
          });
          await rm(downloadsFolder(env), { recursive: true, force: true });
        }
        return { ...done, installed: true };
      },
      {
        onWait: (holder) => {
          log(`Waiting for ${holder}, which is fetching LibTorch.`);
        },
        signal: options.signal,
      },
    );
  } catch (error) {
    options.signal?.throwIfAborted();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC' || code === 'EACCES' || code === 'EROFS' || code === 'EDQUOT') {
      throw new LtrpError(
        'ERR_LTRP_FILE_WRITE',
        `LibTorch cannot be written to ${folder} (${code}). Make room there, or set XDG_CACHE_HOME to another folder.`,
        { cause: error },
      );
    }
    throw toLtrpError(error);
  }
}

/** Removes what {@link installLibtorch} brought; returns the folders removed. */
export async function removeLibtorch(env: Environment = process.env): Promise<string[]> {
  const folder = libtorchCacheFolder(env);
  const removed: string[] = [];
  for (const name of existsSync(folder) ? await readdir(folder) : []) {
    if (!/^\d+\.\d+\.\d+-/.test(name) || name.endsWith('.lock')) continue;
    await rm(path.join(folder, name), { recursive: true, force: true });
    removed.push(path.join(folder, name));
  }
  await rm(downloadsFolder(env), { recursive: true, force: true });
  return removed;
}

function downloadsFolder(env: Environment): string {
  return path.join(cacheFolder(env), 'downloads');
}

function isComplete(target: string, release: LibtorchRelease): boolean {
  const inspection = inspectLibtorch(target);
  return (
    inspection.ok &&
    inspection.libtorch.version === release.version &&
    inspection.libtorch.includeFolder !== null
  );
}

/** True too when nothing of NVIDIA's is wanted or needed. */
function hasNvidia(target: string, release: LibtorchRelease, options: InstallOptions): boolean {
  return options.buildOnly === true || nvidiaIsComplete(target, release.nvidia);
}

async function checkSpace(folder: string, bytesNeeded: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytesNeeded) return;
  throw new LtrpError(
    'ERR_LTRP_FILE_WRITE',
    `LibTorch needs ${gigabytes(bytesNeeded)} in ${folder} and ${gigabytes(bavail * bsize)} are free. Make room there, or set XDG_CACHE_HOME to another folder.`,
  );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** The wheel or archive on disk, its checksum verified where one is known. */
async function obtain(
  release: LibtorchRelease,
  env: Environment,
  options: InstallOptions,
  log: (line: string) => void,
): Promise<string> {
  const folder = downloadsFolder(env);
  await mkdir(folder, { recursive: true });
  const from = options.from ?? 'auto';
  if (from !== 'auto' && from !== 'pip' && from !== 'archive') {
    const file = path.resolve(from);
    if (!existsSync(file)) {
      throw new LtrpError('ERR_LTRP_FILE_NOT_FOUND', `${file} does not exist.`);
    }
    await verify(file, release.wheelSha256[path.basename(file)], log, false);
    return file;
  }
  const failures: string[] = [];
  const sources: [name: string, fetchIt: () => Promise<string>][] = [];
  if (from !== 'archive') {
    const { platform, pythonVersion } = release.pip;
    for (const { index, requirement } of release.pip.sources) {
      sources.push([
        `pip download --no-deps ${requirement} (${index ?? 'the configured index'})`,
        () => {
          const filePrefix = `torch-${release.version}`;
          const wheel = { requirement, platforms: [platform], pythonVersion, filePrefix, index };
          return pipDownload(wheel, folder, env, options.signal);
        },
      ]);
    }
  }
  const { archiveUrl } = release;
  if (from !== 'pip' && archiveUrl !== null) {
    sources.push([
      archiveUrl,
      async () => {
        const file = path.join(folder, decodeURIComponent(path.basename(archiveUrl)));
        if (!existsSync(file)) await download(archiveUrl, file, downloadOptions(options));
        return file;
      },
    ]);
  }
  for (const [name, fetchIt] of sources) {
    options.signal?.throwIfAborted();
    log(`Fetching LibTorch ${release.version} (${release.description}): ${name}`);
    try {
      const file = await fetchIt();
      await verify(file, release.wheelSha256[path.basename(file)], log, true);
      return file;
    } catch (error) {
      options.signal?.throwIfAborted();
      const { message } = toLtrpError(error);
      log(`  did not work: ${message}`);
      failures.push(`  ${name}: ${message}`);
    }
  }
  throw new LtrpError(
    'ERR_LTRP_DOWNLOAD',
    `LibTorch ${release.version} could not be fetched. Check the network and run the same command again, or fetch it by other means and run \`ltrp libtorch install --from FILE\`. Tried:\n${failures.join('\n')}`,
  );
}

function downloadOptions(options: InstallOptions): Parameters<typeof download>[2] {
  return {
    signal: options.signal,
    onProgress: (done, total) => options.onProgress?.('download', done, total),
  };
}

async function verify(
  file: string,
  expected: string | undefined,
  log: (line: string) => void,
  ours: boolean,
): Promise<void> {
  if (expected === undefined) {
    log(
      `  no checksum is known for ${path.basename(file)}; its entries' CRC-32, version and structure are checked instead`,
    );
    return;
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const actual = hash.digest('hex');
  if (actual !== expected) {
    if (ours) await rm(file, { force: true });
    throw new LtrpError(
      'ERR_LTRP_LIBTORCH_CHECKSUM',
      `${path.basename(file)} has SHA-256 ${actual}, expected ${expected}. ${ours ? 'It was removed: run the same command again.' : 'Fetch it again.'}`,
    );
  }
  log(`  SHA-256 ${actual}: as expected`);
}

async function place(
  file: string,
  target: string,
  release: LibtorchRelease,
  options: InstallOptions,
  log: (line: string) => void,
): Promise<void> {
  const folder = path.dirname(target);
  const prefix = `${path.basename(target)}.unpacking`;
  for (const name of await readdir(folder)) {
    // Left by a run that was killed; we hold the lock.
    if (name.startsWith(prefix)) await rm(path.join(folder, name), { recursive: true });
  }
  log(`Unpacking to ${target}`);
  const temporary = path.join(folder, `${prefix}-${String(process.pid)}`);
  try {
    const inside = isCudaVariant(release.variant) ? path.join(temporary, 'torch') : temporary;
    await unpackLibtorch(file, inside, {
      onProgress: (done, total) => options.onProgress?.('unpack', done, total),
      signal: options.signal,
    });
    const inspection = inspectLibtorch(temporary);
    const problem = !inspection.ok
      ? inspection.reason
      : inspection.libtorch.version !== release.version
        ? `it is version ${inspection.libtorch.version}`
        : inspection.libtorch.variant !== release.variant
          ? `it is the ${inspection.libtorch.variant} build`
          : inspection.libtorch.includeFolder === null
            ? 'its headers are missing'
            : null;
    if (problem !== null) {
      throw new LtrpError(
        'ERR_LTRP_LIBTORCH_ARCHIVE',
        `${file} is not LibTorch ${release.version} (${release.variant}): ${problem}.`,
      );
    }
    const note = { version: release.version, variant: release.variant, file: path.basename(file) };
    await writeFile(path.join(temporary, 'ltrp-install.json'), JSON.stringify(note, null, 2));
    await rm(target, { recursive: true, force: true });
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    // A bad file would be bad again.
    const isOurs = path.dirname(file) === downloadsFolder(options.env ?? process.env);
    if (isOurs && error instanceof LtrpError) await rm(file, { force: true });
    throw error;
  }
}

async function removeDownloads(file: string, env: Environment): Promise<void> {
  if (path.dirname(file) !== downloadsFolder(env)) return; // the user's own file
  await rm(downloadsFolder(env), { recursive: true, force: true });
}
