/**
 * The C++ tests of the numbers at every level that this processor can be brought to, and on other processors, by QEMU.
 * Code that does not compute is the same everywhere.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { run, say, SetupError } from './say.mjs';

/** Files of native/test whose results depend on which of our instructions computed them. */
const ours = [
  'attention_kernels',
  'delta_kernels',
  'forward_kernels',
  'layer_norm_kernels',
  'linear',
];

/** And on which of LibTorch's. */
const libraries = ['delta_form', 'kernels', 'leave_one_out', 'linear', 'model'];

/**
 * Limits that users may set for the libraries, and the level of ours that has the same instructions. None may make anything
 * throw or come out wrong.
 */
const libraryLimits = [
  ['ATEN_CPU_CAPABILITY', 'default', 'plain'],
  ['ATEN_CPU_CAPABILITY', 'avx2', 'avx2'],
  ['ATEN_CPU_CAPABILITY', 'avx512', 'avx512'],
  ['ONEDNN_MAX_CPU_ISA', 'SSE41', 'plain'],
  ['ONEDNN_MAX_CPU_ISA', 'AVX2', 'avx2'],
  ['ONEDNN_MAX_CPU_ISA', 'AVX2_VNNI', 'avx-vnni'],
  ['ONEDNN_MAX_CPU_ISA', 'AVX512_CORE', 'avx512'],
  ['ONEDNN_MAX_CPU_ISA', 'AVX512_CORE_VNNI', 'avx512-vnni'],
  ['ONEDNN_MAX_CPU_ISA', 'AVX512_CORE_BF16', 'avx512-bf16'],
];

/** Levels of native/kernels/simd.h that this processor may lack. */
const strongest = ['avx-vnni', 'avx512', 'avx512-vnni', 'avx512-bf16', 'amx'];

/** By the names that QEMU gives them, oldest first; the first has nothing beyond what every x64 processor has. */
const processors = ['Opteron_G1', 'Conroe', 'Nehalem', 'Haswell', 'Skylake-Server'];

/** Test cases of every kind that take milliseconds: under QEMU everything takes a hundred times as long. */
const emulated = [
  'no rows have no products',
  'packed_linear_add leaves*',
  'weights keep the form*',
  'int8 sums are the same at every level*',
  'attention_rows with logits*',
  'removal_difference*',
  'product_attention*',
  'the patch projection*',
  'bytes are normalised*',
  'a hidden token*',
  'predictions at chosen tokens*',
  'PSNR of*',
  'batched deletion equals*',
  'scores depend neither*',
  'psnr and ssim become*',
  'a single visible patch*',
];

const qemu = 'qemu-x86_64';
const program = (folder) => path.join(folder, 'ltrp_tests');
const files = (names) => `--source-file=${names.map((name) => `*/${name}_test.cpp`).join(',')}`;

/** `npm test`: one line per level. */
export async function testLevels(folder) {
  const levels = levelsOf([program(folder)]);
  const settings = [
    ...levels.slice(0, -1).map((level) => ['LTRP_CPU_LEVEL', level, ours]),
    ...libraryLimits
      .filter(([, , level]) => levels.includes(level))
      .map(([name, value]) => [name, value, libraries]),
  ];
  say(`Running the numeric C++ tests at every level below this processor's (${levels.at(-1)})`);
  const absent = strongest.filter((level) => !levels.includes(level));
  if (absent.length > 0) say(`Skipped, because this processor lacks them: ${absent.join(', ')}`);
  const counts = { passed: 0, failed: 0 };
  for (const [name, value, names] of settings) {
    const result = await runTests([program(folder), files(names)], { [name]: value });
    report(`${name}=${value}`, result, counts);
  }
  return counts;
}

/** Version of the QEMU that stands in for processors; throws a SetupError without one. */
export function findQemu() {
  const { status, stdout } = spawnSync(qemu, ['--version'], { encoding: 'utf8' });
  if (status === 0) return /version (\S+)/.exec(stdout)?.[1] ?? 'of unknown version';
  throw new SetupError(
    `${qemu} is not installed. Install it with: sudo apt-get install -y qemu-user`,
  );
}

/** `npm run test:processors`: one line per processor, with the levels that QEMU has for it. */
export async function testProcessors(folder) {
  const version = findQemu();
  say(`Running numeric C++ tests under QEMU ${version}`);
  const counts = { passed: 0, failed: 0 };
  for (const processor of processors) {
    const command = [qemu, '-cpu', processor, program(folder)];
    const levels = levelsOf(command);
    const cases = `--test-case=${emulated.join(',')}`;
    const result = await runTests([...command, cases], { OMP_NUM_THREADS: '1' });
    report(`${processor} (${levels.join(', ')})`, result, counts);
  }
  return counts;
}

/** The levels of native/kernels/simd.h that the tests find, weakest first. */
function levelsOf([command, ...args]) {
  const { status, stdout, stderr } = spawnSync(command, [...args, '--levels'], {
    encoding: 'utf8',
  });
  if (status === 0) return stdout.trim().split(/\s+/);
  const said = stderr.slice(-500);
  throw new SetupError(`${[command, ...args].join(' ')} --levels failed: ${said}`);
}

async function runTests([command, ...args], env) {
  let output = '';
  const start = performance.now();
  const status = await run(command, args, {
    check: false,
    quiet: true,
    env: { OMP_WAIT_POLICY: 'passive', ...env },
    onOutput: (text) => (output += text),
  });
  const seconds = (performance.now() - start) / 1000;
  const cases = /test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed/.exec(output);
  const passed = Number(cases?.[1] ?? 0);
  const failed = Number(cases?.[2] ?? 0);
  // It may also have ended before it could count, or have found nothing to run.
  const sound = cases !== null && passed + failed > 0 && (status === 0) === (failed === 0);
  return { passed, failed: sound ? failed : Math.max(1, failed), seconds, output };
}

function report(what, { passed, failed, seconds, output }, counts) {
  counts.passed += passed;
  counts.failed += failed;
  if (failed > 0) process.stdout.write(output);
  process.stdout.write(`${what}: ${passed} passed, ${failed} failed (${seconds.toFixed(1)} s)\n`);
}
