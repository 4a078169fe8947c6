/** The tables of `npm run evaluate -- --retention`. */
import { table } from '../../bench/report/tables.js';
import { usesLabels } from '../../lib/evaluation/asked.js';
import { moreThan, points } from '../../lib/evaluation/points.js';
import type { SelectorName } from '../../lib/index.js';
import type { Provenance } from './command.js';
import type { Difference, Figure } from './table.js';

/** Categories, pictures of which all categories are kept, and instances. */
export const measures = ['categories', 'pictures', 'instances'] as const;

export interface RetentionResults extends Provenance {
  part: string;
  pictures: string[];
  /** Categories of a picture, over all pictures; instances likewise. */
  counts: { categories: number; instances: number };
  size: number;
  patch: number;
  /** Digest of the classifier that supervised selectors asked; null where there was none. */
  classifier: string | null;
  keeps: number[];
  figures: Figure[];
  differences: Difference[];
}

/** Selectors by categories at the smallest share, the best first. */
export function retentionMarkdown(results: RetentionResults): string {
  const { keeps, figures, differences, counts } = results;
  const at = <Each extends Figure>(
    list: readonly Each[],
    row: string,
    measure: string,
    keep: number,
  ) => list.find((each) => each.row === row && each.measure === measure && each.keep === keep);
  const value = (row: string, measure: string, keep: number): number =>
    at(figures, row, measure, keep)?.value ?? NaN;
  const [first = 1] = keeps;
  const rows = [...new Set(figures.map(({ row }) => row))].sort(
    (a, b) => value(b, 'categories', first) - value(a, 'categories', first),
  );
  const percents = keeps.map((keep) => `${100 * keep}%`);
  const lines = rows.map((row) => [
    `\`${row}\``,
    usesLabels(row as SelectorName) ? 'yes' : 'no',
    ...keeps.map(
      (keep) =>
        points(value(row, 'categories', keep)) + moreThan(at(differences, row, 'categories', keep)),
    ),
    ...(['pictures', 'instances'] as const).map((measure) =>
      keeps.map((keep) => points(value(row, measure, keep))).join(' / '),
    ),
  ]);
  return `${[
    `# Labels that stay, coco, ${results.part} part`,
    `\`${results.command}\` on ${results.processor}, ${results.date}.`,
    results.classifier === null
      ? 'No classifier was given, so selectors that ask one are left out.'
      : `Supervised selectors ask the classifier with SHA-256 ${results.classifier.slice(0, 12)}...`,
    `Percent of the ${counts.categories} categories of ${results.pictures.length} pictures (each picture's counted) of which at least half of the ` +
      'pixels are in kept patches; in brackets: more than `ranker`, with the 95% interval of a paired bootstrap over pictures. Then, ' +
      `at ${percents.join(' / ')}, of pictures that keep all of their categories so, and of the ${counts.instances} instances. ` +
      `${results.size} px, ${results.patch} px patches.`,
    table(['selector', 'labels', ...percents, 'pictures', 'instances'], lines),
  ].join('\n\n')}\n`;
}
