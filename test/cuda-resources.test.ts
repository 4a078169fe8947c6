/**
 * The kernels' machine code: `npm run test:cuda`. Compiled for sm_90, or for LTRP_CUDA_ARCHITECTURES=80,90 and so on (`all`
 * for the whole matrix). Needs nvcc; what reads instructions needs `npm run cuda:tools`. Skipped visibly without them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { cacheFolder } from '../lib/libtorch/folders.js';
import {
  allArchitectures,
  compile,
  compileAll,
  cudaSources,
  type CompiledFile,
} from '../scripts/cuda/compile.js';
import { resourceProblems, resourceTable } from '../scripts/cuda/limits.js';
import { checkInstructions, claims, disassemble } from './support/machine-code.js';
import { sharedFolder } from './support/paths.js';

const nvcc = [process.env['CUDACXX'], 'nvcc', '/usr/local/cuda/bin/nvcc'].find(
  (command) =>
    command !== undefined &&
    command !== '' &&
    spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0,
);
const nvdisasm = path.join(cacheFolder(), 'cuda-tools', 'nvdisasm');
const asked = process.env['LTRP_CUDA_ARCHITECTURES'] ?? '90';
const architectures = asked === 'all' ? allArchitectures() : asked.split(/[,;]/).map(Number);

const folder = sharedFolder();

/** The command, or undefined after saying that the test is skipped. */
function needNvcc(t: ExecutionContext): string | undefined {
  if (nvcc === undefined) {
    t.log('skipped: there is no nvcc here');
    t.pass();
  }
  return nvcc;
}

const ours = new Map<number, Promise<CompiledFile[]>>();

/** All files of native/kernels/cuda, compiled once an architecture. */
async function compileOurs(command: string, architecture: number): Promise<CompiledFile[]> {
  const files =
    ours.get(architecture) ?? compileAll(command, cudaSources(), [architecture], folder);
  ours.set(architecture, files);
  return files;
}

for (const architecture of architectures) {
  test.serial(
    `sm_${String(architecture)}: no spills, no local memory, launch bounds kept`,
    async (t) => {
      const command = needNvcc(t);
      if (command === undefined) return;
      const files = await compileOurs(command, architecture);
      if (files.length === 0) t.log('skipped: there are no .cu files in native/kernels/cuda');
      for (const { file, kernels } of files) t.true(kernels.length > 0, `${file} holds no kernel`);
      if (files.length > 0) t.log(`\n${resourceTable(files)}`);
      t.deepEqual(files.flatMap(resourceProblems), []);
    },
  );

  test.serial(
    `sm_${String(architecture)}: the instructions that the kernels' documents claim`,
    async (t) => {
      const command = needNvcc(t);
      if (command === undefined) return;
      if (!existsSync(nvdisasm)) {
        t.log('skipped: there is no nvdisasm; `npm run cuda:tools` fetches it');
        t.pass();
        return;
      }
      const files = await compileOurs(command, architecture);
      const problems: string[] = [];
      for (const compiled of files) {
        const sass = await disassemble(nvdisasm, compiled.cubin);
        for (const claim of claims) {
          if (claim.file !== '*' && claim.file !== compiled.file) continue;
          problems.push(...checkInstructions(compiled, sass, claim));
        }
      }
      t.deepEqual(problems, []);
      const names = new Set(['*', ...files.map(({ file }) => file)]);
      for (const { file } of claims) t.true(names.has(file), `claims.ts speaks of ${file}`);
    },
  );
}

test.serial(
  'planted: a spill, an array in local memory and missing launch bounds are found',
  async (t) => {
    const command = needNvcc(t);
    if (command === undefined) return;
    const source = path.join(folder, 'planted.cu');
    await writeFile(
      source,
      `
__global__ void unbounded(float* y) { y[threadIdx.x] = 1.0f; }
__global__ void __launch_bounds__(128) indexed(const int* index, float* y) {
  float values[256];
  for (int i = 0; i < 1000; ++i) values[index[i] & 255] = y[i];
  y[threadIdx.x] = values[index[threadIdx.x] & 255];
}
// 64 registers a thread at most, and a hundred sums alive at once.
__global__ void __launch_bounds__(1024, 1) crowded(const float* x, float* y) {
  float sums[100] = {};
  for (int step = 0; step < 1000; ++step) {
#pragma unroll
    for (int i = 0; i < 100; ++i) sums[i] = fmaf(sums[(i + 1) % 100], x[step * 100 + i], sums[i]);
  }
#pragma unroll
  for (int i = 0; i < 100; ++i) y[threadIdx.x * 100 + i] = sums[i];
}
`,
    );
    const architecture = architectures[0] ?? 90;
    const compiled = await compile(command, source, architecture, folder);
    const problems = resourceProblems(compiled);
    const told = (words: RegExp): void => {
      t.true(
        problems.some((line) => words.test(line)),
        `${String(words)} is not among ${problems.join('; ')}`,
      );
    };
    told(/unbounded states no __launch_bounds__/);
    told(/indexed keeps \d+ bytes a thread in local memory/);
    told(/crowded spills \d+ bytes/);
    if (!existsSync(nvdisasm)) {
      t.log('skipped in part: there is no nvdisasm; `npm run cuda:tools` fetches it');
      return;
    }
    const sass = await disassemble(nvdisasm, compiled.cubin);
    const none = { kernel: /^(indexed|crowded)/, hasNot: ['LDL', 'STL'] };
    t.is(checkInstructions(compiled, sass, none).length, 4);
    t.deepEqual(checkInstructions(compiled, sass, { kernel: /^unbounded/, has: ['STG'] }), []);
  },
);
