/** The tables of an evaluation, in Markdown. */
import type { SelectorName } from '../selectors.js';
import { labelsWord } from './asked.js';
import { table } from './markdown.js';
import { moreThan, points } from './points.js';
import type { StudyFigure, StudyResults } from './study.js';

export const percentOf = (keep: number): string => `${Number((100 * keep).toFixed(2))}%`;

/** Selectors by a measure at a share, the best first. */
export function bestFirst(
  figures: readonly StudyFigure[],
  measure: StudyFigure['measure'],
  keep: number | null,
): SelectorName[] {
  return figures
    .filter((each) => each.measure === measure && each.keep === keep)
    .sort((a, b) => b.value - a.value)
    .map(({ selector }) => selector);
}

/** What is measured by share. */
export const measuresByShare = ({ figures }: Pick<StudyResults, 'figures'>) => [
  ...new Set(figures.filter(({ keep }) => keep !== null).map(({ measure }) => measure)),
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
      (milliseconds.selectors[name] ?? NaN).toFixed(1),
    ]);
    const header = ['selector', 'labels', ...keeps.map(percentOf), 'ms a picture'];
    return [
      `${words[measure] ?? measure} by share of the patches that is kept, in percent. In brackets: more than \`${reference}\`, with the 95% interval of ` +
        'a paired bootstrap over pictures. "Labels": whether the selector was trained with labels.',
      table(header, lines),
    ];
  });
  return [...blocks.flat(), ...areaTable(figures), costOf(results, keeps)];
}

function costOf({ milliseconds, gigaflops }: StudyResults, keeps: readonly number[]): string {
  const each = keeps.map((keep) => {
    const [ms, gflop] = [milliseconds.classifier, gigaflops.classifier].map(
      (by) => by[String(keep)] ?? NaN,
    ) as [number, number];
    return `${ms.toFixed(1)} ms and ${gflop.toFixed(2)} GFLOP at ${percentOf(keep)}`;
  });
  const more =
    gigaflops.ranker === null
      ? ''
      : ` Ranking with \`ranker\` computes ${gigaflops.ranker.toFixed(2)} GFLOP.`;
  return `A picture takes the classifier ${each.join(', ')}.${more}`;
}

const words: Partial<Record<StudyFigure['measure'], string>> = {
  accuracy: 'Right answers',
  mAP: 'Mean average precision',
  'mAP, unseen': 'Mean average precision of unseen categories',
};

function cell(
  figures: readonly StudyFigure[],
  measure: StudyFigure['measure'],
  selector: SelectorName,
  keep: number | null,
): string {
  const found = figures.find(
    (each) => each.measure === measure && each.selector === selector && each.keep === keep,
  );
  return found === undefined ? '' : points(found.value) + moreThan(found.more ?? undefined);
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
