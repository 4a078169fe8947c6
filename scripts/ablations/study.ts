/** What all rows share: the pictures that they are measured on, the teacher, and what they found. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { resolveModel } from '../../lib/models.js';
import type { HalvesAgreement } from '../evaluate/agreement.js';
import { hasRuntime, Judge, judges } from '../evaluate/judge.js';
import { sample } from '../evaluate/command.js';
import { keptPatches, topK } from '../evaluate/kept.js';
import { isMeasured, objectPixels, type ObjectPixels } from '../../lib/evaluation/masks.js';
import { instanceRecall, objectRecall } from '../../lib/evaluation/recall.js';
import { labelledPictures } from '../evaluate/instances.js';
import { UsageError } from '../../bench/command-line.js';
import { allPhotographsOf, partOf, photographsOf } from '../evaluate/parts.js';
import { readPicture, type Picture } from '../evaluate/pictures.js';
import { keeps } from '../evaluate/shares.js';
import type { Table } from '../evaluate/table.js';
import { shortDigest } from '../evaluate/teacher-maps.js';
import type { Options } from './options.js';
import type { Row } from './rows.js';

export const size = 224;
export const patch = 16;
const judgeName = 'v2';

export interface LabelledPicture {
  picture: Picture;
  objects: ObjectPixels;
}

export interface Study extends Options {
  teacher: { source: string; digest: string };
  /** Of coco. */
  labelled: readonly LabelledPicture[];
  /** Of imagenette; none without a judge. */
  judged: readonly Picture[];
  judge: Judge | null;
  /** Photographs that rankers learn from. */
  training: readonly string[];
}

/** What a row found, as its file has it. */
export interface Found {
  row: Row;
  /** Of what else the figures are. */
  about: About;
  /** By picture; of rankers also on the judge's pictures. */
  samples: ReturnType<Table['samples']>;
  judged: ReturnType<Table['samples']>;
  halves: HalvesAgreement[];
  cost: MapCost | RankerCost;
}

export interface MapCost {
  secondsPerPicture: number;
}

export interface RankerCost {
  trainingSeconds: number;
  gigaflops: number;
  megabytes: number;
}

export type About = Record<string, string | number | null>;

export async function openStudy(options: Options, say: (text: string) => void): Promise<Study> {
  const { photographs, part, pictures, out } = options;
  if (!existsSync(photographs)) throw new UsageError(`there is no folder ${photographs}`);
  mkdirSync(join(out, 'rows'), { recursive: true });
  const labelled: LabelledPicture[] = [];
  for (const entry of await labelledPictures(join(photographs, 'coco'))) {
    if (labelled.length >= pictures.coco) break;
    if (partOf('coco/images', entry.name) !== part) continue;
    const objects = await objectPixels(entry, [size, size], patch);
    if (!isMeasured(objects)) continue;
    const picture = await readPicture(entry.path, { size, patch, fit: 'stretch' });
    labelled.push({ picture, objects });
  }
  if (labelled.length === 0)
    throw new UsageError(`${photographs} has no pictures of coco of the ${part} part`);
  const withRankers = options.rows.some(({ half }) => half === 'ranker');
  // Absolute, because a list's paths are relative to the folder it is kept in.
  const training = withRankers ? trainingPhotographs(resolve(photographs), options.maps) : [];
  const judge = withRankers ? await openJudge(options, say) : null;
  const paths =
    judge === null
      ? []
      : sample(photographsOf(photographs, 'imagenette/val', part), pictures.imagenette);
  const judged: Picture[] = [];
  for (const path of paths) judged.push(await readPicture(path, { size, patch, fit: 'stretch' }));
  const source = 'tiny';
  const digest = await shortDigest(resolveModel(source, 'mae'));
  return { ...options, teacher: { source, digest }, labelled, judged, judge, training };
}

/** Of the same sets as those of scripts/train-embedded. */
function trainingPhotographs(photographs: string, count: number): string[] {
  const all = allPhotographsOf(photographs, 'training');
  if (all.length === 0) throw new UsageError(`${photographs} has no pictures to train on`);
  return sample(all, count);
}

async function openJudge(
  { photographs, out }: Options,
  say: (text: string) => void,
): Promise<Judge | null> {
  const file = join(photographs, 'judge', judges[judgeName]);
  const missing = !existsSync(file)
    ? `there is no ${file}`
    : !hasRuntime()
      ? 'onnxruntime-node is missing (npm ci --prefix bench --ignore-scripts)'
      : null;
  if (missing === null) return Judge.open(file, out);
  say(`${missing}; nothing is judged`);
  return null;
}

/** Adds what the patches kept by a map contain. */
export async function addRecall(
  table: Table,
  row: string,
  { picture, objects }: LabelledPicture,
  map: Float64Array,
): Promise<void> {
  for (const keep of keeps) {
    const kept = await keptPatches(picture, map, keep, topK);
    const cell = { row, selector: topK.name, keep };
    table.add({ ...cell, measure: 'object recall' }, objectRecall(objects, kept));
    table.add({ ...cell, measure: 'instance recall' }, instanceRecall(objects, kept));
  }
}

/** Twelve digits that tell these words apart from others. */
export function digestOf(...words: unknown[]): string {
  return createHash('sha256').update(JSON.stringify(words)).digest('hex').slice(0, 12);
}
