#!/usr/bin/env node
/**
 * Brings whatever a command of the project needs, then runs it: npm packages, TypeScript, LibTorch, the native addon.
 * Plain Node without dependencies, because it installs them. Every step first checks whether there is work.
 *
 *   node scripts/setup.mjs build [--cuda [--arch 90,100 | native | all] [--build-only]]
 *   node scripts/setup.mjs package [--cuda [--arch ...]]
 *   node scripts/setup.mjs ts | native | demo | test | test-native | test-sanitize | test-processors | test-cuda | test-install | test-hosts
 *                          | cuda-tools | cuda-resources | cuda-roofline | bench | bench-native | bench-classifier | bench-plan | bench-ranks | bench-serve | bench-start | soak | evaluate | ablations
 *                          | photos | scenes | docs | lint | format
 *                          | release-check
 */
import {
  ablations,
  bench,
  benchClassifier,
  benchPlan,
  benchRanks,
  benchServe,
  benchStart,
  evaluate,
  photos,
  roofline,
  scenes,
  soak,
} from './setup/bench.mjs';
import {
  demo,
  format,
  lint,
  test,
  testNative,
  testOtherProcessors,
  testSanitize,
} from './setup/commands.mjs';
import { printResources, testCuda } from './setup/cuda-tests.mjs';
import { ensureCudaTools } from './setup/cuda-tools.mjs';
import { ensureCuda, parseBuildOptions } from './setup/cuda.mjs';
import { makeDocs } from './setup/docs.mjs';
import { testHosts } from './setup/hosts.mjs';
import { buildBenchHelper, ensureNative } from './setup/native.mjs';
import { testInstall } from './setup/install-tests.mjs';
import { makePackages } from './setup/package.mjs';
import { releaseCheck } from './setup/release.mjs';
import { say, SetupError } from './setup/say.mjs';
import { buildTypeScript } from './setup/typescript.mjs';

const commands = {
  build: async (args) => {
    const options = parseBuildOptions(args);
    if (options.cuda) await ensureCuda(options);
    else await ensureNative();
  },
  ts: buildTypeScript,
  native: ensureNative,
  package: makePackages,
  demo,
  test,
  'test-native': testNative,
  'test-sanitize': testSanitize,
  'test-processors': testOtherProcessors,
  'test-cuda': testCuda,
  'test-hosts': testHosts,
  'test-install': testInstall,
  'cuda-tools': ensureCudaTools,
  'cuda-resources': printResources,
  'cuda-roofline': roofline,
  bench,
  'bench-classifier': benchClassifier,
  'bench-plan': benchPlan,
  'bench-ranks': benchRanks,
  'bench-serve': benchServe,
  'bench-start': benchStart,
  soak,
  evaluate,
  ablations,
  photos,
  scenes,
  'bench-native': buildBenchHelper,
  docs: makeDocs,
  'release-check': releaseCheck,
  lint,
  format,
};

const [name = 'build', ...rest] = process.argv.slice(2);
const command = commands[name];
if (command === undefined) {
  say(`There is no command "${name}". Commands: ${Object.keys(commands).join(', ')}.`);
  process.exitCode = 2;
} else {
  try {
    await command(rest);
  } catch (error) {
    if (!(error instanceof SetupError) && error?.name !== 'LtrpError') throw error;
    say(error.message);
    process.exitCode = error.exitCode ?? 1;
  }
}
