/** Figures of selectors, with intervals over pictures and what each has more than the reference. */
import type { SelectorName } from '../selectors.js';
import {
  combined,
  intervalOf,
  Resamples,
  type Drawn,
  type Interval,
  type Weighted,
} from './resamples.js';

export type Measure =
  | 'accuracy'
  | 'mAP'
  | 'mAP, seen'
  | 'mAP, unseen'
  /** What the share changes of the unseen categories' mAP, minus what it changes of the seen ones'. */
  | 'mAP change, unseen minus seen'
  | 'object recall'
  | 'instance recall'
  | 'instance recall, seen'
  | 'instance recall, unseen'
  /** Whether an independent classifier says of the kept patches what it says of the picture. */
  | 'judge'
  /** With the teacher's map; NDCG of the patches that are kept. */
  | 'tau-b'
  | 'Spearman'
  | 'NDCG'
  | 'insertion area'
  | 'deletion area';

/** A measure of a selector, with its 95% interval over pictures. */
export interface StudyFigure extends Interval {
  measure: Measure;
  selector: SelectorName;
  /** Share of the patches that is kept; null for what is of no share. */
  keep: number | null;
  /** How much more that is than the reference's; null for itself. */
  more: Interval | null;
}

/** Of one measure and share, by selector. */
export function compared(
  measure: Measure,
  keep: number | null,
  drawn: ReadonlyMap<SelectorName, Drawn>,
  reference: SelectorName,
): StudyFigure[] {
  const other = drawn.get(reference);
  return [...drawn].map(([selector, each]) => {
    const more =
      other === undefined || selector === reference
        ? null
        : intervalOf(
            combined([
              { drawn: each, factor: 1 },
              { drawn: other, factor: -1 },
            ]),
          );
    return { measure, selector, keep, ...intervalOf(each), more };
  });
}

/** What pictures add to figures that are means of theirs. */
export class Samples {
  readonly #cells = new Map<
    string,
    { measure: Measure; keep: number | null; samples: Map<SelectorName, Weighted[]> }
  >();
  readonly #resamples = new Map<number, Resamples>();

  /** The next picture's; within a measure all selectors get the same pictures in the same order. */
  add(measure: Measure, selector: SelectorName, keep: number | null, figure: Weighted): void {
    const key = `${measure} ${keep}`;
    const cell = this.#cells.get(key) ?? { measure, keep, samples: new Map<never, Weighted[]>() };
    this.#cells.set(key, cell);
    const known = cell.samples.get(selector);
    if (known === undefined) cell.samples.set(selector, [figure]);
    else known.push(figure);
  }

  figures(reference: SelectorName): StudyFigure[] {
    return [...this.#cells.values()].flatMap(({ measure, keep, samples }) => {
      const drawn = new Map<SelectorName, Drawn>();
      for (const [selector, sample] of samples) {
        // Pictures that say nothing of a measure have no weight.
        if (sample.some(({ weight }) => weight > 0))
          drawn.set(selector, this.#of(sample.length).drawn(sample));
      }
      return compared(measure, keep, drawn, reference);
    });
  }

  #of(pictures: number): Resamples {
    const known = this.#resamples.get(pictures) ?? new Resamples(pictures);
    this.#resamples.set(pictures, known);
    return known;
  }
}
