/** LibTorch, then the compiled binaries: through cmake-js into build/, tests under sanitizers through CMake alone. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { ensureStandIns } from '../package/oldest-system.mjs';
import { root, run, runPackage, say, SetupError, step } from './say.mjs';
import { importBuilt } from './typescript.mjs';

/**
 * A LibTorch with headers; fetched into the user's cache when none is found, for CUDA without the libraries that only
 * running needs when `buildOnly` says so.
 */
export async function ensureLibtorch({ device = 'cpu', variant = 'cpu', buildOnly = false } = {}) {
  const libtorch = await importBuilt('libtorch/find.js');
  const accept = libtorch.buildable.filter((item) => item.variant === variant);
  let decision = await libtorch.decideLibtorch({ accept, needHeaders: true });
  if (decision.error?.code === 'ERR_LTRP_LIBTORCH_NOT_FOUND') {
    const { installLibtorch } = await importBuilt('libtorch/install.js');
    let shown = 0;
    const onProgress = (what, done, total) => {
      if (total === null || done / total < shown) return;
      say(`  ${what} ${Math.floor((100 * done) / total)}%`);
      shown = done >= total ? 0 : Math.max(shown, done / total) + 0.1;
    };
    await step('Fetching LibTorch', () =>
      installLibtorch({ log: say, onProgress, device, buildOnly }),
    );
    decision = await libtorch.decideLibtorch({ accept, needHeaders: true });
  }
  if (decision.error !== null) throw decision.error;
  return decision.chosen;
}

/** Builds ltrp.node and the core into build/Release. */
export async function ensureNative() {
  const libtorch = await ensureLibtorch();
  checkTools();
  const folder = path.join(root, 'build');
  await configureAddon(folder, libtorch);
  const first = !existsSync(path.join(folder, 'Release', 'ltrp.node'));
  await step(`Building the native addon${first ? ' (the first time takes minutes)' : ''}`, () =>
    build(folder, 'all'),
  );
  return folder;
}

/** Builds the C++ tests in the addon's build folder, where core and kernels are compiled already. */
export async function buildTests() {
  const folder = await ensureNative();
  await step('Building the C++ tests', () => build(folder, 'ltrp_tests', 'ltrp_cuda_tests'));
  return folder;
}

/** Builds the benchmark's native helper (bench/native); returns its path. */
export async function buildBenchHelper() {
  const folder = await ensureNative();
  await step("Building the benchmark's native helper", () => build(folder, 'ltrp_bench'));
  return path.join(folder, 'ltrp_bench');
}

/** The C++ tests with AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of their own; `targets`: the programs. */
export async function buildSanitizedTests(targets) {
  const libtorch = await ensureLibtorch();
  checkTools();
  const folder = path.join(root, 'build', 'sanitize');
  await configure(folder, {
    CMAKE_BUILD_TYPE: 'None',
    LTRP_BUILD_ADDON: 'OFF',
    LTRP_SANITIZE: 'address,undefined',
    LTRP_LIBTORCH: libtorch.root,
  });
  await step('Building the C++ tests with sanitizers', () => build(folder, ...targets));
  return folder;
}

async function configureAddon(folder, libtorch) {
  const settings = { LTRP_LIBTORCH: libtorch.root, LTRP_STAND_INS: ensureStandIns() ?? '' };
  if (isConfigured(folder, settings)) return;
  say(`LibTorch ${libtorch.version} in ${libtorch.root} (from: ${libtorch.source})`);
  const args = ['configure', '-G', 'Ninja', '--out', folder];
  for (const [name, value] of Object.entries(settings)) args.push(`--CD${name}=${value}`);
  await step('Configuring the native build', () =>
    runPackage('cmake-js/bin/cmake-js', args, { quiet: true }),
  );
}

/** Configures a build folder through CMake alone; `more`: what CMake writes down in another way than it is given. */
export async function configure(folder, settings, more = []) {
  if (isConfigured(folder, settings)) return;
  const values = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  await step(`Configuring ${path.relative(root, folder)}`, () =>
    run('cmake', ['-S', root, '-B', folder, '-G', 'Ninja', ...values, ...more], { quiet: true }),
  );
}

/** A build folder remembers what it was configured with; anything else means configuring again. */
function isConfigured(folder, settings) {
  const cache = path.join(folder, 'CMakeCache.txt');
  if (!existsSync(cache) || !existsSync(path.join(folder, 'build.ninja'))) return false;
  const lines = readFileSync(cache, 'utf8').split('\n');
  return Object.entries({ ...settings, CMAKE_HOME_DIRECTORY: root }).every(([name, value]) =>
    lines.some((line) => line.startsWith(`${name}:`) && line.endsWith(`=${value}`)),
  );
}

export async function build(folder, ...targets) {
  await run('cmake', ['--build', folder, '--target', ...targets, '--parallel', String(jobs())]);
}

/** A compiler on LibTorch's headers takes up to 1.5 GB. */
function jobs() {
  const asked = Number(process.env.LTRP_BUILD_JOBS);
  if (Number.isInteger(asked) && asked > 0) return asked;
  return Math.max(
    1,
    Math.min(availableParallelism(), Math.floor(process.availableMemory() / 1.5e9)),
  );
}

export function checkTools() {
  const missing = [];
  const has = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  if (!has('cmake')) missing.push('cmake');
  if (!has('ninja')) missing.push('ninja');
  if (!has(process.env.CXX ?? 'c++')) missing.push('a C++20 compiler');
  if (missing.length === 0) return;
  const remedy =
    process.platform === 'darwin'
      ? 'xcode-select --install; brew install cmake ninja'
      : 'sudo apt-get install -y cmake ninja-build g++';
  throw new SetupError(`Building needs ${missing.join(', ')}. Install with: ${remedy}`);
}
