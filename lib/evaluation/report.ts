/** The tables of an evaluation, in Markdown. */
import type { SelectorName } from '../selectors.js';
import { labelsWord } from './asked.js';
import type { Measure, StudyFigure } from './figures.js';
import { table } from './markdown.js';
import { digits, moreThan, points, pointsInterval, signedInterval } from './points.js';
import type { PrecisionResults } from './precision.js';
import type { StudyResults } from './study.js';

export const percentOf = (keep: number): string => `${Number((100 * keep).toFixed(2))}%`;

/** Selectors by a measure at a share, the best first. */
export function bestFirst(
  figures: readonly StudyFigure[],
  measure: Measure,
  keep: number | null,
): SelectorName[] {
  return figures
    .filter((each) => each.measure === measure && each.keep === keep)
    .sort((a, b) => b.value - a.value)
    .map(({ selector }) => selector);
}

/** What is measured by share. */
export const measuresByShare = ({ figures }: Pick<StudyResults, 'figures'>) => [
  ...new Set(
    figures
      .filter(({ keep, measure }) => keep !== null && measure !== 'NDCG')
      .map(({ measure }) => measure),
  ),
];

/** A table for each measure, and what the time went into. Selectors that are best at the smallest share come first. */
export function studyTables(
  results: StudyResults,
  keeps: readonly number[],
  reference: SelectorName,
): string[] {
  const { figures, milliseconds } = results;
  const [smallest = 1] = keeps;
  const blocks = measuresByShare(results).map((measure) => {
    const lines = bestFirst(figures, measure, smallest).map((name) => [
      `\`${name}\``,
      labelsWord(name),
      ...keeps.map((keep) => cell(figures, measure, name, keep)),
      ...(ofClassifier.has(measure)
        ? [(milliseconds.selectors[name] ?? NaN).toFixed(1), ...gigaflopsOf(results, name, keeps)]
        : []),
    ]);
    const costs = ofClassifier.has(measure) ? ['ms a picture', 'GFLOP', 'with classifier'] : [];
    const header = ['selector', 'labels', ...keeps.map(percentOf), ...costs];
    const group = results.precision?.groups.find((each) => each.measure === measure);
    return [
      `${words[measure] ?? measure} by share of the patches that is kept, in percent. In brackets: more than \`${reference}\`, with the 95% interval of ` +
        'a paired bootstrap over pictures. "Labels": whether the selector was trained with labels.' +
        (costs.length > 0
          ? ` Milliseconds and GFLOP are the selector's${everyShare(keeps)}.`
          : '') +
        (group === undefined ? '' : ` ${meanOf(group)}`),
      table(header, lines),
      ...(ofClassifier.has(measure) ? changeTable(figures, measure, keeps) : []),
    ];
  });
  return [
    ...blocks.flat(),
    ...areaTable(figures),
    ...rankTable(results, keeps, reference),
    costOf(results, keeps),
  ];
}

/** What dropping patches costs; nothing where the measure is not known with all patches. */
function changeTable(
  figures: readonly StudyFigure[],
  measure: Measure,
  keeps: readonly number[],
): string[] {
  const changed = figures.filter((each) => each.measure === measure && each.change !== null);
  const shares = keeps.filter((keep) => changed.some((each) => each.keep === keep));
  const [smallest] = shares;
  if (smallest === undefined) return [];
  const names = bestFirst(changed, measure, smallest);
  const of = (name: SelectorName, keep: number): string => {
    const found = changed.find((each) => each.selector === name && each.keep === keep);
    return found?.change == null ? '' : pointsInterval(found.change);
  };
  return [
    'The same minus that with all patches, on the same pictures:',
    table(
      ['selector', ...shares.map(percentOf)],
      names.map((name) => [`\`${name}\``, ...shares.map((keep) => of(name, keep))]),
    ),
  ];
}

/** Measures of what the classifier answers. */
const ofClassifier: ReadonlySet<Measure> = new Set([
  'accuracy',
  'mAP',
  'mAP, seen',
  'mAP, unseen',
] as const);

const everyShare = (keeps: readonly number[]): string =>
  `, then with the classifier's at ${keeps.map(percentOf).join(' / ')}`;

/** Of a selector, and of it and the classifier; empty where nobody has counted. */
function gigaflopsOf(
  { gigaflops }: StudyResults,
  name: SelectorName,
  keeps: readonly number[],
): [own: string, both: string] {
  const of = gigaflops.selectors[name];
  if (of === undefined) return ['', ''];
  const own = keeps.map((keep) => of[String(keep)] ?? NaN);
  const both = keeps.map(
    (keep, i) => (own[i] as number) + (gigaflops.classifier[String(keep)] ?? NaN),
  );
  // Most compute the same whatever is kept.
  const some = new Set(own).size === 1 ? own.slice(0, 1) : own;
  return [some, both].map((list) => list.map((each) => each.toFixed(2)).join(' / ')) as [
    string,
    string,
  ];
}

function costOf({ milliseconds, gigaflops }: StudyResults, keeps: readonly number[]): string {
  const each = keeps.map((keep) => {
    const [ms, gflop] = [milliseconds.classifier, gigaflops.classifier].map(
      (by) => by[String(keep)] ?? NaN,
    ) as [number, number];
    return `${ms.toFixed(1)} ms and ${gflop.toFixed(2)} GFLOP at ${percentOf(keep)}`;
  });
  return `A picture takes the classifier ${each.join(', ')}. GFLOP: matrix products.`;
}

const words: Partial<Record<Measure, string>> = {
  accuracy: 'Right answers',
  mAP: 'Mean average precision',
  'mAP, seen': 'Mean average precision of seen categories',
  'mAP, unseen': 'Mean average precision of unseen categories',
  'object recall':
    "Object recall, the part of a picture's object pixels that is kept, mean over pictures,",
  'instance recall':
    "Instance recall, the part of an object's pixels that is kept, mean over objects,",
  'instance recall, seen': 'Instance recall of objects of seen categories',
  'instance recall, unseen': 'Instance recall of objects of unseen categories',
  judge: 'Answers of the judge that stay when dropped patches are covered,',
  'mAP change, unseen minus seen':
    "What dropping patches changes of the unseen categories' mean average precision, minus what it changes of the seen ones',",
};

function meanOf({ classes, withoutPositive }: PrecisionResults['groups'][number]): string {
  const without =
    withoutPositive > 0
      ? `; the other ${withoutPositive} are in no picture, or were left out with --categories`
      : '';
  return `Mean over ${classes - withoutPositive} of ${classes} categories${without}.`;
}

function cell(
  figures: readonly StudyFigure[],
  measure: Measure,
  selector: SelectorName,
  keep: number | null,
): string {
  const found = figures.find(
    (each) => each.measure === measure && each.selector === selector && each.keep === keep,
  );
  return found === undefined ? '' : points(found.value) + moreThan(found.more ?? undefined);
}

/** Agreement with the teacher. */
function rankTable(
  { figures, teacher }: StudyResults,
  keeps: readonly number[],
  reference: SelectorName,
): string[] {
  if (teacher === null) return [];
  const [first = 1] = keeps;
  const of = (measure: Measure, selector: SelectorName, keep: number | null): string => {
    const found = figures.find(
      (each) => each.measure === measure && each.selector === selector && each.keep === keep,
    );
    if (found === undefined) return '';
    return digits(found.value) + (found.more === null ? '' : ` (${signedInterval(found.more)})`);
  };
  const { rounds, halves, whole } = teacher;
  return [
    `Agreement with the teacher's scores of ${rounds} rounds, means over pictures: Kendall's tau-b and Spearman's correlation of rankings that do not ` +
      `depend on the share, and NDCG of the patches that are kept. In brackets: more than \`${reference}\`. ` +
      `Two halves of the teacher's rounds correlate by ${digits(halves.spearman.value)} (Spearman; tau-b ${digits(halves.kendallTau.value)}), so ` +
      `its scores would correlate with others of as many rounds by ${digits(whole.value)} [${digits(whole.low)}, ${digits(whole.high)}] (Spearman-Brown), ` +
      `and nothing is expected to correlate with them by more than ${digits(Math.sqrt(whole.value))}.`,
    table(
      ['selector', 'tau-b', 'Spearman', ...keeps.map((keep) => `NDCG at ${percentOf(keep)}`)],
      bestFirst(figures, 'NDCG', first).map((name) => [
        `\`${name}\``,
        of('tau-b', name, null),
        of('Spearman', name, null),
        ...keeps.map((keep) => of('NDCG', name, keep)),
      ]),
    ),
  ];
}

function areaTable(figures: readonly StudyFigure[]): string[] {
  const names = bestFirst(figures, 'insertion area', null);
  if (names.length === 0) return [];
  return [
    'Areas under the probability of the true class by number of patches, in percent: of the best alone (insertion, higher is better) and without ' +
      'the best (deletion, lower is better).',
    table(
      ['selector', 'insertion', 'deletion'],
      names.map((name) => [
        `\`${name}\``,
        cell(figures, 'insertion area', name, null),
        cell(figures, 'deletion area', name, null),
      ]),
    ),
  ];
}
