/** Where the package, its two binaries and the user's folders are. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { LtrpError } from '../errors.js';

export type Environment = Readonly<Record<string, string | undefined>>;

let root: string | undefined;

/**
 * The package's own folder: the nearest one above this file with its package.json (the same from lib/ and from dist/).
 * @throws LtrpError ERR_LTRP_BUNDLED when this code is not in its package any more.
 */
export function packageRoot(): string {
  if (root !== undefined) return root;
  // Bundlers that write CommonJS leave nothing here.
  const url = import.meta.url as string | undefined;
  const file = url === undefined ? 'a bundle' : fileURLToPath(url);
  let folder = path.dirname(path.resolve(file));
  while (packageName(folder) === null && path.dirname(folder) !== folder) {
    folder = path.dirname(folder);
  }
  if (packageName(folder) !== 'ltrp') {
    throw new LtrpError(
      'ERR_LTRP_BUNDLED',
      `A bundler has copied the code of ltrp into ${file}, away from its native binaries and models. Leave the package out of the bundle (esbuild: --external:ltrp) and install it beside.`,
    );
  }
  root = folder;
  return folder;
}

/** Name in the package.json of a folder, '' when it has none; null without such a file. */
function packageName(folder: string): string | null {
  const file = path.join(folder, 'package.json');
  if (!existsSync(file)) return null;
  const { name } = JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown };
  return typeof name === 'string' ? name : '';
}

export function packageVersion(): string {
  const text = readFileSync(path.join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** An XDG folder; the specification says that a relative value is to be ignored. */
function xdgFolder(env: Environment, variable: string, fallback: string): string {
  const value = env[variable];
  const base =
    value !== undefined && path.isAbsolute(value) ? value : path.join(homeFolder(env), fallback);
  return path.join(base, 'ltrp');
}

function homeFolder(env: Environment): string {
  const home = env['HOME'];
  return home !== undefined && path.isAbsolute(home) ? home : homedir();
}

/** `$XDG_CACHE_HOME/ltrp`, by default `~/.cache/ltrp`. */
export function cacheFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CACHE_HOME', '.cache');
}

/** `$XDG_CONFIG_HOME/ltrp`, by default `~/.config/ltrp`. */
export function configFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CONFIG_HOME', '.config');
}

/** One folder per version and variant, for example `2.13.0-cpu`. */
export function libtorchCacheFolder(env: Environment = process.env): string {
  return path.join(cacheFolder(env), 'libtorch');
}

/**
 * Folders that may hold `ltrp.node` and the cores, best first. `LTRP_BINARIES` names one more before all others, for a
 * build in another folder.
 */
export function binaryFolders(env: Environment = process.env): string[] {
  const folders = [
    path.join(packageRoot(), 'build', 'Release'),
    path.join(packageRoot(), 'prebuilds', `${process.platform}-${process.arch}`),
  ];
  const own = env['LTRP_BINARIES'];
  if (own !== undefined && own !== '') folders.unshift(path.resolve(own));
  return folders;
}

export interface CoreFile {
  /** LibTorch's minor release, for example `2.13`. */
  readonly minor: string;
  /** `cpu`, or `cu` and a CUDA version without its dot. */
  readonly variant: string;
  readonly path: string;
}

/** The core binaries that are there, one per minor and variant (the first folder wins). */
export function coreFiles(env: Environment = process.env): CoreFile[] {
  const found = new Map<string, CoreFile>();
  for (const folder of binaryFolders(env)) {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      continue; // not built there
    }
    for (const name of names.sort()) {
      const match = /^libltrp_core-(\d+\.\d+)-(cpu|cu\d+)\.so$/.exec(name);
      const [, minor, variant] = match ?? [];
      if (minor === undefined || variant === undefined || found.has(`${minor}-${variant}`))
        continue;
      found.set(`${minor}-${variant}`, { minor, variant, path: path.join(folder, name) });
    }
  }
  return [...found.values()];
}

/** `ltrp.node`, or null when nothing is built yet. */
export function bootstrapFile(env: Environment = process.env): string | null {
  for (const folder of binaryFolders(env)) {
    const file = path.join(folder, 'ltrp.node');
    if (existsSync(file)) return file;
  }
  return null;
}
