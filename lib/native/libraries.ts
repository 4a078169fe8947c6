/** Which shared libraries a LibTorch consists of, in the order in which they are opened, and what of NVIDIA's is missing. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { readDynamicSection } from './elf.js';
import { libraryName, type LibtorchFolder } from './libtorch-inspect.js';
import { nvidiaPackageOf } from './nvidia-packages.js';
import type { Environment } from './paths.js';

export interface LibrarySet {
  /** Absolute paths: what a library needs comes before it. */
  readonly preload: readonly string[];
  /** NVIDIA's libraries that are needed and found nowhere. */
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
    // Others of LibTorch's own (libtorch_nvshmem) use symbols of whoever needs them and do not open alone.
    if (roots.has(file) || nvidiaPackageOf(path.basename(file)) !== null) preload.push(file);
  };
  for (const root of roots) visit(root);
  const missing = absent.size === 0 ? [] : notOnSystem([...absent], env);
  return { preload, missing };
}

/** One sentence that lists `missing` by package and says what to do. */
export function missingLibraries(missing: readonly string[]): string {
  const list = missing.map((name) => `${name} (${nvidiaPackageOf(name)?.name ?? 'unknown'})`);
  return `NVIDIA's libraries are missing: ${list.join(', ')}; \`ltrp libtorch install --cuda\` fetches them`;
}

/** `nvidia/<package>/lib` beside the folder `torch`, as pip lays them out. */
function nvidiaFolders(libFolder: string): string[] {
  const base = path.resolve(libFolder, '..', '..', 'nvidia');
  try {
    return readdirSync(base).map((name) => path.join(base, name, 'lib'));
  } catch {
    return [];
  }
}

/** What the dynamic loader would not find either. */
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
