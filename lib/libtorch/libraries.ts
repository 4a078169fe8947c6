/**
 * Which shared libraries a LibTorch consists of, in the order in which they are opened, and what of
 * NVIDIA's is missing. A library's dynamic section names the libraries it needs.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { libraryName, type LibtorchFolder } from './inspect.js';
import { nvidiaPackageOf } from './nvidia-packages.js';
import { listFolder, type Environment } from './folders.js';

export interface LibrarySet {
  /** Absolute paths: what a library needs comes before it. */
  readonly preload: readonly string[];
  /** NVIDIA's libraries that are needed and missing. */
  readonly missing: readonly string[];
}

/** True for `cu130` and the like, and for a CUDA build of unknown version. */
export function isCudaVariant(variant: string): boolean {
  return /^cu(da|\d)/.test(variant);
}

/**
 * A CPU build is three libraries beside each other. Of a CUDA build the NVIDIA libraries lie elsewhere: in the wheels'
 * `nvidia/<package>/lib` beside `torch`, beside LibTorch itself (the official archive), or in a toolkit of the system. Those
 * found in the first two are opened by their absolute paths, so that no other version slips in; the rest is left to the loader.
 */
export function librariesOf(
  libtorch: Pick<LibtorchFolder, 'libFolder' | 'variant'>,
  env: Environment = process.env,
): LibrarySet {
  const { libFolder, variant } = libtorch;
  const own = (stem: Parameters<typeof libraryName>[0]): string =>
    path.join(libFolder, libraryName(stem));
  if (!isCudaVariant(variant)) {
    return { preload: [own('c10'), own('torch_cpu'), own('torch')], missing: [] };
  }
  const folders = [libFolder, ...nvidiaFolders(libFolder)];
  const preload: string[] = [];
  const absent = new Set<string>();
  const seen = new Set<string>();
  const roots = new Set(
    (['c10', 'c10_cuda', 'torch_cpu', 'torch_cuda', 'torch'] as const).map((stem) => own(stem)),
  );
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const { needed, searchPath } = readDynamicSection(file);
    const origin = path.dirname(file);
    const more = searchPath.map((folder) =>
      path.resolve(origin, folder.replace(/^\$(ORIGIN|\{ORIGIN\})/, origin)),
    );
    for (const name of needed) {
      const folder = [...folders, ...more].find((place) => existsSync(path.join(place, name)));
      if (folder !== undefined) visit(path.join(folder, name));
      else if (nvidiaPackageOf(name) !== null) absent.add(name);
    }
    // Others of LibTorch's own (libtorch_nvshmem) use symbols of the libraries that need them and do not open alone.
    if (roots.has(file) || nvidiaPackageOf(path.basename(file)) !== null) preload.push(file);
  };
  for (const root of roots) visit(root);
  const missing = absent.size === 0 ? [] : notOnSystem([...absent], env);
  return { preload, missing };
}

/** One sentence that lists `missing` by package and says what to do. */
export function missingLibraries(missing: readonly string[]): string {
  const list = missing.map((name) => `${name} (${nvidiaPackageOf(name)?.name ?? 'unknown'})`);
  return `NVIDIA's libraries are missing: ${list.join(', ')}; \`npx ltrp libtorch install --cuda\` fetches them`;
}

/** `nvidia/<package>/lib` beside the folder `torch`, as pip lays them out. */
function nvidiaFolders(libFolder: string): string[] {
  const base = path.resolve(libFolder, '..', '..', 'nvidia');
  return listFolder(base).map((name) => path.join(base, name, 'lib'));
}

/** The libraries that the dynamic loader would not find either. */
function notOnSystem(names: readonly string[], env: Environment): string[] {
  const listed = (env['LD_LIBRARY_PATH'] ?? '').split(':').filter((folder) => folder !== '');
  const known = spawnSync('ldconfig', ['-p'], {
    encoding: 'utf8',
    env: { PATH: `${env['PATH'] ?? ''}:/usr/sbin:/sbin` },
    stdio: ['ignore', 'pipe', 'ignore'],
  }).stdout as string | null;
  const cached = new Set(
    (known ?? '').split('\n').map((line) => line.trim().split(' ', 1)[0] ?? ''),
  );
  return names.filter(
    (name) => !cached.has(name) && !listed.some((folder) => existsSync(path.join(folder, name))),
  );
}

/** The dynamic section of an ELF file (Linux, 64 bit, little-endian), read without loading it. */
export interface DynamicSection {
  /** NEEDED: the names the dynamic loader will look for. */
  readonly needed: readonly string[];
  /** RPATH or RUNPATH, split, `$ORIGIN` as it is written. */
  readonly searchPath: readonly string[];
}

// Numbers of the ELF specification.
const segmentLoad = 1;
const segmentDynamic = 2;
const tagNeeded = 1;
const tagStringTable = 5;
const tagRpath = 15;
const tagRunpath = 29;

/** Empty if the file is not such a library, is truncated or cannot be read: opening it will say why. */
export function readDynamicSection(file: string): DynamicSection {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    return parse(descriptor);
  } catch {
    return { needed: [], searchPath: [] };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function parse(descriptor: number): DynamicSection {
  const bytes = (offset: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    if (readSync(descriptor, buffer, 0, length, offset) !== length) throw new Error('truncated');
    return buffer;
  };
  const header = bytes(0, 64);
  if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) {
    throw new Error('no such library');
  }
  const entrySize = header.readUInt16LE(54);
  const count = header.readUInt16LE(56);
  const table = bytes(Number(header.readBigUInt64LE(32)), entrySize * count);
  const segments = Array.from({ length: count }, (_, i) => {
    const at = i * entrySize;
    const number = (offset: number): number => Number(table.readBigUInt64LE(at + offset));
    return {
      type: table.readUInt32LE(at),
      offset: number(8),
      address: number(16),
      size: number(32),
    };
  });
  const dynamic = segments.find(({ type }) => type === segmentDynamic);
  const section = bytes(dynamic?.offset ?? 0, dynamic?.size ?? 0);
  const entries: [tag: number, value: number][] = [];
  for (let at = 0; at + 16 <= section.length; at += 16) {
    const tag = Number(section.readBigInt64LE(at));
    if (tag === 0) break;
    entries.push([tag, Number(section.readBigUInt64LE(at + 8))]);
  }
  const address = entries.find(([tag]) => tag === tagStringTable)?.[1] ?? -1;
  const home = segments.find(
    (segment) =>
      segment.type === segmentLoad &&
      address >= segment.address &&
      address < segment.address + segment.size,
  );
  if (home === undefined) throw new Error('no names');
  const strings = address - home.address + home.offset;
  const string = (offset: number): string => {
    const buffer = Buffer.alloc(4096);
    const length = readSync(descriptor, buffer, 0, buffer.length, strings + offset);
    const end = buffer.subarray(0, length).indexOf(0);
    if (end < 0) throw new Error('a name without end');
    return buffer.toString('utf8', 0, end);
  };
  const values = (...tags: number[]): string[] =>
    entries.filter(([tag]) => tags.includes(tag)).map(([, value]) => string(value));
  return {
    needed: values(tagNeeded),
    searchPath: values(tagRpath, tagRunpath)
      .flatMap((paths) => paths.split(':'))
      .filter((folder) => folder !== ''),
  };
}
