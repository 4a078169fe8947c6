#!/usr/bin/env node
/**
 * Brings whatever a command of the project needs, then runs it: npm packages, TypeScript, LibTorch, the native addon.
 * Plain Node without dependencies, because it is what installs them. Every step looks first whether there is work.
 *
 *   node scripts/setup.mjs build | ts | native | demo | test | test-native | test-sanitize | bench | bench-native | lint | format
 */
import { bench } from './setup/bench.mjs';
import { demo, format, lint, test, testNative, testSanitize } from './setup/commands.mjs';
import { buildBenchHelper, ensureNative } from './setup/native.mjs';
import { ensurePackages } from './setup/packages.mjs';
import { fail, SetupError } from './setup/say.mjs';
import { buildTypeScript } from './setup/typescript.mjs';

const commands = {
  build: async () => {
    await ensurePackages();
    await buildTypeScript();
    await ensureNative();
  },
  ts: async () => {
    await ensurePackages();
    await buildTypeScript();
  },
  native: async () => {
    await ensurePackages();
    await buildTypeScript();
    await ensureNative();
  },
  demo,
  test,
  'test-native': testNative,
  'test-sanitize': testSanitize,
  bench,
  'bench-native': async () => {
    await ensurePackages();
    await buildTypeScript();
    await buildBenchHelper();
  },
  lint,
  format,
};

const [name = 'build', ...rest] = process.argv.slice(2);
const command = commands[name];
if (command === undefined) {
  fail(`There is no command "${name}". Commands: ${Object.keys(commands).join(', ')}.`);
  process.exitCode = 2;
} else {
  try {
    await command(rest);
  } catch (error) {
    if (!(error instanceof SetupError) && error?.name !== 'LtrpError') throw error;
    fail(error.message);
    process.exitCode = error.exitCode ?? 1;
  }
}
