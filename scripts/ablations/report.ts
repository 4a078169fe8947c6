/** results.json and results.md of the rows that were found. */
import { mean } from '../../bench/statistics.js';
import { table as lines } from '../../bench/report/tables.js';
import { digits, signedInterval } from '../../lib/evaluation/points.js';
import { shares } from '../evaluate/markdown.js';
import { keeps } from '../evaluate/shares.js';
import { spearmanBrown } from '../../lib/evaluation/teacher-reference.js';
import { Table, type Difference, type Figure } from '../evaluate/table.js';
import { batchSize, targetRounds } from './rankers.js';
import type { Row } from './rows.js';
import { patch, size, type Found, type MapCost, type RankerCost } from './study.js';

export interface Results {
  command: string;
  processor: string;
  part: string;
  teacher: { source: string; digest: string };
  pictures: { coco: number; instances: number; imagenette: number };
  maps: number;
  steps: number;
  rows: FoundRow[];
  figures: Figure[];
  /** Each row minus its base, on the same pictures. */
  differences: Difference[];
}

interface FoundRow extends Pick<Found, 'row' | 'about' | 'cost'> {
  pictures: number;
  /** Of a map of as many rounds; null for one round. */
  reliability: { correlation: number; tau: number; whole: number } | null;
}

export function resultsOf(
  found: readonly Found[],
  facts: Omit<Results, 'rows' | 'figures' | 'differences'>,
): Results {
  const results: Results = { ...facts, rows: [], figures: [], differences: [] };
  for (const each of found) {
    const { row, about, cost, halves } = each;
    const base = found.find((other) => isReference(other.row, row)) ?? each;
    const correlation = mean(halves.map((half) => half.correlation));
    results.rows.push({
      ...{ row, about, cost, pictures: each.samples[0]?.sample.length ?? 0 },
      reliability:
        halves.length === 0
          ? null
          : {
              correlation,
              tau: mean(halves.map(({ tau }) => tau)),
              whole: spearmanBrown(correlation),
            },
    });
    for (const [set, samples] of [
      ['coco', 'samples'],
      ['imagenette', 'judged'],
    ] as const) {
      const { figures, differences } = compared(set, each[samples], base[samples]);
      results.figures.push(...figures);
      results.differences.push(...differences);
    }
  }
  return results;
}

export const isBase = ({ change }: Row): boolean => Object.keys(change).length === 0;

/** Whether a row is what another is compared with. */
const isReference = (row: Row, { half, against }: Row): boolean =>
  against === undefined ? row.half === half && isBase(row) : row.name === against;

/** A row and what it is compared with, on the pictures of the row. */
function compared(set: string, own: Found['samples'], base: Found['samples']) {
  const table = new Table(set);
  for (const { cell, sample } of own) for (const figure of sample) table.add(cell, figure);
  const figures = table.figures();
  const [row, reference] = [own[0]?.cell.row, base[0]?.cell.row];
  if (reference === undefined || row === reference) return { figures, differences: [] };
  const count = own[0]?.sample.length ?? 0;
  for (const { cell, sample } of base)
    for (const figure of sample.slice(0, count)) table.add(cell, figure);
  const differences = table.differences([reference]).filter((each) => each.row === row);
  return { figures, differences };
}

export function markdown(results: Results): string {
  const { command, processor, part, teacher, pictures, maps, steps } = results;
  const of = (half: Row['half']): FoundRow[] => results.rows.filter(({ row }) => row.half === half);
  const parts = [
    `# Ablations, ${part} part`,
    `\`${command}\` on ${processor}.`,
    `Teacher: ${teacher.source} (SHA-256 ${teacher.digest}...). Pictures: ${pictures.coco} of coco with ${pictures.instances} ` +
      `instances, ${pictures.imagenette} of imagenette; ${size} px, ${patch} px patches.`,
    'Three figures: 25 / 50 / 75% of the patches kept, the highest scores first. In brackets: 95% intervals of a paired ' +
      'bootstrap over pictures. A row differs from its base in what its second column says.',
    ...mapTables(results, of('maps')),
    ...rankerTables(results, of('ranker'), { maps, steps }),
  ];
  return `${parts.join('\n\n')}\n`;
}

function mapTables(results: Results, rows: readonly FoundRow[]): string[] {
  const [base] = rows;
  if (base === undefined) return [];
  return [
    "## The teacher's maps",
    `Base: ${settingsText(base.row.settings)}. Halves: how two maps of half the rounds agree, Spearman's ρ and Kendall's tau; ` +
      "reliability: by Spearman-Brown, of a map of all rounds. Seconds are those of a round times the row's rounds.",
    lines(
      [
        ...['row', 'differs in', 'pictures', 'object recall', 'instance recall'],
        ...['halves, ρ', 'halves, tau', 'reliability', 's a picture'],
      ],
      rows.map((found) => {
        const { row, pictures, reliability, cost } = found;
        return [
          ...[nameOf(row), settingsText(row.change), String(pictures)],
          ...['object recall', 'instance recall'].map((measure) => recall(results, row, measure)),
          ...[reliability?.correlation, reliability?.tau, reliability?.whole].map(digitsOrNone),
          (cost as MapCost).secondsPerPicture.toFixed(2),
        ];
      }),
    ),
    ...differenceTables(results, rows, ['object recall', 'instance recall']),
  ];
}

function rankerTables(
  results: Results,
  rows: readonly FoundRow[],
  { maps, steps }: Pick<Results, 'maps' | 'steps'>,
): string[] {
  const [base] = rows;
  if (base === undefined) return [];
  const judged = results.pictures.imagenette > 0;
  return [
    '## Rankers',
    `Base: ${settingsText(base.row.settings)}. Each learned from ${maps} maps, ${steps} steps of ${batchSize}, one training seed. ` +
      `tau: Kendall's, with the teacher's maps of ${targetRounds} rounds of the same coco pictures. GFLOP: of a picture; MB: of the ` +
      'file; seconds: of the training, without the maps.' +
      (rows.some(({ row }) => 'pytorch' in row.change)
        ? ' With pytorch, PyTorch trained on the same crops, maps and batches; MB: what such a file would have.'
        : '') +
      (judged
        ? ' Judge: share of the pictures of imagenette whose class stays, dropped patches show the mean colour.'
        : ''),
    lines(
      [
        ...['row', 'differs in', 'object recall', 'instance recall', 'tau'],
        ...(judged ? ['judge'] : []),
        ...['GFLOP', 'MB', 'training s'],
      ],
      rows.map(({ row, cost }) => {
        const { gigaflops, megabytes, trainingSeconds } = cost as RankerCost;
        const tau = figureOf(results, row, 'tau', null);
        return [
          ...[nameOf(row), settingsText(row.change)],
          ...['object recall', 'instance recall'].map((measure) => recall(results, row, measure)),
          digitsOrNone(tau),
          ...(judged ? [recall(results, row, 'judge')] : []),
          ...[gigaflops.toFixed(2), megabytes.toFixed(1), trainingSeconds.toFixed(0)],
        ];
      }),
    ),
    ...differenceTables(results, rows, [
      ...['object recall', 'instance recall', 'tau'],
      ...(judged ? ['judge'] : []),
    ]),
  ];
}

/** What rows have more than what they are compared with. */
function differenceTables(
  { differences }: Results,
  rows: readonly FoundRow[],
  measures: readonly string[],
): string[] {
  const shared = measures.flatMap((measure) => {
    const keep = measure === 'tau' ? [null] : keeps;
    return keep.map((share) => ({ measure, share }));
  });
  const body = rows
    .filter(({ row }) => !isBase(row))
    .map(({ row }) => [
      nameOf(row) + (row.against === undefined ? '' : ` minus ${nameOf({ name: row.against })}`),
      ...shared.map(({ measure, share }) => {
        const found = differences.find(
          (each) => each.row === row.name && each.measure === measure && each.keep === share,
        );
        return found === undefined ? '' : signedInterval(found);
      }),
    ]);
  if (body.length === 0) return [];
  const heads = shared.map(({ measure, share }) =>
    share === null ? measure : `${measure}, ${100 * share}%`,
  );
  const others = rows.some(({ row }) => row.against !== undefined);
  return [
    `More than the base${others ? ', or than the row after "minus"' : ''}:`,
    lines(['row', ...heads], body),
  ];
}

function figureOf(
  { figures }: Results,
  row: Row,
  measure: string,
  keep: number | null,
): number | undefined {
  return figures.find(
    (each) => each.row === row.name && each.measure === measure && each.keep === keep,
  )?.value;
}

function recall(results: Results, row: Row, measure: string): string {
  return shares(keeps.map((keep) => figureOf(results, row, measure, keep) ?? NaN));
}

const digitsOrNone = (value: number | undefined): string =>
  value === undefined ? '' : digits(value);

/** Without its half, which the heading says. */
const nameOf = ({ name }: Pick<Row, 'name'>): string => name.slice(name.indexOf('/') + 1);

function settingsText(settings: object): string {
  return Object.entries(settings)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${String(value)}`)
    .join(', ');
}
