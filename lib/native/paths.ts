/** Where the package and its two binaries are. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { LtrpError } from '../errors.js';
import type { Environment } from '../libtorch/folders.js';

/** A bundler that makes CommonJS leaves no address. */
const here = import.meta.url as string | undefined;

let root: string | undefined;

/**
 * The package's own folder: the nearest one above this file with the package.json of ltrp (the same from lib/ and from
 * dist/). Where this file was bundled into another package, the installed ltrp that a program beside the bundle would import.
 */
export function packageRoot(): string {
  root ??= enclosingPackage() ?? installedPackage('ltrp')?.folder;
  if (root !== undefined) return root;
  throw new LtrpError(
    'ERR_LTRP_NOT_BUILT',
    `ltrp was bundled into ${here ?? 'another file'} without its binaries and models. Tell the bundler that ltrp is external, and install it beside the bundle.`,
  );
}

function enclosingPackage(): string | undefined {
  if (here === undefined) return undefined;
  let folder = path.dirname(fileURLToPath(here));
  for (;;) {
    const file = path.join(folder, 'package.json');
    if (existsSync(file)) return readManifest(file)?.name === 'ltrp' ? folder : undefined;
    const parent = path.dirname(folder);
    if (parent === folder) return undefined;
    folder = parent;
  }
}

/** The oldest glibc and libstdc++ that the package's binaries are linked for; a test holds them to it. */
export function oldestSystem(): { glibc: string; glibcxx: string } {
  const text = readFileSync(path.join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { binary: { glibc: string; glibcxx: string } }).binary;
}

/**
 * The command that brings a core of a variant (`cpu`, `cu130`). In a clone the set-up scripts are there; an installed package
 * compiles in its install script, and has the other variants as packages.
 */
export function coreCommand(variant: string): string {
  const gpu = variant !== 'cpu';
  if (existsSync(path.join(packageRoot(), 'scripts', 'setup.mjs'))) {
    return gpu ? 'npm run build -- --cuda' : 'npm run build';
  }
  const manager = packageManager();
  if (gpu) {
    return `${manager} ${manager === 'npm' ? 'install' : 'add'} ltrp-cuda@${packageVersion()}`;
  }
  return `LTRP_BUILD_FROM_SOURCE=1 ${rebuildCommand()}`;
}

/** What runs the package's install script again, in the folder of the project. */
export function rebuildCommand(): string {
  const commands = {
    npm: 'npm rebuild ltrp --foreground-scripts',
    // `pnpm rebuild` silently skips packages whose scripts are not approved.
    pnpm: 'node node_modules/ltrp/scripts/install.mjs',
    yarn: 'yarn rebuild ltrp',
  };
  return commands[packageManager()];
}

/** The package manager of this installation, by its layout; else the one that runs this process. */
function packageManager(): 'npm' | 'pnpm' | 'yarn' {
  if (process.versions['pnp'] !== undefined) return 'yarn';
  if (packageRoot().split(path.sep).includes('.pnpm')) return 'pnpm';
  const agent = /^(pnpm|yarn)\//.exec(process.env['npm_config_user_agent'] ?? '')?.[1];
  return agent === undefined ? 'npm' : (agent as 'pnpm' | 'yarn');
}

interface InstalledPackage {
  readonly folder: string;
  readonly version: string;
}

/** Where Node, or a package manager that changes how Node resolves, finds a package from here; null when it does not. */
function installedPackage(name: string): InstalledPackage | null {
  try {
    if (here === undefined) return null;
    const file = createRequire(here).resolve(`${name}/package.json`);
    const manifest = readManifest(file);
    return manifest === null ? null : { folder: path.dirname(file), version: manifest.version };
  } catch {
    return null;
  }
}

function readManifest(file: string): { name: string; version: string } | null {
  try {
    const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    return { name: String(name), version: String(version) };
  } catch {
    return null;
  }
}

export function packageVersion(): string {
  return readManifest(path.join(packageRoot(), 'package.json'))?.version ?? 'unknown';
}

/** The packages of further cores; the user installs them beside ltrp. */
const corePackages = ['ltrp-cuda'];

/** Installed packages of further cores. Cores of another version than ours are of no use: they have another interface. */
export function installedCorePackages(): (InstalledPackage & {
  readonly name: string;
  readonly matches: boolean;
})[] {
  return corePackages.flatMap((name) => {
    const found = installedPackage(name);
    return found === null ? [] : [{ ...found, name, matches: found.version === packageVersion() }];
  });
}

/**
 * Folders that may hold `ltrp.node` and the cores, best first: what was compiled here, what the package brought, packages of
 * further cores. `LTRP_BINARIES` names one more before all others, for a build in another folder.
 */
export function binaryFolders(env: Environment = process.env): string[] {
  const folders = [
    path.join(packageRoot(), 'build', 'Release'),
    path.join(packageRoot(), 'prebuilds', `${process.platform}-${process.arch}`),
    ...installedCorePackages()
      .filter(({ matches }) => matches)
      .map(({ folder }) => folder),
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
