/** Loads the two binaries: `ltrp.node`, then, with the chosen LibTorch opened, the core. Once per environment (also in workers). */
import { readdirSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { LtrpError } from '../errors.js';
import { checkPath } from '../validation.js';
import type { BootstrapBinding, CoreBinding } from './binding.js';
import { inTurn } from './in-turn.js';
import { isCudaVariant, librariesOf } from '../libtorch/libraries.js';
import { loadFailure } from './load-failure.js';
import { inspectLibtorch, libraryName } from '../libtorch/inspect.js';
import { findLibtorch, supportedMinors, type Libtorch } from '../libtorch/find.js';
import { binaryFolders, bootstrapFile, coreCommand, coreFiles } from './paths.js';

interface LoadedCore {
  readonly binding: CoreBinding;
  readonly libtorch: Libtorch;
  readonly corePath: string;
}

let loaded: LoadedCore | undefined;

/** The load that is under way. */
let loading:
  { readonly explicit: string | undefined; readonly result: Promise<LoadedCore> } | undefined;

/**
 * The core, loaded at the first call. LibTorch is searched for and opened beside the event loop; calls in the meantime wait for
 * the same load. After a failure the next call tries again.
 *
 * @throws LtrpError ERR_LTRP_NOT_BUILT (a binary is missing), ERR_LTRP_LIBTORCH_* (see libtorch.ts), ERR_LTRP_LIBTORCH_CONFLICT
 * (another copy is in the process already), ERR_LTRP_CORE_LOAD (the dynamic loader refused), ERR_LTRP_SYSTEM_TOO_OLD (glibc or
 * libstdc++).
 */
export async function loadCore(
  options: { libtorch?: string | undefined } = {},
): Promise<CoreBinding> {
  const explicit = options.libtorch;
  if (explicit !== undefined) checkPath('libtorch', explicit, 'the path of a folder');
  while (loaded === undefined) {
    if (loading === undefined) {
      loading = { explicit, result: load(explicit) };
      try {
        loaded = await loading.result;
      } finally {
        loading = undefined;
      }
    } else if (loading.explicit === explicit) {
      await loading.result;
    } else {
      // Somebody else's choice: if it loads, ours is compared with it, if not, ours is tried.
      await loading.result.catch(() => undefined);
    }
  }
  if (explicit !== undefined) checkSame(explicit, loaded.libtorch);
  return loaded.binding;
}

/** The core where it is loaded already, else null. */
export function currentCore(): CoreBinding | null {
  return loaded?.binding ?? null;
}

/** What {@link loadCore} chose, null before its first success. */
export function loadedCore(): { libtorch: Libtorch; corePath: string } | null {
  return loaded === undefined
    ? null
    : { libtorch: loaded.libtorch, corePath: path.resolve(loaded.corePath) };
}

async function load(explicit: string | undefined): Promise<LoadedCore> {
  checkOwnBinaries();
  const bootstrap = loadBootstrap();
  const cores = coreFiles();
  if (cores.length === 0) throw notBuilt('libltrp_core-<minor>-<variant>.so');
  const libtorch = await findLibtorch({ explicit, accept: cores });
  const core = cores.find(
    (file) => file.minor === libtorch.minor && file.variant === libtorch.variant,
  );
  if (core === undefined) throw notBuilt(`a core for LibTorch ${libtorch.minor}`);

  // A process can hold one LibTorch: NEEDED names are satisfied by whichever was opened first.
  for (const file of mappedLibraries(bootstrap)) {
    if (path.dirname(file) !== libtorch.libFolder) {
      throw new LtrpError(
        'ERR_LTRP_LIBTORCH_CONFLICT',
        `This process has opened another LibTorch already (${file}), so ${libtorch.libFolder} cannot be used. Run ltrp in a process of its own, or set LIBTORCH to that copy.`,
      );
    }
  }
  try {
    await inTurn(() => bootstrap.preload(librariesOf(libtorch).preload));
  } catch (error) {
    throw loadFailure(
      `LibTorch ${libtorch.version} in ${libtorch.root} (from: ${libtorch.source})`,
      'Name another one with LIBTORCH=<folder>, or fetch one with `npx ltrp libtorch install`.',
      error,
    );
  }
  const binding = openCore(core.path, libtorch);
  verifyMapped(bootstrap, libtorch);
  // process.exit() and an uncaught error skip Node-API cleanup hooks; without this a running job would use freed memory.
  process.once('exit', () => binding.shutdown());
  return { binding, libtorch, corePath: core.path };
}

/** What somebody names and is wrong is an error: other binaries would be used without a word. */
function checkOwnBinaries(): void {
  const folder = process.env['LTRP_BINARIES'] ?? '';
  if (folder === '') return;
  let found: string;
  try {
    const names = readdirSync(path.resolve(folder));
    if (names.some((name) => /^(ltrp\.node$|libltrp_core-)/.test(name))) return;
    found = 'has no binaries of ltrp';
  } catch (error) {
    found = `cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`;
  }
  throw new LtrpError(
    'ERR_LTRP_NOT_BUILT',
    `LTRP_BINARIES names ${path.resolve(folder)}, which ${found}. Correct it, or unset it to use the binaries of the package.`,
  );
}

export function loadBootstrap(): BootstrapBinding {
  const file = bootstrapFile();
  if (file === null) throw notBuilt('ltrp.node');
  try {
    return createRequire(import.meta.url)(file) as BootstrapBinding;
  } catch (error) {
    throw loadFailure(file, `Build it again with \`${coreCommand('cpu')}\`.`, error);
  }
}

function openCore(file: string, libtorch: Libtorch): CoreBinding {
  const module = { exports: {} };
  try {
    process.dlopen(module, file, os.constants.dlopen.RTLD_NOW);
  } catch (error) {
    throw loadFailure(
      `${file}, with LibTorch ${libtorch.version} in ${libtorch.root},`,
      `Build it again with \`${coreCommand(libtorch.variant)}\`.`,
      error,
    );
  }
  return module.exports as CoreBinding;
}

/** The day a NEEDED name resolved elsewhere it did so silently: ask the dynamic loader what it mapped. */
function verifyMapped(bootstrap: BootstrapBinding, libtorch: Libtorch): void {
  const mapped = mappedLibraries(bootstrap);
  const foreign = mapped.filter((file) => path.dirname(file) !== libtorch.libFolder);
  const stems = ['c10', 'torch_cpu'] as const;
  const cudaStems = isCudaVariant(libtorch.variant) ? (['c10_cuda', 'torch_cuda'] as const) : [];
  for (const stem of [...stems, ...cudaStems]) {
    if (!mapped.includes(realpathSync(path.join(libtorch.libFolder, libraryName(stem))))) {
      foreign.push(`${libraryName(stem)} of ${libtorch.libFolder} is not mapped`);
    }
  }
  if (foreign.length > 0) {
    throw new LtrpError(
      'ERR_LTRP_LIBTORCH_CONFLICT',
      `The core was loaded with another LibTorch than the chosen ${libtorch.libFolder}: ${foreign.join(', ')}. Unset LD_LIBRARY_PATH and LD_PRELOAD, or set LIBTORCH to the copy you mean.`,
    );
  }
}

function mappedLibraries(bootstrap: BootstrapBinding): string[] {
  return (['c10', 'torch_cpu', 'c10_cuda', 'torch_cuda'] as const)
    .map(libraryName)
    .flatMap((name) => bootstrap.mapped(name))
    .map((file) => realpathSync(file));
}

function checkSame(explicit: string, current: Libtorch): void {
  const inspection = inspectLibtorch(path.resolve(explicit));
  if (inspection.ok && inspection.libtorch.libFolder === current.libFolder) return;
  throw new LtrpError(
    'ERR_LTRP_LIBTORCH_CONFLICT',
    `LibTorch ${current.version} from ${current.root} is loaded already; a process uses one LibTorch. Give the libtorch option (${explicit}) at the first call, or start another process.`,
  );
}

function notBuilt(what: string): LtrpError {
  return new LtrpError(
    'ERR_LTRP_NOT_BUILT',
    `${what} for ${process.platform}-${process.arch} was found in none of ${binaryFolders().join(', ')}. With CMake, Ninja, a C++20 compiler and LibTorch ${supportedMinors.join(' or ')} installed, \`${coreCommand('cpu')}\` compiles it.`,
  );
}
