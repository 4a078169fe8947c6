/**
 * Fetching LibTorch into the user's cache: an explicit step, never a side effect of `npm install`.
 *
 * Sources in order: the wheel from the configured index, the wheel from PyTorch's own index, the official archive. All over
 * HTTP with progress and resume; pip is asked where an index cannot be read directly (a password, a SOCKS proxy, a local folder).
 * One process at a time (a lock file), verified, unpacked beside its place, renamed into it.
 *
 * A CUDA build lies in the cache as pip would lay it out, `torch/` beside `nvidia/`, because that is where its libraries look
 * for NVIDIA's.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { LtrpError, type LtrpErrorCode, toLtrpError } from '../errors.js';
import { download } from './download.js';
import { withLock } from './folder-lock.js';
import { inspectLibtorch } from './libtorch-inspect.js';
import { releaseFor, type LibtorchRelease } from './libtorch-releases.js';
import { isMusl, selectionFile } from './libtorch.js';
import { isCudaVariant } from './libraries.js';
import { installNvidia, nvidiaIsComplete } from './nvidia-install.js';
import { cacheFolder, libtorchCacheFolder, type Environment } from './paths.js';
import { obstacle } from './proxy.js';
import { unpackLibtorch } from './unpack.js';
import { checkSha256, fetchWheel, unverifiedError } from './wheels.js';
import { isWriteError } from './write-errors.js';

export interface InstallOptions {
  readonly env?: Environment | undefined;
  /** One line of news: what is done now. */
  readonly log?: ((line: string) => void) | undefined;
  readonly onProgress?:
    ((what: 'download' | 'unpack', done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** `pip` (a package index), `archive`, or a wheel or archive that is here already. Default: the indexes, then the archive. */
  readonly from?: string | undefined;
  /** Take what is fetched although no SHA-256 of it is known. Default false. A file named by `from` needs none. */
  readonly unverified?: boolean | undefined;
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
  // Each build has its own folder of downloads: two of them may be fetched at the same time.
  const downloads = downloadsFolder(env, path.basename(target));
  const done = { path: target, version, variant };
  const isThere = (): boolean =>
    options.force !== true && isComplete(target, release) && hasNvidia(target, release, options);
  const leave = (): InstallResult => {
    if (isFile(options.from)) {
      log(
        `${options.from ?? ''} is not used: LibTorch ${version} (${variant}) is there already. With --force it takes its place.`,
      );
    }
    return { ...done, installed: false };
  };
  if (isThere()) return leave();
  try {
    return await withLock(
      `${target}.lock`,
      async (check) => {
        // Somebody else may have brought it while we waited.
        if (isThere()) return leave();
        if (options.force === true || !isComplete(target, release)) {
          await checkSpace(folder, release.bytesNeeded);
          const file = await obtain(release, downloads, { ...options, env, log });
          await place(file, target, release, { ...options, downloads, log, check });
          if (path.dirname(file) === downloads) await removeDownloads(env, downloads);
        } else if (isFile(options.from)) {
          log(`${options.from ?? ''} is not used: only NVIDIA's libraries are missing.`);
        }
        if (!hasNvidia(target, release, options)) {
          await installNvidia(
            release.nvidia,
            { downloads, target },
            {
              ...options,
              env,
              log,
              checkSpace: (bytes) => checkSpace(folder, bytes),
              verify: (file, sha256) => verify(file, sha256, log, true),
              check,
            },
          );
          await check();
          await removeDownloads(env, downloads);
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
    throw isWriteError(error) ? writeError(folder, error) : toLtrpError(error);
  }
}

function writeError(folder: string, error: NodeJS.ErrnoException): LtrpError {
  const where = error.path === undefined ? folder : path.dirname(error.path);
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  return new LtrpError(
    'ERR_LTRP_FILE_WRITE',
    `LibTorch cannot be written to ${where} (${error.code ?? ''}). ${full ? 'Make room there' : 'Make it writable'}, or set XDG_CACHE_HOME to another folder, and run the same command again: what has arrived is kept.`,
    { cause: error },
  );
}

export interface RemoveResult {
  readonly folders: readonly string[];
  /** The file of `ltrp libtorch use` that named one of them and went with it, or null. */
  readonly selection: string | null;
}

/**
 * Removes what {@link installLibtorch} brought, with the parts of interrupted downloads. What another process is fetching at
 * the moment is waited for, and removed then.
 */
export async function removeLibtorch(
  options: Pick<InstallOptions, 'env' | 'log' | 'signal'> = {},
): Promise<RemoveResult> {
  const env = options.env ?? process.env;
  const folder = libtorchCacheFolder(env);
  const builds = new Set<string>();
  for (const name of await list(folder)) {
    const build = /^(\d+\.\d+\.\d+-[a-z]+\d*)(?:\.unpacking-\d+|\.lock)?$/.exec(name)?.[1];
    if (build !== undefined) builds.add(build);
  }
  const allDownloads = path.join(cacheFolder(env), 'downloads');
  for (const name of await list(allDownloads)) builds.add(name);
  const folders: string[] = [];
  for (const build of builds) {
    const target = path.join(folder, build);
    const removeBuild = async (): Promise<void> => {
      for (const name of await list(folder)) {
        options.signal?.throwIfAborted();
        if (name !== build && !name.startsWith(`${build}.unpacking`)) continue;
        await rm(path.join(folder, name), { recursive: true, force: true });
        folders.push(path.join(folder, name));
      }
      await removeDownloads(env, path.join(allDownloads, build));
    };
    const onWait = (holder: string): void => {
      options.log?.(`Waiting for ${holder}, which is fetching LibTorch.`);
    };
    try {
      await withLock(`${target}.lock`, removeBuild, { onWait, signal: options.signal });
    } catch (error) {
      options.signal?.throwIfAborted();
      throw isWriteError(error) ? writeError(folder, error) : toLtrpError(error);
    }
  }
  return { folders, selection: await forgetSelection(env, folders) };
}

/** A choice that leads into nothing would be an error at every call. */
async function forgetSelection(
  env: Environment,
  removed: readonly string[],
): Promise<string | null> {
  const file = selectionFile(env);
  const text = await readFile(file, 'utf8').catch(() => '');
  const inside = removed.some((folder) => {
    const quoted = JSON.stringify(folder).slice(0, -1);
    return text.includes(`${quoted}"`) || text.includes(`${quoted}/`);
  });
  if (!inside) return null;
  await rm(file, { force: true });
  return file;
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

function downloadsFolder(env: Environment, build: string): string {
  return path.join(cacheFolder(env), 'downloads', build);
}

async function removeDownloads(env: Environment, downloads: string): Promise<void> {
  await rm(downloads, { recursive: true, force: true });
  // The folder around it too, unless another build is being fetched.
  await rmdir(path.join(cacheFolder(env), 'downloads')).catch(() => undefined);
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

interface Fetching extends InstallOptions {
  readonly env: Environment;
  readonly log: (line: string) => void;
}

function isFile(from: string | undefined): boolean {
  return from !== undefined && !['auto', 'pip', 'archive'].includes(from);
}

interface Fetched {
  readonly file: string;
  /** True when it has the SHA-256 that its index gives. */
  readonly verified: boolean;
}

/** The wheel or archive on disk, its checksum verified where one is known. */
async function obtain(
  release: LibtorchRelease,
  folder: string,
  options: Fetching,
): Promise<string> {
  const { env, log, signal } = options;
  await mkdir(folder, { recursive: true });
  const from = options.from ?? 'auto';
  if (isFile(from)) {
    const file = path.resolve(from);
    if (!existsSync(file)) {
      throw new LtrpError('ERR_LTRP_FILE_NOT_FOUND', `${file} does not exist.`);
    }
    await verify(file, release.wheelSha256[path.basename(file)], log, false);
    return file;
  }
  const onProgress = (done: number, total: number | null): void =>
    options.onProgress?.('download', done, total);
  const failures: string[] = [];
  let code: LtrpErrorCode = 'ERR_LTRP_DOWNLOAD';
  const sources: [name: string, fetchIt: () => Promise<Fetched>][] = [];
  const unverified = options.unverified === true;
  for (const { index, requirement } of from === 'archive' ? [] : release.pip.sources) {
    const { platform, pythonVersion } = release.pip;
    sources.push([
      `the wheel ${requirement} of ${index ?? "pip's configured index"}`,
      () => {
        const fits = (name: string): boolean => isWheelOf(name, requirement, release.pip);
        const filePrefix = `torch-${release.version}`;
        const platforms = [platform];
        const wheel = { requirement, platforms, pythonVersion, filePrefix, fits, index };
        const needHash = !unverified && !Object.keys(release.wheelSha256).some(fits);
        return fetchWheel(wheel, folder, { env, log, signal, onProgress, needHash });
      },
    ]);
  }
  const { archiveUrl } = release;
  if (from !== 'pip' && archiveUrl !== null) {
    sources.push([
      archiveUrl,
      async () => {
        const name = decodeURIComponent(path.basename(archiveUrl));
        // Before it is fetched, not after.
        if (!unverified && release.wheelSha256[name] === undefined) throw unverifiedError(name);
        const file = path.join(folder, name);
        if (!existsSync(file)) {
          const reason = obstacle(archiveUrl, env);
          if (reason !== null) throw new LtrpError('ERR_LTRP_DOWNLOAD', `${reason}.`);
          await download(archiveUrl, file, { env, signal, onProgress });
        }
        return { file, verified: false };
      },
    ]);
  }
  for (const [name, fetchIt] of sources) {
    signal?.throwIfAborted();
    log(`Fetching LibTorch ${release.version} (${release.description}): ${name}`);
    try {
      const { file, verified } = await fetchIt();
      const expected = release.wheelSha256[path.basename(file)];
      if (expected === undefined && !verified && !unverified) {
        await rm(file, { force: true });
        throw unverifiedError(path.basename(file));
      }
      if (expected !== undefined || !verified) await verify(file, expected, log, true);
      return file;
    } catch (error) {
      signal?.throwIfAborted();
      if (isWriteError(error)) throw error; // no other source would have more room
      const problem = toLtrpError(error);
      // The last source's refusal says nothing about why the earlier ones did not work.
      if (
        problem.code === 'ERR_LTRP_LIBTORCH_CHECKSUM' &&
        (name !== archiveUrl || from === 'archive')
      )
        ({ code } = problem);
      log(`  did not work: ${problem.message}`);
      failures.push(`  ${name}: ${problem.message}`);
    }
  }
  throw new LtrpError(
    code,
    `LibTorch ${release.version} could not be fetched. Check the network and run the same command again, or fetch it by other means and run \`ltrp libtorch install --from FILE\`. Tried:\n${failures.join('\n')}`,
  );
}

/** `torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl`. Of macOS any version: pip would take an older one's wheel too. */
function isWheelOf(name: string, requirement: string, wanted: LibtorchRelease['pip']): boolean {
  const [project = '', version = ''] = requirement.split('==');
  const python = wanted.pythonVersion.replace('.', '');
  if (!name.startsWith(`${project}-${version}-cp${python}-`)) return false;
  const mac = /^macosx_\d+_\d+_(.+)$/.exec(wanted.platform)?.[1];
  if (mac === undefined) return name.endsWith(`-${wanted.platform}.whl`);
  return /-macosx_\d+_\d+_/.test(name) && name.endsWith(`_${mac}.whl`);
}

async function verify(
  file: string,
  expected: string | undefined,
  log: (line: string) => void,
  ours: boolean,
): Promise<void> {
  if (expected === undefined) {
    log(
      `  no checksum is pinned for ${path.basename(file)}; its entries' CRC-32, version and structure are checked instead`,
    );
    return;
  }
  log(`  SHA-256 ${await checkSha256(file, expected, ours)}: as expected`);
}

async function place(
  file: string,
  target: string,
  release: LibtorchRelease,
  options: InstallOptions & {
    downloads: string;
    log: (line: string) => void;
    check: () => Promise<void>;
  },
): Promise<void> {
  const { downloads, log } = options;
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
    await options.check();
    await rm(target, { recursive: true, force: true });
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    // A bad file would be bad again.
    const bad = error instanceof LtrpError && error.code === 'ERR_LTRP_LIBTORCH_ARCHIVE';
    if (bad && path.dirname(file) === downloads) await rm(file, { force: true });
    throw error;
  }
}
