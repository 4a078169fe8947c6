/** `npm run bench`: builds everything it measures, installs the peers, runs bench/main.ts. */
import path from 'node:path';
import { buildBenchHelper } from './native.mjs';
import { ensureBenchPackages, ensurePackages } from './packages.mjs';
import { run } from './say.mjs';
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
