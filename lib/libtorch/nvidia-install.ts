/** NVIDIA's libraries for a LibTorch in the cache: wheel after wheel, each left out when it is there already. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { LtrpError, toLtrpError, downloadFailed } from '../errors.js';
import { isWriteError } from '../download/failures.js';
import type { NvidiaPackage } from './nvidia-packages.js';
import { unpackNvidia } from './unpack.js';
import { fetchWheel, type Fetching } from './wheels.js';

export interface NvidiaInstallOptions extends Fetching {
  /** Throws when there is less room than this. */
  readonly checkSpace: (bytes: number) => Promise<void>;
  /** Throws when somebody else is at work here by now. */
  readonly check: () => Promise<void>;
}

// Unpacked, these libraries take a little more than half as much again; the wheel in work is there as well.
const unpackedRatio = 1.6;

/** A package counts once its mark is written, which is after its last file. */
const markOf = (target: string, item: NvidiaPackage): string =>
  path.join(target, 'nvidia', `${item.name}-${item.version}.installed`);

/** The packages that are still to be fetched; none for the official archive, which brings these libraries itself. */
export function lackingNvidia(target: string, packages: readonly NvidiaPackage[]): NvidiaPackage[] {
  const lacking = packages.filter((item) => !existsSync(markOf(target, item)));
  if (lacking.length === 0) return [];
  try {
    const note = readFileSync(path.join(target, 'ltrp-install.json'), 'utf8');
    return String((JSON.parse(note) as { file?: unknown }).file).endsWith('.zip') ? [] : lacking;
  } catch {
    return lacking;
  }
}

/**
 * Fetches `packages` into `target/nvidia`. After an interruption it continues with the package it was at.
 * Throws LtrpError ERR_LTRP_DOWNLOAD | _LIBTORCH_CHECKSUM | _LIBTORCH_ARCHIVE | _FILE_WRITE.
 */
export async function installNvidia(
  packages: readonly NvidiaPackage[],
  { downloads, target }: { readonly downloads: string; readonly target: string },
  options: NvidiaInstallOptions,
): Promise<void> {
  const total = packages.reduce((sum, item) => sum + item.size, 0);
  const largest = Math.max(0, ...packages.map(({ size }) => size));
  await options.checkSpace(total * unpackedRatio + largest);
  await mkdir(downloads, { recursive: true });
  await mkdir(path.join(target, 'nvidia'), { recursive: true });
  let done = 0;
  for (const [i, item] of packages.entries()) {
    options.signal?.throwIfAborted();
    const size = `${Math.ceil(item.size / 1e6)} MB`;
    options.log(`Fetching ${item.name} ${item.version} (${i + 1} of ${packages.length}, ${size})`);
    const before = done;
    const progress = (what: 'download' | 'unpack', arrived: number): void =>
      options.onProgress?.(what, before + Math.min(arrived, item.size), total);
    const wheel = await obtain(item, downloads, { ...options, onProgress: progress });
    await options.check();
    await unpackInto(wheel, target, options.signal);
    await writeFile(markOf(target, item), `${item.wheel}\n`);
    await rm(wheel, { force: true });
    done += item.size;
    options.onProgress?.('download', done, total);
  }
}

async function obtain(item: NvidiaPackage, folder: string, options: Fetching): Promise<string> {
  const request = {
    requirement: `${item.name}==${item.version}`,
    platforms: item.wheel.replace(/^.*-|\.whl$/g, '').split('.'),
    pythonVersion: '3.11',
    name: item.wheel,
    index: null,
  };
  try {
    return await fetchWheel(request, folder, { [item.wheel]: item.sha256 }, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isWriteError(error)) throw error;
    const { code, message } = toLtrpError(error);
    if (code === 'ERR_LTRP_LIBTORCH_CHECKSUM') throw error;
    throw downloadFailed(
      `${item.name} ${item.version} could not be fetched (${message}). What has arrived is kept: run the same command again to continue.`,
      error,
    );
  }
}

/** Into a folder beside, then each file into its place, so that no library is there by half. */
async function unpackInto(
  wheel: string,
  target: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const temporary = path.join(target, 'nvidia.unpacking');
  await rm(temporary, { recursive: true, force: true });
  try {
    const files = await unpackNvidia(wheel, temporary, { signal });
    if (files === 0) {
      throw new LtrpError('ERR_LTRP_LIBTORCH_ARCHIVE', `${wheel} holds no libraries.`);
    }
    for (const name of await readdir(temporary, { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const file = path.join(name.parentPath, name.name);
      const to = path.join(target, 'nvidia', path.relative(temporary, file));
      await mkdir(path.dirname(to), { recursive: true });
      await rename(file, to);
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
