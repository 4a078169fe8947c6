/** The commands behind the npm scripts that do more than build. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { buildSanitizedTests, buildTests, ensureNative } from './native.mjs';
import { ensurePackages } from './packages.mjs';
import { findQemu, testLevels, testProcessors } from './processors.mjs';
import { root, run, runPackage, say, SetupError } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

/** `npm run demo`: arguments after `--` go to the demo. */
export async function demo(args) {
  await ensureNative();
  process.exitCode = await run(process.execPath, ['scripts/demo.mjs', ...args], { check: false });
}

/**
 * `npm test`: the checks of the sources, the C++ tests, then the tests through the public API. With arguments after `--`,
 * which go to ava, those last alone.
 */
export async function test(args) {
  const folder = await buildTests();
  const counts = { passed: 0, failed: 0 };
  if (args.length === 0) {
    say('Checking types, lint, formatting and directions of dependency');
    const checks = await checkSources();
    if (checks.failed.length > 0) say(`Found something: ${checks.failed.join(', ')}`);
    const native = await runCtest(folder);
    const levels = await testLevels(folder);
    counts.passed = checks.passed.length + native.passed + levels.passed;
    counts.failed = checks.failed.length + native.failed + levels.failed;
  }
  say('Running the tests of the public API (ava)');
  // Those of the kernels' machine code take nvcc and minutes: `npm run test:cuda`; those of the packages are
  // `npm run test:install`, those in other Nodes and bundlers `npm run test:hosts`.
  const others = ['!test/cuda-*.test.ts', '!test/install/**', '!test/hosts/**'];
  const ava = await runAva(args.length > 0 ? args : ['test/**/*.test.ts', ...others]);
  conclude(counts.passed + ava.passed, counts.failed + ava.failed, ava.skipped);
}

export async function runAva(args) {
  let output = '';
  const status = await runPackage('ava/entrypoints/cli.mjs', args, {
    check: false,
    onOutput: (text) => (output += text),
  });
  const counts = avaCounts(output);
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

export async function testNative() {
  const folder = await buildTests();
  const native = await runCtest(folder);
  const levels = await testLevels(folder);
  conclude(native.passed + levels.passed, native.failed + levels.failed, 0);
}

/** `npm run test:processors`: the numeric C++ tests on processors that are not here. Takes minutes. */
export async function testOtherProcessors() {
  findQemu();
  const { passed, failed } = await testProcessors(await buildTests());
  conclude(passed, failed, 0);
}

/**
 * `npm run test:sanitize`. LibTorch itself is not instrumented: reads and writes inside its operators are seen only where
 * they reach memory of ours, and its allocator's deliberate leaks are not reported (leak detection is off, as it also
 * cannot work in containers that forbid ptrace). Those of the CUDA kernels too, because the emulation leaves bounds in global
 * memory to AddressSanitizer; `--cpu` leaves them out.
 */
export async function testSanitize(args) {
  const cpu = args.includes('--cpu');
  const folder = await buildSanitizedTests(
    cpu ? ['ltrp_tests'] : ['ltrp_tests', 'ltrp_cuda_tests'],
  );
  const { passed, failed } = await runCtest(
    folder,
    {
      // allocator_may_return_null: an impossible size is to reach us as an exception, as it does without sanitizers.
      ASAN_OPTIONS:
        'allocator_may_return_null=1:detect_leaks=0:detect_odr_violation=0:strict_string_checks=1:check_initialization_order=1',
      UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
      OMP_NUM_THREADS: '1', // and as many tests at a time as there are cores
    },
    ['--parallel', String(availableParallelism()), ...(cpu ? ['-E', emulated] : [])],
  );
  conclude(passed, failed, 0);
}

/** The emulated kernels' tests are another program, which `npm run test:cuda` builds. */
const emulated = '^native\\.(cuda|emulation)\\.';

export async function runEmulatedTests(folder) {
  return runCtest(folder, {}, ['-R', emulated]);
}

async function runCtest(folder, env = {}, select = ['-E', emulated]) {
  say('Running the C++ tests (ctest)');
  const report = path.join(folder, 'ctest.xml');
  rmSync(report, { force: true });
  const args = ['--test-dir', folder, '--output-on-failure', '--no-tests=ignore', ...select];
  const status = await run('ctest', [...args, '--output-junit', report], { check: false, env });
  const xml = existsSync(report) ? readFileSync(report, 'utf8') : '';
  const [all, failed] = ['tests', 'failures'].map((name) =>
    Number(new RegExp(`<testsuite[^>]*\\s${name}="(\\d+)"`).exec(xml)?.[1]),
  );
  // It may also have ended before it could count.
  return Number.isNaN(all + failed) || (status === 0) !== (failed === 0)
    ? { passed: 0, failed: 1 }
    : { passed: all - failed, failed };
}

/**
 * ava's marks of tests that passed, whose number it leaves out when another failed, and its closing lines: "1 test failed",
 * "2 tests skipped", "1 uncaught exception".
 */
function avaCounts(output) {
  // eslint-disable-next-line no-control-regex -- ava colours its output
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '');
  const count = (pattern) =>
    [...plain.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
  return {
    passed: [...plain.matchAll(/^\s*✔ /gm)].length,
    failed:
      count(/^\s*(\d+) (?:tests?|hooks?|known failures?) failed$/gm) +
      count(/^\s*(\d+) (?:uncaught exceptions?|unhandled rejections?)$/gm),
    skipped: count(/^\s*(\d+) tests? skipped$/gm),
  };
}

export function conclude(passed, failed, skipped) {
  const rest = skipped > 0 ? `, ${skipped} skipped` : '';
  process.stdout.write(`\n${passed} passed, ${failed} failed${rest}\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}

/** The checks of the sources: a name, and what Node is called with, once or more. */
export const sourceChecks = [
  ['types', () => [[inPackages('typescript/bin/tsc'), '--noEmit', '-p', 'tsconfig.json']]],
  ['lint', () => [[inPackages('eslint/bin/eslint.js'), '--max-warnings=0', '.']]],
  [
    'format',
    () => [
      [inPackages('prettier/bin/prettier.cjs'), '--check', '.'],
      [inPackages('clang-format/index.js'), '--dry-run', '-Werror', ...nativeSources()],
    ],
  ],
  ['directions', () => [['scripts/check-directions.mjs']]],
];

/** Runs every check of the sources, whatever the others find; returns the names of those that passed and failed. */
async function checkSources() {
  const passed = [];
  const failed = [];
  for (const [name, calls] of sourceChecks) {
    try {
      for (const args of calls()) await run(process.execPath, args);
      passed.push(name);
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      failed.push(name);
    }
  }
  return { passed, failed };
}

export async function lint() {
  await buildTypeScript(); // types of tests that import the package by its name
  const { failed } = await checkSources();
  if (failed.length > 0) throw new SetupError(`Lint found something: ${failed.join(', ')}.`);
  say('Lint: nothing to report');
}

export async function format() {
  await ensurePackages();
  await runPackage('prettier/bin/prettier.cjs', ['--write', '--log-level=warn', '.']);
  await runPackage('clang-format/index.js', ['-i', ...nativeSources()]);
}

function inPackages(bin) {
  return path.join(root, 'node_modules', bin);
}

function nativeSources() {
  return ['native', 'bench/native', 'bench/gpu'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(cpp|h|cu|cuh)$/.test(name) && !name.startsWith('third_party'))
      .map((name) => path.join(folder, name)),
  );
}
