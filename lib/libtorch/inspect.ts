/** Looking at a folder that may be a LibTorch, without loading anything from it. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { firstBytes } from './folders.js';

export interface LibtorchFolder {
  /** The folder that holds `lib/` (for a system installation, the one above its library folder). */
  readonly root: string;
  readonly libFolder: string;
  /** Folder with `ATen/` and `torch/`, null when the headers are not there. */
  readonly includeFolder: string | null;
  /** For example `2.13.0`. */
  readonly version: string;
  readonly minor: string;
  readonly variant: string;
}

export type Inspection =
  | { readonly ok: true; readonly libtorch: LibtorchFolder }
  | { readonly ok: false; readonly present: boolean; readonly reason: string };

const extension = process.platform === 'darwin' ? 'dylib' : 'so';

/** File name of one of LibTorch's libraries on this system. */
export function libraryName(
  stem: 'c10' | 'torch_cpu' | 'torch' | 'c10_cuda' | 'torch_cuda',
): string {
  return `lib${stem}.${extension}`;
}

/**
 * Accepts a LibTorch root, its `lib` folder, a folder with an unpacked `libtorch/`, and a Python `site-packages`.
 * `present: false` means that the folder has nothing of LibTorch, which is not reported for an implicit place.
 */
export function inspectLibtorch(folder: string): Inspection {
  const obstacle = obstacleTo(() => statSync(folder).isDirectory());
  if (obstacle !== null) return { ok: false, ...obstacle };
  const places = [
    path.join(folder, 'lib'),
    folder,
    path.join(folder, 'torch', 'lib'),
    path.join(folder, 'libtorch', 'lib'),
  ];
  const libFolder = places.find((place) => existsSync(path.join(place, libraryName('torch_cpu'))));
  if (libFolder === undefined) {
    const hidden = obstacleTo(() => readdirSync(folder).length >= 0);
    if (hidden !== null) return { ok: false, ...hidden };
    const partial = places.find((place) => existsSync(path.join(place, libraryName('c10'))));
    return {
      ok: false,
      present: partial !== undefined,
      reason: `no ${libraryName('torch_cpu')} there or in lib/`,
    };
  }
  for (const stem of ['c10', 'torch_cpu', 'torch'] as const) {
    const file = path.join(libFolder, libraryName(stem));
    const problem = libraryProblem(file);
    if (problem !== null) return { ok: false, present: true, reason: `${file} ${problem}` };
  }
  const resolved = realpathSync(libFolder);
  const root = path.dirname(resolved);
  const includeFolder = findIncludeFolder(resolved);
  const version = readVersion(root, includeFolder);
  if (version === null) {
    return {
      ok: false,
      present: true,
      reason:
        'its version cannot be read (no torch/version.h, build-version or version.py beside it)',
    };
  }
  const minor = version.split('.').slice(0, 2).join('.');
  const variant = variantOf(root, resolved);
  return {
    ok: true,
    libtorch: { root, libFolder: resolved, includeFolder, version, minor, variant },
  };
}

/** Why a folder cannot be looked into, or null: what looking at it says. */
function obstacleTo(isFolder: () => boolean): { present: boolean; reason: string } | null {
  try {
    return isFolder() ? null : { present: false, reason: 'it is a file, not a folder' };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    if (code === 'ENOENT') return { present: false, reason: 'the folder does not exist' };
    const reason =
      code === 'ERR_INVALID_ARG_VALUE'
        ? 'no file can have this name'
        : `it cannot be read (${code})`;
    return { present: code !== 'ENOTDIR', reason };
  }
}

/** An obvious fault of a shared library, by its first bytes, or null. */
function libraryProblem(file: string): string | null {
  let header: Buffer;
  try {
    header = firstBytes(file, 20);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? 'is missing' : `cannot be read (${code ?? String(error)})`;
  }
  if (process.platform !== 'linux') return null;
  if (header.length < 20 || header.readUInt32BE(0) !== 0x7f454c46) {
    return 'is not a shared library';
  }
  const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183 }; // e_machine of ELF
  const expected = machines[process.arch];
  if (header[4] !== 2 || (expected !== undefined && header.readUInt16LE(18) !== expected)) {
    return `is for another processor than this one (${process.arch})`;
  }
  return null;
}

/** `include/` beside `lib/`, or, for `/usr/lib/<multiarch>`, the one of the same prefix. */
function findIncludeFolder(libFolder: string): string | null {
  for (const base of [path.dirname(libFolder), path.dirname(path.dirname(libFolder))]) {
    const include = path.join(base, 'include');
    if (existsSync(path.join(include, 'torch')) && existsSync(path.join(include, 'ATen'))) {
      return include;
    }
  }
  return null;
}

function readVersion(root: string, includeFolder: string | null): string | null {
  const sources: [file: string, pattern: RegExp][] = [];
  if (includeFolder !== null) {
    // 2.9 moved the numbers to headeronly; the older file stayed as a forwarding header.
    for (const file of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
      sources.push([path.join(includeFolder, file), /"(\d+\.\d+\.\d+)/]);
    }
  }
  sources.push([path.join(root, 'build-version'), /^(\d+\.\d+\.\d+)/]); // the official archive
  sources.push([path.join(root, 'version.py'), /__version__ = ['"](\d+\.\d+\.\d+)/]); // a wheel
  for (const [file, pattern] of sources) {
    const version = pattern.exec(readText(file))?.[1];
    if (version !== undefined) return version;
  }
  return null;
}

function variantOf(root: string, libFolder: string): string {
  if (existsSync(path.join(libFolder, `libtorch_hip.${extension}`))) return 'rocm';
  if (!existsSync(path.join(libFolder, libraryName('torch_cuda')))) return 'cpu';
  const text = readText(path.join(root, 'build-version')) + readText(path.join(root, 'version.py'));
  return /\+(cu\d+)/.exec(text)?.[1] ?? 'cuda';
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // optional files
  }
}
