/** The CUDA variant of the core: LibTorch's CUDA build, nvcc, a separate build folder, and the checks of its kernels. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ensureStandIns } from '../package/oldest-system.mjs';
import { build, checkTools, configure, ensureLibtorch } from './native.mjs';
import { root, SetupError, step } from './say.mjs';

const variant = 'cu130';

/** nvcc by CUDACXX, the PATH, or the toolkit's usual place; null without one. */
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
  const options = parseOptions(args);
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

function parseOptions(args) {
  const options = {
    cuda: { type: 'boolean', default: false },
    arch: { type: 'string' },
    'build-only': { type: 'boolean', default: false },
  };
  try {
    const { cuda, arch = null, 'build-only': buildOnly } = parseArgs({ args, options }).values;
    return { cuda, arch, buildOnly };
  } catch (error) {
    throw new SetupError(error.message, 2);
  }
}

/** The default architecture: this machine's GPU, else the H100's. */
function defaultArchitecture() {
  const gpus = spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8' });
  return gpus.status === 0 && /^GPU \d/m.test(gpus.stdout) ? 'native' : '90';
}

const folder = path.join(root, 'build', 'cuda');
// Where the loader looks: both variants lie side by side.
const settings = { CMAKE_LIBRARY_OUTPUT_DIRECTORY: path.join(root, 'build', 'Release') };

/** Builds libltrp_core-<minor>-cu130.so beside the CPU core; returns the build folder. */
export async function ensureCuda({ arch = null, buildOnly = false } = {}) {
  await buildCuda({ folder, settings, arch: arch ?? defaultArchitecture(), buildOnly });
  return folder;
}

/** Compiles what is different for CUDA, for one architecture, and links nothing. The rest takes minutes and is the same as in the CPU core. */
export async function compileCudaKernels() {
  const targets = ['ltrp_cuda_kernels', 'ltrp_kernels'];
  await buildCuda({ folder, settings, arch: '90', buildOnly: true, targets });
}

/** Builds the CUDA core for its npm package in a separate folder; returns its path. */
export async function buildCudaPackage({ arch = null } = {}) {
  const folder = path.join(root, 'build', 'cuda-package');
  const release = path.join(folder, 'Release');
  const settings = {
    CMAKE_LIBRARY_OUTPUT_DIRECTORY: release,
    // Lines of the source are for profiling, and would carry this machine's paths.
    LTRP_CUDA_LINE_INFO: 'OFF',
  };
  await buildCuda({
    folder,
    settings,
    arch: arch ?? 'all',
    buildOnly: true,
    targets: ['ltrp_core'],
  });
  return release;
}

async function buildCuda({ folder, settings: more, arch, buildOnly, targets = ['all'] }) {
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
    CMAKE_BUILD_TYPE: 'Release',
    LTRP_LIBTORCH: libtorch.root,
    LTRP_STAND_INS: ensureStandIns() ?? '',
    LTRP_CUDA: 'ON',
    LTRP_CUDA_ARCHITECTURES: architectures,
    ...more,
  };
  await configure(folder, settings, [`-DCMAKE_CUDA_COMPILER=${nvcc}`]);
  await step(`Building the core for CUDA (architectures ${architectures})`, () =>
    build(folder, ...targets),
  );
}
