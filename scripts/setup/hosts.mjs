/**
 * `npm run test:hosts`: the package, installed from its tarball, in the programs that people run it in. Fetches Node's releases, Bun and a bundler into the
 * user's cache (250 MB, versions and hashes pinned by scripts/hosts/package-lock.json); what cannot be fetched is skipped visibly.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { conclude, runAva } from './commands.mjs';
import { ensureNative } from './native.mjs';
import { makePackages } from './package.mjs';
import { install, isCurrent } from './packages.mjs';
import { root, say, SetupError, step } from './say.mjs';
import { importBuilt } from './typescript.mjs';

/** Arguments after `--` go to ava. */
export async function testHosts(args) {
  await ensureNative();
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const tarball = path.join(root, 'build', 'packages', `ltrp-${version}.tgz`);
  if (!existsSync(tarball)) await makePackages([]);
  const { mtime } = statSync(tarball);
  say(`Testing the package of ${mtime.toISOString()}; npm run test:install makes it anew.`);
  await fetchHosts();
  const ava = await runAva(args.length > 0 ? args : ['test/hosts/*.test.ts']);
  conclude(ava.passed, ava.failed, ava.skipped);
}

async function fetchHosts() {
  const { cacheFolder } = await importBuilt('libtorch/folders.js');
  const folder = path.join(cacheFolder(), 'hosts');
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'package-lock.json']) {
    copyFileSync(path.join(root, 'scripts', 'hosts', name), path.join(folder, name));
  }
  if (isCurrent(folder)) return;
  try {
    await step(`Fetching Node's releases, Bun and esbuild into ${folder}`, () =>
      install(['--prefix', folder, '--ignore-scripts']),
    );
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`${error.message} What is not in ${folder} is skipped.`);
  }
}
