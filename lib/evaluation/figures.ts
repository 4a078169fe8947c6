/** Figures of selectors, with intervals over pictures and what each has more than the reference. */
import { setImmediate } from 'node:timers/promises';
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
  /** How much more that is than with all patches; null where that is not measured, and with them. */
  change: Interval | null;
}

/**
 * Of one measure and share, by selector.
 *
 * @param whole - of the same measure with all patches.
 */
export function compared(
  measure: Measure,
  keep: number | null,
  drawn: ReadonlyMap<SelectorName, Drawn>,
  reference: SelectorName,
  whole?: ReadonlyMap<SelectorName, Drawn>,
): StudyFigure[] {
  return [...drawn].map(([selector, each]) => ({
    ...{ measure, selector, keep, ...intervalOf(each) },
    more: selector === reference ? null : minus(each, drawn.get(reference)),
    change: keep === null || keep === 1 ? null : minus(each, whole?.get(selector)),
  }));
}

function minus(first: Drawn, second: Drawn | undefined): Interval | null {
  if (second === undefined) return null;
  const terms = [
    { drawn: first, factor: 1 },
    { drawn: second, factor: -1 },
  ];
  return intervalOf(combined(terms));
}

const keyOf = (measure: Measure, keep: number | null): string => `${measure} ${keep}`;

/** What pictures add to figures that are means of theirs. */
export class Samples {
  readonly #cells = new Map<
    string,
    { measure: Measure; keep: number | null; samples: Map<SelectorName, Weighted[]> }
  >();
  readonly #resamples = new Map<number, Resamples>();

  /** The next picture's; within a measure all selectors get the same pictures in the same order. */
  add(measure: Measure, selector: SelectorName, keep: number | null, figure: Weighted): void {
    const key = keyOf(measure, keep);
    const cell = this.#cells.get(key) ?? { measure, keep, samples: new Map<never, Weighted[]>() };
    this.#cells.set(key, cell);
    const known = cell.samples.get(selector);
    if (known === undefined) cell.samples.set(selector, [figure]);
    else known.push(figure);
  }

  /** With 50,000 pictures this takes minutes, in which others have their turns. */
  async figures(reference: SelectorName, signal: AbortSignal | undefined): Promise<StudyFigure[]> {
    const drawn = new Map<string, Map<SelectorName, Drawn>>();
    for (const [key, { samples }] of this.#cells) {
      // Pictures that say nothing of a measure have no weight.
      const known = [...samples].filter(([, sample]) => sample.some(({ weight }) => weight > 0));
      const each = new Map<SelectorName, Drawn>();
      for (const [name, sample] of known) {
        await setImmediate();
        signal?.throwIfAborted();
        each.set(name, this.#of(sample.length).drawn(sample));
      }
      drawn.set(key, each);
    }
    return [...this.#cells].flatMap(([key, { measure, keep }]) =>
      compared(
        measure,
        keep,
        drawn.get(key) ?? new Map<never, Drawn>(),
        reference,
        drawn.get(keyOf(measure, 1)),
      ),
    );
  }

  #of(pictures: number): Resamples {
    const known = this.#resamples.get(pictures) ?? new Resamples(pictures);
    this.#resamples.set(pictures, known);
    return known;
  }
}
