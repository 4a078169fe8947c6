/**
 * `npm run bench` and `bench:*`, `soak`, `evaluate`, `ablations`, `photos`, `scenes`, `cuda:roofline`: build what they measure, install the peers, run a
 * program.
 */
import { buildBenchHelper, ensureNative } from './native.mjs';
import { ensureBenchPackages, ensurePackages } from './packages.mjs';
import { run, say, SetupError } from './say.mjs';

/** Arguments after `--` go to the benchmark; what only prints needs no build. */
export const bench = (args) =>
  measure('bench/main.ts', args, [buildBenchHelper, ensureBenchPackages]);

export const benchStart = (args) =>
  measure('bench/start.ts', args, [ensureNative, ensureBenchPackages]);

export const benchServe = (args) => measure('bench/serve.ts', args, [ensureNative]);

export const benchRanks = (args) => measure('bench/ranks.ts', args, [ensureNative]);

export const benchPlan = (args) =>
  measure('bench/plan.ts', args, [ensureNative, ensureBenchPackages]);

export const benchClassifier = (args) =>
  measure('bench/classifier.ts', args, [ensureNative, ensureBenchPackages]);

export const soak = (args) => measure('bench/soak.ts', args, [ensureNative], ['--expose-gc']);

/** Real photographs, judged by one of the benchmark's packages; or composite scenes. */
export const evaluate = (args) => {
  if (args.some((arg) => arg.startsWith('--squeeze'))) {
    return measure('scripts/evaluate/squeeze.ts', args, [ensureNative, ensureBenchPackages]);
  }
  if (args.includes('--everything')) {
    const needs = args.includes('--list') ? [] : [ensureNative, judgeIfPossible];
    return measure('scripts/evaluate/everything.ts', args, needs);
  }
  for (const program of ['classify', 'unlabelled', 'retention']) {
    if (args.includes(`--${program}`))
      return measure(`scripts/evaluate/${program}.ts`, args, [ensureNative]);
  }
  if (!args.some((arg) => arg.startsWith('--photographs'))) {
    return measure('scripts/evaluate/scenes.mjs', args, [ensureNative]);
  }
  const needs = args.includes('--list') ? [] : [ensureNative, judgeIfPossible];
  return measure('scripts/evaluate/photographs.ts', args, needs);
};

export const ablations = (args) =>
  measure('scripts/ablations/main.ts', args, [ensureNative, judgeIfPossible]);

export const roofline = (args) => measure('scripts/cuda/roofline.ts', args, []);

export const photos = (args) => measure('scripts/photos/fetch.mjs', args, []);

export const scenes = (args) => measure('scripts/photos/scenes.mjs', args, []);

/** What runs the judge. Without it the rest is measured. */
async function judgeIfPossible() {
  try {
    await ensureBenchPackages();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`${error.message} There will be no judge.`);
  }
}

async function measure(program, args, needs, options = []) {
  await ensurePackages();
  if (!args.some((arg) => arg === '--help' || arg === '-h')) {
    for (const need of needs) await need();
  }
  const call = [...options, '--import=tsx', program, ...args];
  process.exitCode = await run(process.execPath, call, { check: false });
}
