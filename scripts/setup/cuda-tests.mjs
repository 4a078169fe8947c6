/** `npm run test:cuda`: the CUDA variant's kernels compiled, its machine code looked at, its kernels executed in the emulation. */
import path from 'node:path';
import { conclude, runAva, runEmulatedTests } from './commands.mjs';
import { compileCudaKernels, findNvcc } from './cuda.mjs';
import { build, ensureNative } from './native.mjs';
import { ensurePackages } from './packages.mjs';
import { root, run, say, SetupError, step } from './say.mjs';

/** Without nvcc the emulated tests alone. One architecture: the whole matrix is `npm run build:cuda:all`. */
export async function testCuda() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const add = (more) => {
    for (const name of Object.keys(counts)) counts[name] += more[name] ?? 0;
  };
  if (findNvcc() === null) {
    say(
      'skipped: there is no nvcc here, so the CUDA kernels are not compiled and their machine code not read',
    );
    add({ skipped: 1 });
  } else {
    try {
      await compileCudaKernels();
      add({ passed: 1 });
    } catch (error) {
      if (!(error instanceof SetupError) && error?.name !== 'LtrpError') throw error;
      say(error.message);
      add({ failed: 1 });
    }
    say("Looking at the kernels' machine code");
    add(await runAva(['test/cuda-*.test.ts']));
  }
  const folder = await ensureNative();
  await step('Building the emulated kernel tests', () => build(folder, 'ltrp_cuda_tests'));
  add(await runEmulatedTests(folder));
  conclude(counts.passed, counts.failed, counts.skipped);
}

/** `npm run cuda:resources -- [architectures]`: what each kernel takes of a multiprocessor, as a table. */
export async function printResources(args) {
  await ensurePackages();
  const nvcc = findNvcc();
  if (nvcc === null) throw new SetupError('There is no nvcc here.');
  const script = path.join(root, 'scripts', 'cuda', 'print-resources.ts');
  await run(process.execPath, ['--import=tsx', script, nvcc, ...args]);
}
