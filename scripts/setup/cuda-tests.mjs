/** `npm run test:cuda`: the CUDA variant compiled, its machine code looked at, its kernels executed in the emulation. */
import path from 'node:path';
import { conclude, runAva, runEmulatedTests } from './commands.mjs';
import { ensureCuda, findNvcc, hasEmulatedTests } from './cuda.mjs';
import { build, ensureNative } from './native.mjs';
import { ensurePackages } from './packages.mjs';
import { root, run, say, SetupError, step } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

/** Without nvcc the emulated tests alone. One architecture: the whole matrix is `npm run build:cuda:all`. */
export async function testCuda() {
  await ensurePackages();
  await buildTypeScript();
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const add = (more) => {
    for (const name of Object.keys(counts)) counts[name] += more[name] ?? 0;
  };
  if (findNvcc() === null) {
    say(
      'skipped: there is no nvcc here, so the CUDA variant is not compiled and its machine code not read',
    );
    add({ skipped: 1 });
  } else {
    try {
      await ensureCuda({ arch: '90', buildOnly: true });
      add({ passed: 1 });
    } catch (error) {
      if (!(error instanceof SetupError) && error?.name !== 'LtrpError') throw error;
      say(error.message);
      add({ failed: 1 });
    }
    say("Looking at the kernels' machine code");
    add(await runAva(['test/cuda-*.test.ts']));
  }
  if (hasEmulatedTests()) {
    const folder = await ensureNative();
    await step('Building the emulated kernel tests', () => build(folder, 'ltrp_cuda_tests'));
    add(await runEmulatedTests(folder));
  } else {
    say('skipped: there are no emulated kernel tests in this tree');
    add({ skipped: 1 });
  }
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
