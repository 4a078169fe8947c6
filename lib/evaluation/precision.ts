/** Mean average precision of what selectors keep: of all categories, and of those that a selector has seen labels of or not. */
import { meanAveragePrecision } from '../multi-label.js';
import { callCore } from '../native/call.js';
import type { SelectorName } from '../selectors.js';
import { compared, type Measure, type StudyFigure } from './figures.js';
import { combined, Resamples, type Drawn } from './resamples.js';

/** Categories whose precision is averaged. */
interface Group {
  measure: Extract<Measure, 'mAP' | 'mAP, seen' | 'mAP, unseen'>;
  classes: readonly number[];
}

export interface PrecisionResults {
  /** What each mean is of: `classes` categories, without `withoutPositive` of them that no picture shows. */
  groups: { measure: Group['measure']; classes: number; withoutPositive: number }[];
  /** Average precision of each class, in the order of the logits; NaN where no picture shows it. */
  perClass: { selector: SelectorName; keep: number; precision: number[] }[];
}

/** Resampling mean average precision costs a pass over all pictures and classes a draw. */
const draws = 1000;

/** What is kept: pictures' logits by selector and share. */
export class Precision {
  readonly #logits = new Map<string, Float32Array[]>();
  readonly #targets: Uint8Array[] = [];
  readonly #groups: Group[];

  /** @param unseen - numbers of classes; where there are any, they and the others are also measured alone. */
  constructor(
    private readonly classes: number,
    unseen: readonly number[],
    private readonly signal: AbortSignal | undefined,
  ) {
    const all = Array.from({ length: classes }, (_, i) => i);
    const seen = all.filter((id) => !unseen.includes(id));
    this.#groups = [{ measure: 'mAP', classes: all }];
    if (unseen.length > 0 && seen.length > 0)
      this.#groups.push({ measure: 'mAP, seen', classes: seen });
    if (unseen.length > 0) this.#groups.push({ measure: 'mAP, unseen', classes: unseen });
  }

  /** What the next pictures show. */
  addTargets(shown: readonly Iterable<number>[]): void {
    for (const ids of shown) {
      const target = new Uint8Array(this.classes);
      for (const id of ids) target[id] = 1;
      this.#targets.push(target);
    }
  }

  /** Of the next pictures. */
  addLogits(selector: SelectorName, keep: number, logits: Float32Array): void {
    const key = keyOf(selector, keep);
    const known = this.#logits.get(key);
    if (known === undefined) this.#logits.set(key, [logits]);
    else known.push(logits);
  }

  async results(
    selectors: readonly SelectorName[],
    keeps: readonly number[],
    reference: SelectorName,
  ): Promise<{ figures: StudyFigure[]; precision: PrecisionResults }> {
    const resamples = new Resamples(this.#targets.length, draws);
    const drawn = new Map<string, Map<SelectorName, Drawn>>();
    const figures: StudyFigure[] = [];
    const precision: PrecisionResults = { groups: [], perClass: [] };
    for (const { measure, classes } of this.#groups) {
      let withoutPositive = 0;
      for (const keep of keeps) {
        const ofSelectors = new Map<SelectorName, Drawn>();
        drawn.set(`${measure} ${keep}`, ofSelectors);
        for (const selector of selectors) {
          const logits = joined(this.#logits.get(keyOf(selector, keep)) ?? []);
          const found = await this.#of(logits, classes, resamples);
          ({ withoutPositive } = found);
          ofSelectors.set(selector, found.drawn);
          if (measure === 'mAP')
            precision.perClass.push({ selector, keep, precision: Array.from(found.perClass) });
        }
      }
      for (const keep of keeps) {
        const [own, whole] = [keep, 1].map((each) => drawn.get(`${measure} ${each}`));
        if (own !== undefined) figures.push(...compared(measure, keep, own, reference, whole));
      }
      precision.groups.push({ measure, classes: classes.length, withoutPositive });
    }
    // The paper's claim: supervised selectors lose more of what they have seen no labels of.
    if (this.#groups.length < 3 || !keeps.includes(1)) return { figures, precision };
    for (const keep of keeps.filter((each) => each !== 1)) {
      const terms = [
        { of: `mAP, unseen ${keep}`, factor: 1 },
        { of: 'mAP, unseen 1', factor: -1 },
        { of: `mAP, seen ${keep}`, factor: -1 },
        { of: 'mAP, seen 1', factor: 1 },
      ];
      const changes = new Map<SelectorName, Drawn>();
      for (const name of selectors) {
        const found = terms.flatMap(({ of, factor }) => {
          const each = drawn.get(of)?.get(name);
          return each === undefined ? [] : [{ drawn: each, factor }];
        });
        changes.set(name, combined(found));
      }
      figures.push(...compared('mAP change, unseen minus seen', keep, changes, reference));
    }
    return { figures, precision };
  }

  async #of(logits: Float32Array, columns: readonly number[], { times }: Resamples) {
    const shape = [this.#targets.length, columns.length] as const;
    const scores = new Float32Array(shape[0] * shape[1]);
    const targets = new Uint8Array(scores.length);
    for (const [i, target] of this.#targets.entries()) {
      for (const [j, column] of columns.entries()) {
        scores[i * shape[1] + j] = logits[i * this.classes + column] as number;
        targets[i * shape[1] + j] = target[column] as number;
      }
    }
    const { signal } = this;
    const { mean, ...rest } = await meanAveragePrecision(scores, targets, shape, { signal });
    const { means } = await callCore({ signal }, { scores, targets }, (core, job, given) =>
      core.averagePrecisionOfDraws(job, given.scores, given.targets, shape, { times }),
    );
    return { drawn: { value: mean, draws: means }, ...rest };
  }
}

const keyOf = (selector: SelectorName, keep: number): string => `${selector} ${keep}`;

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
