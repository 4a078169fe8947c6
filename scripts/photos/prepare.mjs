// Copies of the whole photos for training, small enough to decode quickly: short side at most 448, JPEG quality 95.
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { readPhotos } from './lists.mjs';
import { cacheRoot, isMain } from './paths.mjs';

export const preparedFolder = (split) => join(cacheRoot(), `photos-${split}`);

const SHORT_SIDE = 448;

/**
 * Prepares all fetched photos of a split (use `photo`), but none of the demo's for training; returns the folder and the number of
 * files.
 */
export async function preparePhotos(split) {
  const folder = preparedFolder(split);
  mkdirSync(folder, { recursive: true });
  const rows = readPhotos().filter((row) => row.use === 'photo' && row.split === split);
  let count = 0;
  for (const row of rows) {
    const name = [row.package, row.archive, row.path.split('/').pop()].filter(Boolean).join('-');
    const file = join(folder, `${name.replace(/\.[^.]+$/, '')}.jpg`);
    if (split === 'train' && row.label === 'demo') {
      rmSync(file, { force: true }); // earlier versions prepared it
      continue;
    }
    if (!existsSync(row.file)) continue; // of an extra package that was not fetched
    count++;
    if (existsSync(file)) continue;
    await sharp(row.file)
      .rotate()
      .flatten({ background: '#fff' })
      .toColourspace('srgb')
      .resize(SHORT_SIDE, SHORT_SIDE, { fit: 'outside', withoutEnlargement: true })
      .jpeg({ quality: 95 })
      .toFile(`${file}.partial`);
    renameSync(`${file}.partial`, file);
  }
  return { folder, count };
}

if (isMain(import.meta.url)) {
  for (const split of ['train', 'test']) {
    const { folder, count } = await preparePhotos(split);
    console.log(`${count} photos: ${folder}`);
  }
}
