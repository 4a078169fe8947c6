/** The CUDA variant of the core: LibTorch's CUDA build, nvcc, a build folder of its own; and what checks its kernels. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ensureStandIns } from '../package/oldest-system.mjs';
import { build, checkTools, ensureLibtorch, isConfigured } from './native.mjs';
import { root, run, say, SetupError, step } from './say.mjs';

const variant = 'cu130';

/** nvcc by CUDACXX, the PATH, or the toolkit's usual place; null when there is none. */
export function findNvcc(env = process.env) {
  const places = [env.CUDACXX, 'nvcc', '/usr/local/cuda/bin/nvcc'];
  const works = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  return (
    places.find((command) => command !== undefined && command !== '' && works(command)) ?? null
  );
}

/**
 * Options of `npm run build -- --cuda` and its relatives: `--cuda`, `--arch 90,100 | native | all`, `--build-only` (fetch no
 * libraries that only running needs).
 */
export function parseBuildOptions(args) {
  const options = { cuda: false, arch: null, buildOnly: false };
  const rest = [...args];
  while (rest.length > 0) {
    const arg = rest.shift();
    if (arg === '--cuda') options.cuda = true;
    else if (arg === '--build-only') options.buildOnly = true;
    else if (arg === '--arch') options.arch = rest.shift() ?? '';
    else if (arg.startsWith('--arch=')) options.arch = arg.slice('--arch='.length);
    else
      throw new SetupError(`There is no option ${arg}. Options: --cuda, --arch, --build-only.`, 2);
  }
  if (!options.cuda && (options.arch !== null || options.buildOnly)) {
    throw new SetupError('--arch and --build-only go with --cuda.', 2);
  }
  if (options.arch !== null && !/^(native|all|\d+[af]?(,\d+[af]?)*)$/.test(options.arch)) {
    throw new SetupError(
      `--arch takes numbers such as 90,100, 'native' or 'all', not "${options.arch}".`,
      2,
    );
  }
  return options;
}

/** What is compiled for when nobody says it: this machine's GPU, else the H100's. */
function defaultArchitecture() {
  const gpus = spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8' });
  return gpus.status === 0 && /^GPU \d/m.test(gpus.stdout) ? 'native' : '90';
}

/** Builds libltrp_core-<minor>-cu130.so beside the CPU core; returns the build folder. */
export async function ensureCuda({ arch = null, buildOnly = false } = {}) {
  const folder = path.join(root, 'build', 'cuda');
  const settings = {
    // Where the loader looks: both variants lie side by side.
    CMAKE_LIBRARY_OUTPUT_DIRECTORY: path.join(root, 'build', 'Release'),
  };
  await buildCuda({ folder, settings, arch: arch ?? defaultArchitecture(), buildOnly });
  return folder;
}

/** Builds the CUDA core for its npm package in a folder of its own; returns where it lies. */
export async function buildCudaPackage({ arch = null } = {}) {
  const folder = path.join(root, 'build', 'cuda-package');
  const release = path.join(folder, 'Release');
  const settings = {
    CMAKE_LIBRARY_OUTPUT_DIRECTORY: release,
    // Lines of the source are for profiling, and would carry this machine's paths.
    LTRP_CUDA_LINE_INFO: 'OFF',
  };
  await buildCuda({ folder, settings, arch: arch ?? 'all', buildOnly: true, target: 'ltrp_core' });
  return release;
}

async function buildCuda({ folder, settings: more, arch, buildOnly, target = 'all' }) {
  const nvcc = findNvcc();
  if (nvcc === null) {
    throw new SetupError(
      'Building for CUDA needs nvcc 13, which is neither on the PATH nor named by CUDACXX nor in /usr/local/cuda/bin.',
    );
  }
  const libtorch = await ensureLibtorch({ device: 'cuda', variant, buildOnly });
  checkTools();
  const architectures = arch.replaceAll(',', ';');
  const settings = {
    LTRP_LIBTORCH: libtorch.root,
    LTRP_STAND_INS: ensureStandIns() ?? '',
    LTRP_CUDA: 'ON',
    LTRP_CUDA_ARCHITECTURES: architectures,
    ...more,
  };
  if (!isConfigured(folder, settings)) {
    say(`LibTorch ${libtorch.version} (${libtorch.variant}) in ${libtorch.root}`);
    const args = ['-S', root, '-B', folder, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release'];
    args.push(`-DCMAKE_CUDA_COMPILER=${nvcc}`);
    for (const [name, value] of Object.entries(settings)) args.push(`-D${name}=${value}`);
    await step('Configuring the CUDA build', () => run('cmake', args, { quiet: true }));
  }
  await step(`Building the core for CUDA (architectures ${architectures})`, () =>
    build(folder, target),
  );
}

/** True when the emulated kernel tests are part of this tree. */
export function hasEmulatedTests() {
  return existsSync(path.join(root, 'cmake', 'LtrpCudaEmulation.cmake'));
}
