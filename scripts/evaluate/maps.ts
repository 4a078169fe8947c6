/** Every row of the tables: the score maps of one picture by rankers, teachers and heuristics. */
import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { mulberry32 } from '../../lib/evaluation/random.js';
import { PatchRanker } from '../../lib/index.js';
import { heuristics, rankSum, type Heuristics } from './heuristics.js';
import type { Picture } from './pictures.js';
import type { CachedTeacher, TeacherMaps } from './teacher-maps.js';

/** A score map [L] by the name of its row, in the order of the tables. */
export type Maps = ReadonlyMap<string, Float64Array>;

export interface NamedRanker {
  name: string;
  ranker: PatchRanker;
}

export interface NamedTeacher {
  name: string;
  teacher: CachedTeacher;
}

/** `tiny`, or what tells a file or folder apart from others: `runs/a/model.safetensors` is `a`. */
export function modelName(source: string): string {
  const name = basename(source).replace(/\.(safetensors|pth|pt|bin)$/, '');
  return name === 'model' ? basename(dirname(source)) : name;
}

/** Rows that are no model's. */
export const singles = ['centre', 'gradient', 'variance', 'contrast'] as const;
const weights: Readonly<Record<string, readonly (readonly [keyof Heuristics, number])[]>> = {
  'gradient + centre': [
    ['gradient', 1],
    ['centre', 1],
  ],
  'variance + centre': [
    ['variance', 1],
    ['centre', 1],
  ],
  'contrast + centre': [
    ['contrast', 1],
    ['centre', 1],
  ],
  'variance + centre - 0.7 lightness': [
    ['variance', 1],
    ['centre', 1],
    ['lightness', -0.7],
  ],
};
export const sums = Object.keys(weights);

/** The row of a ranker with `prior: 'centre'`. */
export const withCentre = (ranker: string): string => `${ranker} + centre`;

/** The row of a teacher. */
const teacherRow = (teacher: string, rounds: number): string => `${teacher}, ${rounds} rounds`;

export async function allMaps(
  picture: Picture,
  rankers: readonly NamedRanker[],
  teachers: readonly { name: string; maps: TeacherMaps }[],
): Promise<Maps> {
  const maps = new Map<string, Float64Array>();
  const plain = heuristics(picture);
  for (const { name, ranker } of rankers) {
    for (const [row, prior] of [
      [name, 'none'],
      [withCentre(name), 'centre'],
    ] as const) {
      maps.set(row, Float64Array.from((await ranker.rank(picture.images, { prior })).logits));
    }
  }
  for (const { name, maps: ofTeacher } of teachers) {
    for (const [rounds, map] of ofTeacher.mean) maps.set(teacherRow(name, rounds), map);
  }
  for (const name of singles) maps.set(name, plain[name]);
  for (const [row, terms] of Object.entries(weights)) {
    maps.set(row, rankSum(...terms.map(([name, weight]) => [plain[name], weight] as const)));
  }
  maps.set('random', randomMap(picture));
  return maps;
}

function randomMap({ digest, patches }: Picture): Float64Array {
  const seed = createHash('sha256').update(digest).digest().readInt32BE();
  const random = mulberry32(seed);
  return Float64Array.from({ length: patches }, random);
}
