/** The table of `npm run evaluate -- --classify`. */
import type { SelectorName } from '../../lib/index.js';
import { table } from '../../bench/report/tables.js';
import type { Provenance } from './command.js';
import type { Difference, Figure } from './table.js';

export type ModelName = 'none' | 'mae' | 'ranker' | 'classifier';

/** The model that a selector is asked with here. */
export const allModels: Readonly<Record<SelectorName, ModelName>> = {
  centre: 'none',
  'cls-attention': 'classifier',
  contrast: 'none',
  'dpc-knn': 'none',
  evit: 'classifier',
  'grad-cam': 'classifier',
  gradient: 'none',
  grid: 'none',
  'k-means': 'none',
  'mae-attention': 'mae',
  random: 'none',
  ranker: 'ranker',
  'ranker-diverse': 'ranker',
  rollout: 'mae',
  teacher: 'mae',
  tome: 'mae',
  variance: 'none',
};

/** Those whose scores depend on how many patches are kept. */
export const needKeep: ReadonlySet<SelectorName> = new Set([
  'evit',
  'grid',
  'k-means',
  'ranker-diverse',
  'tome',
] as const);

/** Milliseconds a picture. */
export interface Spent {
  /** By share that is kept. */
  classifier: Record<string, number>;
  /** By selector; mean over the shares. */
  selectors: Record<string, number>;
}

export interface ClassifyResults extends Provenance {
  part: string;
  pictures: string[];
  /** How the classifier was trained; null where it was given. */
  training: string | null;
  /** Whether each selector and share has a classifier of its own. */
  fineTuned: boolean;
  classifier: { digest: string; config: object };
  keeps: number[];
  spent: Spent;
  figures: Figure[];
  differences: Difference[];
}

const points = (value: number): string => (100 * value).toFixed(1);
const signed = (value: number): string => (value > 0 ? '+' : '') + points(value);
const percent = (keep: number): string => `${100 * keep}%`;

/** Selectors by accuracy at the smallest share, the best first. */
export function classifyMarkdown(results: ClassifyResults): string {
  const { keeps, figures, differences, spent } = results;
  const at = <Each extends Figure>(list: readonly Each[], row: string, keep: number) =>
    list.find((each) => each.row === row && each.keep === keep);
  const first = keeps[0] ?? 1;
  const rows = [...new Set(figures.map(({ row }) => row))].sort(
    (a, b) => (at(figures, b, first)?.value ?? 0) - (at(figures, a, first)?.value ?? 0),
  );
  const lines = rows.map((row) => [
    `\`${row}\``,
    { none: 'no', mae: 'no', ranker: 'no', classifier: 'yes' }[allModels[row as SelectorName]],
    ...keeps.map((keep) => {
      const difference = at(differences, row, keep);
      const than =
        difference === undefined
          ? ''
          : ` (${signed(difference.value)} [${signed(difference.low)}, ${signed(difference.high)}])`;
      return points(at(figures, row, keep)?.value ?? NaN) + than;
    }),
    (spent.selectors[row] ?? NaN).toFixed(1),
  ]);
  const header = ['selector', 'labels', ...keeps.map(percent), 'ms a picture'];
  return (
    [
      `# Accuracy on kept patches, imagenette, ${results.part} part`,
      `\`${results.command}\` on ${results.processor}, ${results.date}.`,
      results.training === null
        ? `The classifier was given (SHA-256 ${results.classifier.digest}...).`
        : `The classifier: \`${results.training}\` (SHA-256 ${results.classifier.digest}...).`,
      ...(results.fineTuned
        ? [
            'Each selector and share has a classifier of its own, fine-tuned on what the selector keeps; supervised selectors ask the one above.',
          ]
        : []),
      `Percent of ${results.pictures.length} pictures by share of the patches that is kept. In brackets: more than \`ranker\`, with the 95% interval ` +
        'of a paired bootstrap over pictures. "Labels": whether the selector was trained with labels.',
      table(header, lines),
      `The classifier takes ${keeps.map((keep) => `${(spent.classifier[String(keep)] ?? NaN).toFixed(1)} ms at ${percent(keep)}`).join(', ')} a picture, in batches of 16.`,
    ].join('\n\n') + '\n'
  );
}
