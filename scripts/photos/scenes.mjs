// Makes composite scenes into the user's cache: images/NNNNNN.jpg, masks/NNNNNN.png, index.jsonl. Resumable; seeded.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { Sprites, composeScene, loadMaterial } from './compose.mjs';
import { isMain, scenesRoot } from './paths.mjs';

/** Standard sets: what the model card's figures were made with. */
export const seeds = { train: 1, val: 2, test: 3 };

/** The folder of a set: the count is not part of it, so that a set can be made longer later. */
export function scenesFolder({ split, size, seed = seeds[split], extra = false }) {
  return join(scenesRoot(), `${split}-${size}-seed${seed}${extra ? '-extra' : ''}`);
}

const fileName = (index, extension) => `${String(index).padStart(6, '0')}.${extension}`;

function readEntries(file) {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return []; // the last line of a run that was killed
    }
  });
}

/** The entries of a set: index entry plus absolute image and mask paths. Throws where scenes are missing. */
export function readScenes(folder, count) {
  const entries = readEntries(join(folder, 'index.jsonl'));
  if (entries.length < count) {
    throw new Error(
      `${folder} has ${entries.length} scenes, ${count} are asked for; make them with scripts/photos/scenes.mjs`,
    );
  }
  return entries.slice(0, count).map((entry) => ({
    ...entry,
    image: join(folder, 'images', fileName(entry.index, 'jpg')),
    mask: join(folder, 'masks', fileName(entry.index, 'png')),
  }));
}

/** Makes what is missing of `count` scenes and returns the folder. */
export async function makeScenes({
  split,
  size,
  count,
  seed = seeds[split],
  extra = false,
  onProgress,
}) {
  const folder = scenesFolder({ split, size, seed, extra });
  for (const name of ['images', 'masks']) mkdirSync(join(folder, name), { recursive: true });
  const index = join(folder, 'index.jsonl');
  const journal = join(folder, 'index.partial.jsonl');
  const done = new Map(
    [...readEntries(index), ...readEntries(journal)].map((entry) => [entry.index, entry]),
  );
  const isWhole = !existsSync(journal);
  const missing = [];
  for (let i = 0; i < count; i++) if (!done.has(i)) missing.push(i);
  if (missing.length === 0 && isWhole) return folder;

  const material = loadMaterial(split, { extra });
  const sprites = new Sprites(size);
  let made = 0;
  const worker = async () => {
    for (let i = missing.shift(); i !== undefined; i = missing.shift()) {
      const scene = await composeScene(material, sprites, { size, split, seed, index: i });
      await writeAtomic(join(folder, 'images', fileName(i, 'jpg')), scene.image);
      await writeAtomic(join(folder, 'masks', fileName(i, 'png')), scene.mask);
      done.set(i, scene.entry);
      appendFileSync(journal, `${JSON.stringify(scene.entry)}\n`);
      onProgress?.(++made, done.size);
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  const entries = [...done.values()].sort((a, b) => a.index - b.index);
  writeFileSync(`${index}.partial`, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  renameSync(`${index}.partial`, index);
  rmSync(journal, { force: true });
  return folder;
}

async function writeAtomic(file, bytes) {
  await writeFile(`${file}.partial`, bytes);
  await rename(`${file}.partial`, file);
}

async function main() {
  const { values } = parseArgs({
    options: {
      split: { type: 'string', default: 'test' },
      size: { type: 'string', default: '224' },
      count: { type: 'string', default: '600' },
      seed: { type: 'string' },
      extra: { type: 'boolean', default: false },
      help: { type: 'boolean' },
    },
  });
  const [size, count] = [Number(values.size), Number(values.count)];
  const seed = values.seed === undefined ? seeds[values.split] : Number(values.seed);
  if (
    values.help ||
    !(values.split in seeds) ||
    !(size >= 32) ||
    !(count >= 1) ||
    !Number.isInteger(seed)
  ) {
    console.log(`node scripts/photos/scenes.mjs [--split train|val|test] [--size 224] [--count 600] [--seed N] [--extra]

Makes composite scenes of the fetched cut-outs and backgrounds into ${scenesRoot()}.
--extra adds the four small categories and the backgrounds of the extra packages.`);
    process.exit(values.help ? 0 : 2);
  }
  sharp.concurrency(1);
  sharp.cache(false);
  const start = performance.now();
  let shown = 0;
  const folder = await makeScenes({
    split: values.split,
    size,
    count,
    seed,
    extra: values.extra,
    onProgress: (made, total) => {
      if (performance.now() - shown < 5000) return;
      shown = performance.now();
      console.log(
        `${total} of ${count} scenes, ${((made * 1000) / (shown - start)).toFixed(0)} a second`,
      );
    },
  });
  console.log(`${count} scenes: ${folder}`);
}

if (isMain(import.meta.url)) await main();
