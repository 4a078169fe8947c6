/** NVIDIA's libraries for a LibTorch in the cache: wheel after wheel, each left out when it is there already. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { LtrpError, toLtrpError } from '../errors.js';
import { nvidiaPlatforms, type NvidiaPackage } from './nvidia-packages.js';
import type { Environment } from './paths.js';
import { unpackNvidia } from './unpack.js';
import { fetchWheel } from './wheels.js';
import { isWriteError } from './write-errors.js';

export interface NvidiaInstallOptions {
  readonly env: Environment;
  readonly log: (line: string) => void;
  readonly onProgress?:
    ((what: 'download' | 'unpack', done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Throws when there is less room than this. */
  readonly checkSpace: (bytes: number) => Promise<void>;
  /** Throws when the file's SHA-256 is another one. */
  readonly verify: (file: string, sha256: string) => Promise<void>;
  /** Throws when somebody else is at work here by now. */
  readonly check: () => Promise<void>;
}

// Unpacked, these libraries take a little more than half as much again; the wheel in work is there as well.
const unpackedRatio = 1.6;

/** True when no package is left to fetch; also for the official archive, which brings these libraries itself. */
export function nvidiaIsComplete(target: string, packages: readonly NvidiaPackage[]): boolean {
  return packages.length === 0 || cameAsArchive(target) || lacking(target, packages).length === 0;
}

function cameAsArchive(target: string): boolean {
  try {
    const note = JSON.parse(readFileSync(path.join(target, 'ltrp-install.json'), 'utf8')) as {
      file?: unknown;
    };
    return typeof note.file === 'string' && note.file.endsWith('.zip');
  } catch {
    return false;
  }
}

/** A package counts once its mark is written, which is after its last file. */
const markOf = (target: string, item: NvidiaPackage): string =>
  path.join(target, 'nvidia', `${item.name}-${item.version}.installed`);

function lacking(target: string, packages: readonly NvidiaPackage[]): NvidiaPackage[] {
  return packages.filter((item) => !existsSync(markOf(target, item)));
}

/**
 * Fetches what is lacking into `target/nvidia`. Run again after an interruption it goes on with the package it was at.
 * Throws LtrpError ERR_LTRP_DOWNLOAD | _LIBTORCH_CHECKSUM | _LIBTORCH_ARCHIVE | _FILE_WRITE.
 */
export async function installNvidia(
  packages: readonly NvidiaPackage[],
  place: { readonly downloads: string; readonly target: string },
  options: NvidiaInstallOptions,
): Promise<void> {
  const { downloads, target } = place;
  const wanted = lacking(target, packages);
  const total = wanted.reduce((sum, item) => sum + item.size, 0);
  await options.checkSpace(total * unpackedRatio + Math.max(0, ...wanted.map(({ size }) => size)));
  await mkdir(downloads, { recursive: true });
  await mkdir(path.join(target, 'nvidia'), { recursive: true });
  let done = 0;
  for (const [i, item] of wanted.entries()) {
    options.signal?.throwIfAborted();
    const size = `${String(Math.ceil(item.size / 1e6))} MB`;
    options.log(
      `Fetching ${item.name} ${item.version} (${String(i + 1)} of ${String(wanted.length)}, ${size})`,
    );
    const before = done;
    const wheel = await obtain(item, downloads, options, (arrived) => {
      options.onProgress?.('download', before + Math.min(arrived, item.size), total);
    });
    await options.check();
    await unpackInto(wheel, target, options);
    await writeFile(markOf(target, item), `${item.wheel}\n`);
    await rm(wheel, { force: true });
    done += item.size;
    options.onProgress?.('download', done, total);
  }
}

async function obtain(
  item: NvidiaPackage,
  downloads: string,
  options: NvidiaInstallOptions,
  onProgress: (arrived: number) => void,
): Promise<string> {
  const kept = path.join(downloads, item.wheel);
  let wheel: string;
  try {
    wheel = existsSync(kept)
      ? kept
      : (
          await fetchWheel(
            {
              requirement: `${item.name}==${item.version}`,
              platforms: nvidiaPlatforms,
              pythonVersion: '3.11',
              filePrefix: `${item.name.replaceAll('-', '_')}-${item.version}`,
              fits: (name) => name === item.wheel,
              index: null,
            },
            downloads,
            { env: options.env, log: options.log, signal: options.signal, onProgress },
          )
        ).file;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isWriteError(error)) throw error;
    if (error instanceof LtrpError && error.code === 'ERR_LTRP_LIBTORCH_CHECKSUM') throw error;
    throw new LtrpError(
      'ERR_LTRP_DOWNLOAD',
      `${item.name} ${item.version} could not be fetched (${toLtrpError(error).message}). What has arrived is kept: run the same command again to continue.`,
      { cause: error },
    );
  }
  if (path.basename(wheel) !== item.wheel) {
    throw new LtrpError(
      'ERR_LTRP_LIBTORCH_CHECKSUM',
      `pip brought ${path.basename(wheel)} instead of ${item.wheel}, whose content is known.`,
    );
  }
  await options.verify(wheel, item.sha256);
  return wheel;
}

/** Into a folder beside, then each file into its place, so that no library is there by half. */
async function unpackInto(
  wheel: string,
  target: string,
  options: NvidiaInstallOptions,
): Promise<void> {
  const temporary = path.join(target, 'nvidia.unpacking');
  await rm(temporary, { recursive: true, force: true });
  try {
    const files = await unpackNvidia(wheel, temporary, { signal: options.signal });
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
