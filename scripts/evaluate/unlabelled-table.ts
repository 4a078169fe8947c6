/** The table of `npm run evaluate -- --unlabelled`. */
import { table } from '../../bench/report/tables.js';
import type { Interval } from '../../lib/evaluation/resamples.js';
import type { Provenance } from './command.js';
import { moreThan, points, pointsInterval } from '../../lib/evaluation/points.js';
import type { Difference, Figure } from './table.js';

/** Objects whose category the classifier has seen labels of, and the others. */
export const measures = ['labelled', 'hidden'] as const;

export interface UnlabelledResults extends Provenance {
  /** How the classifier was trained; null where it was given. */
  training: string | null;
  /** Its mean average precision on the test scenes; null where the names of its logits are not known. */
  precision: number | null;
  scenes: number;
  size: number;
  patch: number;
  keep: number;
  hidden: string[];
  /** Rows that ask the classifier. */
  supervised: string[];
  figures: Figure[];
  differences: Difference[];
  /** By row: hidden minus labelled, and how much more that is than the ranker's. */
  gaps: Record<string, { own: Interval; more: Interval }>;
}

/** Rows by recall of hidden objects, the best first. */
export function unlabelledMarkdown(results: UnlabelledResults): string {
  const { figures, differences, hidden, supervised } = results;
  const of = <Each extends Figure>(list: readonly Each[], row: string, measure: string) =>
    list.find((each) => each.row === row && each.measure === measure);
  const value = (row: string, measure: string): number => of(figures, row, measure)?.value ?? NaN;
  const rows = [...new Set(figures.map(({ row }) => row))].sort(
    (a, b) => value(b, 'hidden') - value(a, 'hidden'),
  );
  const gap = (row: string): string => {
    const found = results.gaps[row];
    if (found === undefined) return '';
    const own = pointsInterval(found.own);
    return row === 'ranker' ? own : `${own} (${pointsInterval(found.more)})`;
  };
  const lines = rows.map((row) => [
    row,
    supervised.includes(row) ? 'yes' : 'no',
    ...measures.map(
      (measure) => points(value(row, measure)) + moreThan(of(differences, row, measure)),
    ),
    gap(row),
  ]);
  const header = ['selector', 'labels', 'labelled', 'hidden', 'hidden − labelled'];
  return `${[
    `# Objects that nobody labelled`,
    `\`${results.command}\` on ${results.processor}, ${results.date}.`,
    results.training === null
      ? 'The classifier was given.'
      : `The classifier: \`${results.training}\`.`,
    ...(results.precision === null
      ? []
      : [`Its mean average precision on the test scenes: ${points(results.precision)}%.`]),
    `Share of an object's pixels in the ${points(results.keep)}% of the patches that are kept, in percent, mean over the objects of ` +
      `${results.scenes} composite test scenes (${results.size} px, ${results.patch} px patches). The classifier has seen labels of all ` +
      `categories but ${hidden.join(', ')}. In brackets: more than \`ranker\`, with the 95% interval of a paired bootstrap over scenes. ` +
      'Composite scenes are a proxy: objects ignore their background.',
    table(header, lines),
  ].join('\n\n')}\n`;
}
