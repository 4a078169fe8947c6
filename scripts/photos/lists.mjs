import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { photosRoot } from './paths.mjs';

/** Packages that are only needed with --extra; the others are the core set. */
export const extraPackages = ['mate-backgrounds', 'lxqt-themes', 'python3-skimage'];

function readTable(name) {
  const lines = readFileSync(new URL(name, import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
  const columns = lines[0].split('\t');
  return lines.slice(1).map((line) => {
    const values = line.split('\t');
    return Object.fromEntries(columns.map((column, i) => [column, values[i] ?? '']));
  });
}

/** Where the fetched file of a row lies in the cache. */
export function rowPath(row) {
  return join(photosRoot(), 'files', row.package, ...(row.archive ? [row.archive] : []), row.path);
}

/** Photographic cut-outs with alpha: package, archive, path, category, object, split, frames. */
export function readObjects() {
  return readTable('objects.tsv').map((row) => ({
    ...row,
    frames: Number(row.frames),
    file: rowPath(row),
  }));
}

/** Whole photos: package, archive, path, use (photo or bg), label, split, set (core or extra), width, height. */
export function readPhotos() {
  return readTable('photos.tsv').map((row) => ({
    ...row,
    width: Number(row.width),
    height: Number(row.height),
    file: rowPath(row),
  }));
}
