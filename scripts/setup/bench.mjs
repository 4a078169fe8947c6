/** `npm run bench`: builds everything it measures, installs the peers, runs bench/main.ts. */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildBenchHelper, ensureNative } from './native.mjs';
import { ensureBenchPackages, ensurePackages, install, isCurrent } from './packages.mjs';
import { root, run, step } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

/** Arguments after `--` go to the benchmark; what only prints or only writes needs no build. */
export async function bench(args) {
  await ensurePackages();
  if (!args.some((arg) => arg === '--help' || arg === '-h')) {
    await buildTypeScript();
    await buildBenchHelper();
    await ensureBenchPackages();
  }
  const main = path.join('bench', 'main.ts');
  process.exitCode = await run(process.execPath, ['--import=tsx', main, ...args], { check: false });
}

/** `npm run bench:start`: the peers of bench/start/package.json go into the user's cache, without their install scripts. */
export async function benchStart(args) {
  await prepare(args);
  if (!args.includes('--help')) {
    const paths = pathToFileURL(path.join(root, 'dist', 'native', 'paths.js')).href;
    const folder = path.join((await import(paths)).cacheFolder(), 'start');
    mkdirSync(folder, { recursive: true });
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(path.join(root, 'bench', 'start', name), path.join(folder, name));
    }
    if (!isCurrent(folder)) {
      await step(`Installing the peers into ${folder}`, () =>
        install(['--prefix', folder, '--ignore-scripts']),
      );
    }
  }
  const main = path.join('bench', 'start.ts');
  process.exitCode = await run(process.execPath, ['--import=tsx', main, ...args], { check: false });
}

/** `npm run soak`. */
export async function soak(args) {
  await prepare(args);
  const main = ['--expose-gc', '--import=tsx', path.join('bench', 'soak.ts')];
  process.exitCode = await run(process.execPath, [...main, ...args], { check: false });
}

async function prepare(args) {
  await ensurePackages();
  if (args.includes('--help')) return;
  await buildTypeScript();
  await ensureNative();
}
