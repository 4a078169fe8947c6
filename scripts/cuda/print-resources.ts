/** node --import=tsx scripts/cuda/print-resources.ts <nvcc> [90,100 | all]: prints the table of limits.ts, and what is wrong. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { allArchitectures, compileAll, cudaSources, nvccVersion } from './compile.js';
import { resourceProblems, resourceTable } from './limits.js';

const [nvcc = 'nvcc', list = '90'] = process.argv.slice(2);
const architectures = list === 'all' ? allArchitectures() : list.split(',').map(Number);
const folder = await mkdtemp(path.join(os.tmpdir(), 'ltrp-cuda-'));
try {
  const compiled = await compileAll(nvcc, cudaSources(), architectures, folder);
  process.stdout.write(`nvcc: ${await nvccVersion(nvcc)}\n${resourceTable(compiled)}\n`);
  const problems = compiled.flatMap(resourceProblems);
  process.stdout.write(problems.length === 0 ? 'No problems.\n' : `\n${problems.join('\n')}\n`);
  if (problems.length > 0) process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
