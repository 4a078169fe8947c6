/**
 * No termination of a worker may end the process: workers that open one of the two binaries are terminated at a random moment
 * of that. `npm run release:check` demands 10,000 of each (LTRP_TERMINATIONS); here as many as a few seconds allow.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { loadCore, loadedCore } from '../lib/native/loader.js';
import { bootstrapFile } from '../lib/native/paths.js';
import { repository } from './support/paths.js';

const run = promisify(execFile);
const demanded = Number(process.env['LTRP_TERMINATIONS'] ?? 0);

/** How many workers were terminated; rejects when the process did not live to say so. */
async function terminations(
  file: string,
  milliseconds: number,
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  const [seconds, count] = demanded > 0 ? [3600, demanded] : [6, 1e6];
  const program = join(repository, 'test', 'support', 'terminations.mjs');
  const { stdout } = await run(
    process.execPath,
    [program, file, String(seconds), String(count), String(milliseconds)],
    { env: { ...process.env, ...env } },
  );
  return Number(stdout);
}

// The moments are spread over about the time that registering takes.
test.serial('workers terminated while the bootstrap registers itself', async (t) => {
  t.timeout(4_000_000);
  const count = await terminations(bootstrapFile() ?? '', 0.4);
  t.log(`${count} terminations`);
  t.true(count >= Math.max(demanded, 20), String(count));
});

test.serial('workers terminated while the core registers itself, and in calls', async (t) => {
  t.timeout(4_000_000);
  await loadCore();
  const index = pathToFileURL(join(repository, 'dist', 'index.js')).href;
  const count = await terminations(loadedCore()?.corePath ?? '', 3, { LTRP_OPEN_FIRST: index });
  t.log(`${count} terminations`);
  t.true(count >= Math.max(demanded, 10), String(count));
});
