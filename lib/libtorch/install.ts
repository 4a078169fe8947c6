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
import { constants } from 'node:fs';
import {
  access,
  mkdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { isNonGlibcLinuxSync } from 'detect-libc';
import {
  LtrpError,
  type LtrpErrorCode,
  toLtrpError,
  unwritable,
  notFound,
  unreadable,
} from '../errors.js';
import { withLock } from '../folder-lock.js';
import { isWriteError } from '../download/failures.js';
import { muslError, selectionFile } from './find.js';
import { cacheFolder, libtorchCacheFolder, listFolder, type Environment } from './folders.js';
import { inspectLibtorch } from './inspect.js';
import { isCudaVariant } from './libraries.js';
import { installNvidia, lackingNvidia } from './nvidia-install.js';
import { releaseFor, type LibtorchRelease } from './releases.js';
import { unpackLibtorch } from './unpack.js';
import { checkContent, fetchFile, fetchWheel, pinOf, remedyFor, type Fetching } from './wheels.js';

export interface InstallOptions extends Partial<Fetching> {
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
  const { env = process.env, log = () => undefined, force = false, from, signal } = options;
  const release = options.release ?? releaseHere(options.device);
  const { version, variant } = release;
  const folder = libtorchCacheFolder(env);
  const target = path.join(folder, `${version}-${variant}`);
  // Each build has its own folder of downloads: two of them may be fetched at the same time.
  const downloads = path.join(cacheFolder(env), 'downloads', path.basename(target));
  const isThere = (): boolean => !force && problemOf(target, release) === null;
  const lacking = (): ReturnType<typeof lackingNvidia> =>
    options.buildOnly === true ? [] : lackingNvidia(target, release.nvidia);
  const leave = (reason: string): InstallResult => {
    if (isFile(from)) log(`${from} is not used: ${reason}`);
    return { path: target, version, variant, installed: false };
  };
  const there = `LibTorch ${version} (${variant}) is there already; --force replaces it.`;
  if (isThere() && lacking().length === 0) return leave(there);
  const work = async (check: () => Promise<void>): Promise<InstallResult> => {
    // Somebody else may have brought it while we waited.
    if (isThere() && lacking().length === 0) return leave(there);
    const given = { ...options, env, log, check };
    if (isThere()) leave("only NVIDIA's libraries are missing.");
    else {
      await checkSpace(folder, release.bytesNeeded);
      const file = await obtain(release, downloads, given);
      await place(file, target, release, { ...given, ours: path.dirname(file) === downloads });
      if (path.dirname(file) === downloads) await removeDownloads(downloads);
    }
    if (lacking().length > 0) {
      const space = { checkSpace: (bytes: number) => checkSpace(folder, bytes) };
      await installNvidia(lacking(), { downloads, target }, { ...given, ...space });
      await check();
      await removeDownloads(downloads);
    }
    return { path: target, version, variant, installed: true };
  };
  return locked(target, folder, work, { log, signal });
}

/** The release for this system. Throws LtrpError ERR_LTRP_LIBTORCH_UNSUPPORTED without one. */
function releaseHere(device: 'cpu' | 'cuda' = 'cpu'): LibtorchRelease {
  if (isNonGlibcLinuxSync()) throw muslError();
  const release = releaseFor(process.platform, process.arch, device);
  if (release !== null) return release;
  throw new LtrpError(
    'ERR_LTRP_LIBTORCH_UNSUPPORTED',
    `There is no LibTorch${device === 'cuda' ? ' with CUDA' : ''} to fetch for ${process.platform}-${process.arch}. Where one exists, name it with LIBTORCH=<folder>.`,
  );
}

/** Runs `work` with exclusive access to `target`, waiting for others. */
async function locked<T>(
  target: string,
  folder: string,
  work: (check: () => Promise<void>) => Promise<T>,
  { log, signal }: Pick<Fetching, 'log' | 'signal'>,
): Promise<T> {
  const onWait = (holder: string): void =>
    log(`Waiting for ${holder}, which is fetching LibTorch.`);
  try {
    return await withLock(`${target}.lock`, work, { onWait, signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw isWriteError(error) ? writeError(folder, error) : toLtrpError(error);
  }
}

function writeError(folder: string, error: NodeJS.ErrnoException): LtrpError {
  const where = error.path === undefined ? folder : path.dirname(error.path);
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  return unwritable(
    `LibTorch cannot be written to ${where} (${error.code ?? ''}). ${full ? 'Make room there' : 'Make it writable'}, or set XDG_CACHE_HOME to another folder, and run the same command again: what has arrived is kept.`,
    error,
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
  const { env = process.env, log = () => undefined, signal } = options;
  const folder = libtorchCacheFolder(env);
  const downloads = path.join(cacheFolder(env), 'downloads');
  const builds = new Set(listFolder(downloads));
  for (const name of listFolder(folder)) {
    const build = /^(\d+\.\d+\.\d+-[a-z]+\d*)(?:\.unpacking-\d+|\.lock)?$/.exec(name)?.[1];
    if (build !== undefined) builds.add(build);
  }
  const folders: string[] = [];
  for (const build of builds) {
    const removeBuild = async (): Promise<void> => {
      for (const name of listFolder(folder)) {
        signal?.throwIfAborted();
        if (name !== build && !name.startsWith(`${build}.unpacking`)) continue;
        await rm(path.join(folder, name), { recursive: true, force: true });
        folders.push(path.join(folder, name));
      }
      await removeDownloads(path.join(downloads, build));
    };
    await locked(path.join(folder, build), folder, removeBuild, { log, signal });
  }
  return { folders, selection: await forgetSelection(env, folders) };
}

/** A choice of a missing folder would be an error at every call. */
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

async function removeDownloads(downloads: string): Promise<void> {
  await rm(downloads, { recursive: true, force: true });
  // The folder around it too, unless another build is being fetched.
  await rmdir(path.dirname(downloads)).catch(() => undefined);
}

async function checkSpace(folder: string, bytesNeeded: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytesNeeded) return;
  throw unwritable(
    `LibTorch needs ${gigabytes(bytesNeeded)} in ${folder} and ${gigabytes(bavail * bsize)} are free. Make room there, or set XDG_CACHE_HOME to another folder.`,
  );
}

export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function isFile(from: string | undefined): from is string {
  return from !== undefined && !['auto', 'pip', 'archive'].includes(from);
}

/** Where the wheel or the archive may come from. */
interface Source {
  readonly name: string;
  /** Whether the SHA-256 of what it has is known. */
  readonly pinned: boolean;
  readonly bring: () => Promise<string>;
}

/** The wheel or archive on disk, its content checked. */
async function obtain(
  release: LibtorchRelease,
  folder: string,
  options: InstallOptions & Fetching,
): Promise<string> {
  const { log, signal } = options;
  await mkdir(folder, { recursive: true });
  const from = options.from ?? 'auto';
  if (isFile(from)) return ownFile(path.resolve(from), release, log);
  const sources = sourcesOf(release, folder, options).filter(
    ({ name }) => from === 'auto' || (from === 'archive') === (name === release.archiveUrl),
  );
  const usable = sources.filter(({ pinned }) => pinned || options.unverified === true);
  if (usable.length === 0) {
    throw new LtrpError(
      'ERR_LTRP_LIBTORCH_CHECKSUM',
      `No SHA-256 of ${sources[0]?.name ?? from} is known. \`npx ltrp libtorch install --unverified\` takes it anyway; \`--from FILE\` takes a file that you have checked.`,
    );
  }
  const failures: string[] = [];
  let code: LtrpErrorCode = 'ERR_LTRP_DOWNLOAD';
  for (const { name, bring } of usable) {
    signal?.throwIfAborted();
    log(`Fetching LibTorch ${release.version} (${release.description}): ${name}`);
    try {
      return await bring();
    } catch (error) {
      signal?.throwIfAborted();
      if (isWriteError(error)) throw error; // no other source would have more room
      const problem = toLtrpError(error);
      if (problem.code === 'ERR_LTRP_LIBTORCH_CHECKSUM') ({ code } = problem);
      log(`  did not work: ${problem.message}`);
      failures.push(`  ${name}: ${problem.message}`);
    }
  }
  for (const { name } of sources.filter((source) => !usable.includes(source))) {
    failures.push(
      `  ${name}: not tried, because no SHA-256 of it is known (--unverified tries it)`,
    );
  }
  throw new LtrpError(
    code,
    `LibTorch ${release.version} could not be fetched. Fix the problems below and run the same command again, or fetch the wheel by other means and run \`npx ltrp libtorch install --from FILE\`. Tried:\n${failures.join('\n')}`,
  );
}

async function ownFile(
  file: string,
  release: LibtorchRelease,
  log: (line: string) => void,
): Promise<string> {
  // curl -O keeps the address's %2B.
  const pin = pinOf(release.wheelSha256, decoded(path.basename(file)));
  try {
    await access(file, constants.R_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw notFound(`${file} does not exist.`);
    }
    throw unreadable(`${file} cannot be read (${code ?? String(error)}).`);
  }
  if ((await stat(file)).isDirectory()) {
    throw unreadable(
      `${file} is a folder; --from takes a wheel or archive. \`npx ltrp libtorch use FOLDER\` takes a LibTorch that is unpacked.`,
    );
  }
  await checkContent(file, pin, { log, ours: false });
  return file;
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function sourcesOf(release: LibtorchRelease, folder: string, options: Fetching): Source[] {
  const { wheelSha256: pins, archiveUrl } = release;
  const sources: Source[] = release.pip.sources.map(({ index, requirement }) => {
    const { platform, pythonVersion } = release.pip;
    const name = wheelName(requirement, release);
    const wheel = { requirement, platforms: [platform], pythonVersion, name, index };
    return {
      name: `the wheel ${name} of ${index ?? "pip's configured index"}`,
      pinned: pinOf(pins, name) !== undefined,
      bring: () => fetchWheel(wheel, folder, pins, options),
    };
  });
  if (archiveUrl !== null) {
    const file = path.join(folder, path.basename(decoded(new URL(archiveUrl).pathname)));
    sources.push({
      name: archiveUrl,
      pinned: pinOf(pins, path.basename(file)) !== undefined,
      bring: () => fetchFile(archiveUrl, file, pins, options),
    });
  }
  return sources;
}

/** The one name that is accepted. Where none is pinned, of macOS any version: pip would take an older one's wheel too. */
function wheelName(requirement: string, release: LibtorchRelease): string {
  const beginning = `${requirement.replace('==', '-')}-`;
  const pinned = Object.keys(release.wheelSha256).find(
    (name) => name.startsWith(beginning) && name.endsWith('.whl'),
  );
  if (pinned !== undefined) return pinned;
  const python = `cp${release.pip.pythonVersion.replace('.', '')}`;
  const mac = /^macosx_\d+_\d+_(.+)$/.exec(release.pip.platform)?.[1];
  return mac === undefined
    ? `${beginning}${python}-${python}-${release.pip.platform}.whl`
    : `${beginning}${python}-*-macosx_*_${mac}.whl`;
}

/** Unpacks `file` beside `target` and renames it into place. `ours`: we fetched the file, and remove it when it is bad. */
async function place(
  file: string,
  target: string,
  release: LibtorchRelease,
  options: Fetching & { ours: boolean; check: () => Promise<void> },
): Promise<void> {
  const { ours } = options;
  const { version, variant } = release;
  const folder = path.dirname(target);
  const prefix = `${path.basename(target)}.unpacking`;
  for (const name of listFolder(folder)) {
    // Left by a run that was killed; we hold the lock.
    if (name.startsWith(prefix)) await rm(path.join(folder, name), { recursive: true });
  }
  options.log(`Unpacking to ${target}`);
  const temporary = path.join(folder, `${prefix}-${process.pid}`);
  try {
    const inside = isCudaVariant(variant) ? path.join(temporary, 'torch') : temporary;
    await unpackLibtorch(file, inside, {
      onProgress: (done, total) => options.onProgress?.('unpack', done, total),
      signal: options.signal,
    });
    const problem = problemOf(temporary, release);
    if (problem !== null) {
      throw new LtrpError(
        'ERR_LTRP_LIBTORCH_ARCHIVE',
        `${file} is not LibTorch ${version} (${variant}): ${problem}.`,
      );
    }
    const note = { version, variant, file: path.basename(file) };
    await writeFile(path.join(temporary, 'ltrp-install.json'), JSON.stringify(note, null, 2));
    await options.check();
    await rm(target, { recursive: true, force: true });
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (!(error instanceof LtrpError) || error.code !== 'ERR_LTRP_LIBTORCH_ARCHIVE') throw error;
    if (ours) await rm(file, { force: true }); // it would be bad again
    const { code, cause } = error;
    throw new LtrpError(code, `${error.message} ${remedyFor(ours)}`, { cause });
  }
}

/** Why what is in `folder` is not the whole release, or null. */
function problemOf(folder: string, { version, variant }: LibtorchRelease): string | null {
  const inspection = inspectLibtorch(folder);
  if (!inspection.ok) return inspection.reason;
  const { libtorch } = inspection;
  if (libtorch.version !== version) return `it is version ${libtorch.version}`;
  if (libtorch.variant !== variant) return `it is the ${libtorch.variant} build`;
  return libtorch.includeFolder === null ? 'its headers are missing' : null;
}
