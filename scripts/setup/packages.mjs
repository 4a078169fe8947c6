/** npm packages: installed when missing or older than the lockfile. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root, runNpm, SetupError, step } from './say.mjs';

export async function ensurePackages() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 15) || major === 21 || (major === 22 && minor < 2)) {
    throw new SetupError(
      `Node ${process.versions.node} is too old; ltrp needs 20.15 or newer; of 22, 22.2.`,
    );
  }
  if (isCurrent(root)) return;
  await step('Installing npm packages (npm ci)', () => install([]));
}

/**
 * Peers and drawing tools of the benchmark, in a separate package (bench/package.json). Install scripts are not
 * run: onnxruntime-node's would fetch a CUDA build, its CPU library is in the package.
 */
export async function ensureBenchPackages() {
  const folder = path.join(root, 'bench');
  if (isCurrent(folder)) return;
  const packages = Object.keys(readJson(path.join(folder, 'package.json')).dependencies);
  await step(`Installing ${packages.join(', ')} into bench/node_modules (800 MB)`, () =>
    install(['--prefix', folder, '--ignore-scripts']),
  );
}

export const install = (more) => runNpm(['ci', '--no-audit', '--no-fund', ...more]);

/**
 * npm writes what it installed to node_modules/.package-lock.json. Comparing the entries tells a changed lockfile from
 * one that only has a newer date (a fresh checkout).
 */
export function isCurrent(folder) {
  const installedFile = path.join(folder, 'node_modules', '.package-lock.json');
  if (!existsSync(installedFile)) return false;
  const installed = readJson(installedFile).packages;
  const wanted = readJson(path.join(folder, 'package-lock.json')).packages;
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === '') return true;
    const present = installed[name];
    if (present === undefined) return entry.optional === true; // for another platform
    return present.version === entry.version && present.integrity === entry.integrity;
  });
}

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}
