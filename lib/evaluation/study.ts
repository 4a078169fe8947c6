/** How well a classifier does with the patches that selectors keep. */
import type { MaskedAutoencoder } from '../masked-autoencoder.js';
import { callCore } from '../native/call.js';
import { meanAveragePrecision } from '../multi-label.js';
import type { PatchRanker } from '../patch-ranker.js';
import { selectors, type SelectorName } from '../selectors.js';
import type { PixelBatch } from '../types.js';
import { invalid } from '../validation.js';
import type { Classification, VisionTransformer } from '../vision-transformer.js';
import { classifierFlops, rankerFlops } from '../plan/flops.js';
import { askedModels, descending, keptOf, needKeep } from './asked.js';
import { RemovalCurves, rowsOf, type MeanCurves } from './removal-curves.js';
import {
  combined,
  intervalOf,
  Resamples,
  type Drawn,
  type Interval,
  type Weighted,
} from './resamples.js';

export interface StudyOptions {
  classifier: VisionTransformer;
  /** What selectors ask that need it. */
  ranker?: PatchRanker | undefined;
  mae?: MaskedAutoencoder | undefined;
  selectors: readonly SelectorName[];
  /** Shares of the patches, each in (0, 1]. */
  keeps: readonly number[];
  /** Every other selector is compared with it. */
  reference: SelectorName;
  seed: number;
  /** Many labels a picture: mean average precision instead of accuracy. */
  many: boolean;
  /** Numbers of classes whose mean average precision is also given alone. */
  unseen: readonly number[];
  /** Equal steps of the insertion and deletion curves, from no patch to all; 0: no curves. */
  curveSteps: number;
  /** The classifier that sees what a selector keeps, if it is another than `classifier`, which selectors ask. */
  judgeOf?: ((selector: SelectorName, keep: number) => VisionTransformer) | undefined;
  signal?: AbortSignal | undefined;
}

/** What a picture shows: the number of its class, or those of its categories. */
export type Shown = number | Iterable<number>;

/** A measure of a selector, with its 95% interval over pictures. */
export interface StudyFigure extends Interval {
  measure: 'accuracy' | 'mAP' | 'mAP, unseen' | 'insertion area' | 'deletion area';
  selector: SelectorName;
  /** Share of the patches that is kept; null for areas. */
  keep: number | null;
  /** How much more that is than the reference's; null for itself. */
  more: Interval | null;
}

export interface StudyResults {
  figures: StudyFigure[];
  /** Mean probability of the true class by number of patches; none without curves. */
  curves: MeanCurves[];
  /** Matrix products of a picture, in 10⁹ operations: of the classifier by share, and of the ranker where a selector asks it. */
  gigaflops: { classifier: Record<string, number>; ranker: number | null };
  /** Milliseconds a picture. */
  milliseconds: {
    /** By share that is kept. */
    classifier: Record<string, number>;
    /** By selector; mean over the shares. */
    selectors: Record<string, number>;
  };
}

/** Resampling mean average precision costs a pass over all pictures and classes a draw. */
const drawsOfPrecision = 400;

export class SelectorStudy {
  #pictures = 0;
  /** Of the newest pictures. */
  #patches = 0;
  /** By selector and share: what every picture adds. */
  readonly #right = new Map<string, Weighted[]>();
  readonly #logits = new Map<string, Float32Array[]>();
  readonly #targets: Uint8Array[] = [];
  readonly #curves: RemovalCurves | null;
  /** Pictures that were scored, by selector, and classified, by share. */
  readonly #scored: Record<string, number> = {};
  readonly #classified: Record<string, number> = {};
  readonly #spent = {
    selectors: {} as Record<string, number>,
    classifier: {} as Record<string, number>,
  };

  /** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for curves of a head that does not read the CLS token. */
  constructor(private readonly options: StudyOptions) {
    const { classifier, curveSteps, many, signal } = options;
    if (curveSteps > 0 && many)
      throw invalid('Insertion and deletion curves need one label a picture.');
    this.#curves = curveSteps === 0 ? null : new RemovalCurves(classifier, curveSteps, signal);
  }

  get pictures(): number {
    return this.#pictures;
  }

  /**
   * The next pictures, all of one size.
   *
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a share that keeps none of their patches.
   */
  async add(images: PixelBatch, shown: readonly Shown[]): Promise<void> {
    const { classifier, many, keeps } = this.options;
    const { patchSize, classes } = classifier.config;
    const [n, height, width] = images.shape;
    const patches = Math.floor(height / patchSize) * Math.floor(width / patchSize);
    this.#patches = patches;
    if (many) this.#targets.push(...shown.map((each) => oneHot(each, classes)));
    // With all patches the answers are the same whoever chose them.
    const whole = new Map<VisionTransformer, Classification>();
    for (const selector of this.options.selectors) {
      let scores: Float32Array | undefined;
      for (const keep of keeps) {
        const count = keptOf(patches, keep);
        if (scores === undefined || needKeep.has(selector))
          scores = await this.#scores(selector, images, count);
        const kept = rowsOf(scores, n).map((row) => descending(row).slice(0, count));
        const judge = this.options.judgeOf?.(selector, keep) ?? classifier;
        const known = count === patches ? whole.get(judge) : undefined;
        const answers = known ?? (await this.#answers(judge, images, kept, keep));
        if (count === patches) whole.set(judge, answers);
        const { logits, top } = answers;
        if (many) listed(this.#logits, keyOf(selector, keep)).push(logits);
        else {
          const right = listed(this.#right, keyOf(selector, keep));
          for (const [i, label] of shown.entries())
            right.push({ value: top?.[i] === label ? 1 : 0, weight: 1 });
        }
      }
      // A ranking that depends on how many are kept has no curve.
      if (this.#curves !== null && !needKeep.has(selector) && scores !== undefined)
        await this.#curves.add(selector, images, scores, shown as readonly number[]);
    }
    this.#pictures += n;
  }

  async #answers(
    judge: VisionTransformer,
    images: PixelBatch,
    kept: readonly (readonly number[])[],
    keep: number,
  ): Promise<Classification> {
    const { signal } = this.options;
    const ids = Int32Array.from(kept.flat());
    const begin = performance.now();
    const answers = await judge.classify(images, { keep: ids, topK: 1, signal });
    add(this.#spent.classifier, String(keep), performance.now() - begin);
    add(this.#classified, String(keep), images.shape[0]);
    return answers;
  }

  async #scores(name: SelectorName, images: PixelBatch, keep: number): Promise<Float32Array> {
    const { classifier, ranker, mae, seed, signal } = this.options;
    const model = { none: classifier, classifier, ranker, mae }[askedModels[name]];
    const begin = performance.now();
    // An image's noise depends on its place in the batch.
    const drawn = { seed: seed + this.#pictures, signal };
    const { scores } = await selectors[name].score(images, { model, keep, ...drawn });
    add(this.#scored, name, images.shape[0]);
    add(this.#spent.selectors, name, performance.now() - begin);
    return scores;
  }

  /** What all pictures come to. */
  async results(): Promise<StudyResults> {
    const { selectors: names, keeps, reference, many, unseen } = this.options;
    const figures: StudyFigure[] = [];
    const compared = (
      measure: StudyFigure['measure'],
      keep: number | null,
      drawn: ReadonlyMap<SelectorName, Drawn>,
    ): void => {
      const other = drawn.get(reference);
      for (const [selector, each] of drawn) {
        const more =
          other === undefined || selector === reference
            ? null
            : intervalOf(
                combined([
                  { drawn: each, factor: 1 },
                  { drawn: other, factor: -1 },
                ]),
              );
        figures.push({ measure, selector, keep, ...intervalOf(each), more });
      }
    };
    const resamples = new Resamples(this.#pictures, many ? drawsOfPrecision : undefined);
    for (const keep of keeps) {
      const drawn = new Map<SelectorName, Drawn>();
      const ofUnseen = new Map<SelectorName, Drawn>();
      for (const name of names) {
        if (many) {
          const logits = joined(this.#logits.get(keyOf(name, keep)) ?? []);
          drawn.set(name, await this.#precision(logits, resamples));
          if (unseen.length > 0)
            ofUnseen.set(name, await this.#precision(logits, resamples, unseen));
        } else drawn.set(name, resamples.drawn(this.#right.get(keyOf(name, keep)) ?? []));
      }
      compared(many ? 'mAP' : 'accuracy', keep, drawn);
      if (ofUnseen.size > 0) compared('mAP, unseen', keep, ofUnseen);
    }
    for (const which of ['insertion', 'deletion'] as const) {
      const areas = new Map<SelectorName, Drawn>();
      for (const [name, sample] of this.#curves?.areas(which) ?? [])
        areas.set(name, resamples.drawn(sample));
      compared(`${which} area`, null, areas);
    }
    return {
      figures,
      curves: this.#curves?.means() ?? [],
      gigaflops: this.#gigaflops(),
      milliseconds: this.#milliseconds(),
    };
  }

  /** mAP of all classes, or of some. */
  async #precision(
    logits: Float32Array,
    resamples: Resamples,
    some?: readonly number[],
  ): Promise<Drawn> {
    const classes = this.options.classifier.config.classes;
    const columns = some ?? Array.from({ length: classes }, (_, i) => i);
    const shape = [this.#pictures, columns.length] as const;
    const pick = (values: ArrayLike<number>, i: number): number[] =>
      columns.map((column) => values[i * classes + column] as number);
    const scores = new Float32Array(shape[0] * shape[1]);
    const targets = new Uint8Array(scores.length);
    for (let i = 0; i < shape[0]; i++) {
      scores.set(pick(logits, i), i * shape[1]);
      targets.set(pick(this.#targets[i] as Uint8Array, 0), i * shape[1]);
    }
    const { signal } = this.options;
    const { mean } = await meanAveragePrecision(scores, targets, shape, { signal });
    const { means } = await callCore({ signal }, { scores, targets }, (core, job, given) =>
      core.averagePrecisionOfDraws(job, given.scores, given.targets, shape, {
        times: resamples.times,
      }),
    );
    return { value: mean, draws: means };
  }

  #gigaflops(): StudyResults['gigaflops'] {
    const { classifier, ranker, keeps, selectors: names } = this.options;
    const patches = this.#patches;
    const asked = names.some((name) => askedModels[name] === 'ranker');
    return {
      classifier: Object.fromEntries(
        keeps.map((keep) => [
          String(keep),
          classifierFlops(classifier.config, patches, keptOf(patches, keep)) / 1e9,
        ]),
      ),
      ranker: asked && ranker ? rankerFlops(ranker.config, patches) / 1e9 : null,
    };
  }

  #milliseconds(): StudyResults['milliseconds'] {
    const { classifier, selectors: asked } = this.#spent;
    return {
      classifier: mapped(classifier, (spent, keep) => spent / (this.#classified[keep] ?? NaN)),
      selectors: mapped(asked, (spent, name) => spent / (this.#scored[name] ?? NaN)),
    };
  }
}

const keyOf = (selector: SelectorName, keep: number): string => `${selector} ${keep}`;

function add(sums: Record<string, number>, key: string, value: number): void {
  sums[key] = (sums[key] ?? 0) + value;
}

function listed<Item>(map: Map<string, Item[]>, key: string): Item[] {
  const known = map.get(key) ?? [];
  map.set(key, known);
  return known;
}

const mapped = (
  values: Readonly<Record<string, number>>,
  change: (value: number, key: string) => number,
): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [key, change(value, key)]));

function oneHot(shown: Shown, classes: number): Uint8Array {
  const target = new Uint8Array(classes);
  for (const id of typeof shown === 'number' ? [shown] : shown) target[id] = 1;
  return target;
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
