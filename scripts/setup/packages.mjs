/** npm packages: installed when missing or older than the lockfile. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root, run, SetupError, step } from './say.mjs';

export async function ensurePackages() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 15)) {
    throw new SetupError(`Node ${process.versions.node} is too old; ltrp needs 20.15 or newer.`);
  }
  if (isCurrent()) return;
  await step('Installing npm packages (npm ci)', async () => {
    // npm's own copy of npm-cli.js is used when npm started us, so that no other npm on the PATH interferes.
    const cli = process.env.npm_execpath;
    const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
    if (cli?.endsWith('npm-cli.js')) await run(process.execPath, [cli, ...args], { quiet: true });
    else await run('npm', args, { quiet: true });
  });
}

/**
 * npm writes what it installed to node_modules/.package-lock.json. Comparing the entries tells a changed lockfile from
 * one that only has a newer date (a fresh checkout).
 */
function isCurrent() {
  const installedFile = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedFile)) return false;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === '') return true;
    const present = installed[name];
    if (present === undefined) return entry.optional === true; // for another platform
    return present.version === entry.version && present.integrity === entry.integrity;
  });
}
