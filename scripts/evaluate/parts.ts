/**
 * Which photographs are for what. The rule stands here and nowhere else:
 *
 * - `imagenette/train`, `food` and those of `in1k` that are not held out are for training.
 * - `coco`, `imagenette/val` and the held-out part of `in1k` are never trained on. Two fifths of them are for choosing
 *   (validation), the others for published figures (test).
 *
 * Both choices are made by the SHA-256 of the file name without its folder: its first 32 bits over 2^32 are below 0.4 for
 * validation, its second 32 bits over 2^32 below 0.3 for what `in1k` holds out.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';

export const parts = ['training', 'validation', 'test'] as const;
export type Part = (typeof parts)[number];

/** Folders of photographs below the one given, and whether they are trained on. */
const sets = [
  { folder: 'coco/images', training: 'none' },
  { folder: 'food/images', training: 'all' },
  { folder: 'imagenette/train', training: 'all' },
  { folder: 'imagenette/val', training: 'none' },
  { folder: 'in1k', training: 'some' },
] as const;

export type SetFolder = (typeof sets)[number]['folder'];

/** What a photograph of this set and name is for. */
export function partOf(folder: SetFolder, file: string): Part {
  const digest = createHash('sha256').update(basename(file)).digest();
  const share = (word: number): number => digest.readUInt32BE(4 * word) / 2 ** 32;
  const training = sets.find((set) => set.folder === folder)?.training;
  if (training === 'all' || (training === 'some' && share(1) >= 0.3)) return 'training';
  return share(0) < 0.4 ? 'validation' : 'test';
}

/** The photographs of a part of one set, ordered by path; empty where the set is not there. */
export function photographsOf(root: string, folder: SetFolder, part: Part): string[] {
  const absolute = join(root, folder);
  if (!existsSync(absolute)) return [];
  return readdirSync(absolute, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.jpe?g$/i.test(name) && partOf(folder, name) === part)
    .sort()
    .map((name) => join(absolute, name));
}

/** The photographs of a part of every set. */
export function allPhotographsOf(root: string, part: Part): string[] {
  return sets.flatMap(({ folder }) => photographsOf(root, folder, part));
}
