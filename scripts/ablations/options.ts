/** What is asked of `npm run ablations`. */
import { join, resolve } from 'node:path';
import { integer, parse, UsageError } from '../../bench/command-line.js';
import { choice } from '../evaluate/command.js';
import { evaluateCache } from '../evaluate/teacher-maps.js';
import { rows, type Row } from './rows.js';

export const help = `npm run ablations -- --photographs FOLDER [options]

What each choice behind the embedded ranker is worth: the teacher's maps with one thing changed at a time (mask ratio, metric, drop,
rounds), and rankers that learned with one thing changed (loss, size, rounds, smoothing, a convolutional network). Some 50 minutes on two
idle cores. The same command goes on after any end. Writes results.json and results.md; the tables also go to standard output.

  --photographs <folder>  with the layout of npm run evaluate
  --part <name>           validation (default; for choosing anything), test (for published figures)
  --maps <n>              photographs that the rankers learn from, at most (default 400)
  --steps <n>             of 32 crops, of each ranker's training (default 400)
  --pictures <n>          of coco and of imagenette that are measured on, at most (default: all of coco, 60 of imagenette)
  --only <name>           a row, or the first words of some, such as maps or ranker/loss; several times for several.
                          What they are compared with is always among them
  --out <folder>          of maps, trainings and results (default: evaluate/ablations in the user's cache)

ranker/vit-pytorch and ranker/convolutional are skipped where python3 has no torch.
Rows: ${rows.map(({ name }) => name).join(', ')}.
`;

export interface Options {
  photographs: string;
  part: 'validation' | 'test';
  maps: number;
  steps: number;
  pictures: { coco: number; imagenette: number };
  rows: readonly Row[];
  out: string;
}

export function readOptions(args: readonly string[]): Options {
  const values = parse(args, {
    photographs: { type: 'string' },
    part: { type: 'string' },
    maps: { type: 'string', default: '400' },
    steps: { type: 'string', default: '400' },
    pictures: { type: 'string' },
    only: { type: 'string', multiple: true },
    out: { type: 'string' },
  });
  if (values.photographs === undefined) throw new UsageError('--photographs needs a folder');
  const pictures = values.pictures === undefined ? null : integer('pictures', values.pictures, 1);
  return {
    photographs: values.photographs,
    part: choice('part', values.part ?? 'validation', ['validation', 'test'] as const),
    maps: integer('maps', values.maps, 1),
    steps: integer('steps', values.steps, 1),
    pictures: { coco: pictures ?? Infinity, imagenette: pictures ?? 60 },
    rows: chosen(values.only ?? []),
    out: resolve(values.out ?? join(evaluateCache(), 'ablations')),
  };
}

/** Rows of these names or beginnings of names, and what they are compared with. */
function chosen(names: readonly string[]): readonly Row[] {
  if (names.length === 0) return rows;
  const named = (row: Row, name: string): boolean =>
    row.name === name || ['/', '-'].some((end) => row.name.startsWith(name + end));
  for (const name of names) {
    if (!rows.some((row) => named(row, name))) {
      const all = rows.map((row) => row.name).join(', ');
      throw new UsageError(`--only knows no row ${name}; there are ${all}`);
    }
  }
  const wanted = rows.filter((row) => names.some((name) => named(row, name)));
  const halves = new Set(wanted.map(({ half }) => half));
  const references = new Set(wanted.map(({ against }) => against));
  return rows.filter(
    (row) =>
      wanted.includes(row) ||
      references.has(row.name) ||
      (halves.has(row.half) && Object.keys(row.change).length === 0),
  );
}
