/**
 * Rankers that convolutional.py trains in PyTorch: whether a convolutional network of equal cost is better than the small ViT. They
 * see the crops, flips and maps that `ltrp train` gives the base, in the same batches.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../../bench/command-line.js';
import { PictureDecoder } from '../../lib/data/decoder.js';
import { openScores, type OpenedScores } from '../../lib/data/stored-scores.js';
import type { NativeScoredCrop } from '../../lib/native/binding.js';
import { loadCore } from '../../lib/native/loader.js';
import { rankerPresets } from '../../lib/training/presets.js';
import { batchSize, learningRate, onPictures, storedMaps, warmupOf } from './rankers.js';
import type { Picture } from '../evaluate/pictures.js';
import type { RankerRow, Row } from './rows.js';
import { patch, size, type Found, type Study } from './study.js';

/** What convolutional.py reads of task.json; the file says what lies beside it. */
export interface Task {
  network: NonNullable<RankerRow['settings']['pytorch']>;
  /** Geometry of the ViT. */
  vit: { dim: number; depth: number; heads: number; mlpDim: number };
  /** Pixels a side, of crops and pictures. */
  side: number;
  patch: number;
  mean: readonly number[];
  std: readonly number[];
  /** Number of them. */
  crops: number;
  pictures: number;
  steps: number;
  batch: number;
  learningRate: number;
  warmup: number;
  weightDecay: number;
  smoothing: number;
  seed: number;
}

/** What it writes to figures.json. */
export interface Figures {
  gigaflops: number;
  /** Of all steps. */
  seconds: number;
  /** Weights and whatever else a file of the model would have. */
  values: number;
}

/** Defaults of `ltrp train`, which trains the base. */
const weightDecay = 0.06;
const seed = 0;

export const needsPyTorch = (row: Row): boolean =>
  row.half === 'ranker' && row.settings.pytorch !== undefined;

export async function measureWithPyTorch(
  row: RankerRow,
  study: Study,
): Promise<Omit<Found, 'row' | 'about'>> {
  const { pytorch: network = 'ViT', rounds, smoothing, dim } = row.settings;
  const { steps, out } = study;
  const folder = join(out, 'pytorch');
  mkdirSync(folder, { recursive: true });
  const scores = await openScores(storedMaps(rounds, study), {
    core: await loadCore(),
    valShare: 0,
    signal: new AbortController().signal,
  });
  await writeCrops(scores, folder);
  const { dataset } = scores.training;
  const order = Int32Array.from({ length: steps * batchSize }, (_, i) => dataset.at(i, seed));
  writeFileSync(join(folder, 'order.i32'), order);
  const pictures = [...study.labelled.map(({ picture }) => picture), ...study.judged];
  await writeFile(
    join(folder, 'pictures.u8'),
    pictures.map(({ pixels }) => pixels),
  );
  const { mean, std } = scores.store.manifest.model;
  const { logits, figures } = trainAndRank(folder, {
    network,
    vit: { ...rankerPresets.tiny, dim },
    ...{ side: size, patch, mean, std, crops: dataset.size, pictures: pictures.length },
    ...{ steps, batch: batchSize, learningRate, warmup: warmupOf(steps) },
    ...{ weightDecay, smoothing, seed },
  });
  const patches = (size / patch) ** 2;
  const mapOf = (picture: Picture): Promise<Float64Array> => {
    const first = pictures.indexOf(picture) * patches;
    return Promise.resolve(Float64Array.from(logits.subarray(first, first + patches)));
  };
  return {
    ...(await onPictures(row, mapOf, study)),
    cost: {
      trainingSeconds: figures.seconds,
      gigaflops: figures.gigaflops,
      megabytes: (2 * figures.values) / 1e6, // float16, as `ltrp train` writes it
    },
  };
}

/** Runs convolutional.py on a folder that has all it reads but the task. */
export function trainAndRank(
  folder: string,
  task: Task,
): { logits: Float32Array; figures: Figures } {
  writeFileSync(join(folder, 'task.json'), `${JSON.stringify(task, null, 2)}\n`);
  const program = fileURLToPath(new URL('convolutional.py', import.meta.url));
  const { status, signal } = spawnSync('python3', [program, folder], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new UsageError(`convolutional.py ended with ${signal ?? status}`);
  const { buffer, byteOffset, length } = readFileSync(join(folder, 'logits.f32'));
  return {
    // A copy: where the bytes begin need not suit floats.
    logits: new Float32Array(buffer.slice(byteOffset, byteOffset + length)),
    figures: JSON.parse(readFileSync(join(folder, 'figures.json'), 'utf8')) as Figures,
  };
}

/** crops.i32, pixels.u8 and maps.f32. Nothing is resized here: sharp enlarges half a pixel beside the core. */
async function writeCrops({ store, training }: OpenedScores, folder: string): Promise<void> {
  const { dataset, complete } = training;
  const decoder = new PictureDecoder({
    shortSide: store.manifest.decodeSize,
    ...{ cacheBytes: 0, concurrency: 1, digests: true },
  });
  const crops: number[] = [];
  const maps: Float32Array[] = [];
  const pixels = async function* () {
    for (const [i, path] of dataset.files.entries()) {
      const picture = await complete(await decoder.decode(path), i);
      const { top, left, height, width, flip, scores } = picture.scored as NativeScoredCrop;
      crops.push(picture.height, picture.width, top, left, height, width, Number(flip));
      maps.push(scores);
      yield picture.pixels;
    }
  };
  await writeFile(join(folder, 'pixels.u8'), pixels());
  await writeFile(join(folder, 'crops.i32'), Int32Array.from(crops));
  await writeFile(join(folder, 'maps.f32'), maps);
}
