/** Which photographs there are, in which order, and lists of them. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { root, shortDigest } from './runs.mjs';

/** Whether npm run evaluate knows which photographs of a folder are for what. */
export const hasLayout = (folder) => existsSync(join(folder, 'photographs.tsv'));

/**
 * Paths of all photographs in the folders, the same order every time: that of hashes of their names, so that the first ones are
 * spread over all folders. Of other hashes than those by which `ltrp train` holds pictures out, or a small sample would be nothing
 * else.
 */
export function photographsOf(folders) {
  const places = new Map();
  for (const path of folders.flatMap(inFolder)) {
    const hash = createHash('sha256')
      .update(`sample ${basename(path)}`)
      .digest('hex');
    places.set(path, `${hash} ${path}`);
  }
  if (places.size === 0) throw new Error('There are no photographs in --data.');
  return [...places.keys()].sort((a, b) => (places.get(a) < places.get(b) ? -1 : 1));
}

function inFolder(folder) {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new Error(`--data must name folders; there is no folder ${folder}.`);
  if (hasLayout(folder)) return trainingPart(folder);
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(jpe?g|png|webp)$/i.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

function trainingPart(folder) {
  const args = ['--photographs', folder, '--part', 'training', '--list'];
  const listed = spawnSync(
    process.execPath,
    ['--import=tsx', 'scripts/evaluate/photographs.ts', ...args],
    { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (listed.status !== 0) throw new Error(listed.stderr.trim());
  return listed.stdout.split('\n').filter((line) => line !== '');
}

/** Without the last twentieth, 128 at most, and these. */
export function heldOut(photographs) {
  if (photographs.length < 2)
    throw new Error('A teacher needs two photographs at least, one of them to validate with.');
  const count = Math.min(128, Math.max(1, Math.round(photographs.length / 20)));
  return { training: photographs.slice(0, -count), held: photographs.slice(-count) };
}

/** A list as `ltrp` takes it, and what tells it apart: the names that `ltrp` itself compares, relative to the list. */
export function writeList(runs, photographs) {
  const names = photographs.map((path) => relative(runs, path));
  const digest = shortDigest(names);
  const file = join(runs, `photographs-${digest}.txt`);
  writeFileSync(file, `${names.join('\n')}\n`);
  return { file, digest };
}
