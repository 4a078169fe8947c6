/** How well a classifier does with the patches that selectors keep. */
import { rankAgreement } from '../agreement.js';
import type { MaskedAutoencoder } from '../masked-autoencoder.js';
import type { PatchRanker } from '../patch-ranker.js';
import { classifierFlops } from '../plan/flops.js';
import { selectorFlops } from '../plan/selector-flops.js';
import { scoresOf, selectors, type SelectorName } from '../selectors.js';
import type { PixelBatch } from '../types.js';
import { invalid } from '../validation.js';
import type { Classification, VisionTransformer } from '../vision-transformer.js';
import { askedModelOf, dependsOnKeep, descending, keptOf } from './asked.js';
import { Samples, type Measure, type StudyFigure } from './figures.js';
import type { PictureJudge } from './picture-judge.js';
import { Precision, type PrecisionResults } from './precision.js';
import { instanceRecall, objectRecall } from './recall.js';
import type { Weighted } from './resamples.js';
import { RemovalCurves, rowsOf, type MeanCurves } from './removal-curves.js';
import { known, TeacherReference, type Reliability } from './teacher-reference.js';

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
  /** Numbers of classes whose mean average precision is also given alone, and that of the others. */
  unseen: readonly number[];
  /** Equal steps of the insertion and deletion curves, from no patch to all; 0: no curves. */
  curveSteps: number;
  /** Rounds, an even number, of the teacher's maps that rankings are compared with; 0: they are not. */
  agreementRounds?: number | undefined;
  /** The classifier that sees what a selector keeps, if it is another than `classifier`, which selectors ask. */
  classifierOf?: ((selector: SelectorName, keep: number) => VisionTransformer) | undefined;
  /** Sees pictures in which dropped patches are covered. */
  judge?: PictureJudge | undefined;
  signal?: AbortSignal | undefined;
}

/** What a picture shows: the number of its class, or those of its categories. */
export type Shown = number | Iterable<number>;

/** Pixels of a picture's objects in each patch. */
export interface ShownObjects {
  /** Of all objects together. */
  any: Float64Array;
  /** `unseen`: whether selectors have seen no labels of its category; undefined where nobody says. */
  each: readonly { counts: Float64Array; unseen: boolean | undefined }[];
}

export interface StudyResults {
  figures: StudyFigure[];
  /** Mean probability of the true class by number of patches; none without curves. */
  curves: MeanCurves[];
  /** Of the teacher's maps; null where nothing is compared with them. */
  teacher: Reliability | null;
  /** Null with one label a picture. */
  precision: PrecisionResults | null;
  /**
   * Matrix products of a picture, in 10⁹ operations, by share that is kept: of the classifier, and of the selectors that are
   * counted.
   */
  gigaflops: {
    classifier: Record<string, number>;
    selectors: Partial<Record<SelectorName, Record<string, number>>>;
  };
  /** Milliseconds a picture. */
  milliseconds: {
    /** By share that is kept. */
    classifier: Record<string, number>;
    /** By selector; mean over the shares. */
    selectors: Record<string, number>;
  };
}

export class SelectorStudy {
  #pictures = 0;
  /** Of the newest pictures. */
  #patches = 0;
  readonly #samples = new Samples();
  readonly #precision: Precision | null;
  readonly #curves: RemovalCurves | null;
  readonly #teacher: TeacherReference | null;
  /** Pictures whose objects were measured. */
  #withObjects = 0;
  /** Pictures that were scored, by selector, and classified, by share. */
  readonly #scored: Record<string, number> = {};
  readonly #classified: Record<string, number> = {};
  readonly #spent = {
    selectors: {} as Record<string, number>,
    classifier: {} as Record<string, number>,
  };

  /** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for curves of a head that does not read the CLS token. */
  constructor(private readonly options: StudyOptions) {
    const { classifier, curveSteps, many, unseen, signal } = options;
    if (curveSteps > 0 && many)
      throw invalid('Insertion and deletion curves need one label a picture.');
    this.#precision = many ? new Precision(classifier.config.classes, unseen, signal) : null;
    const { mae, agreementRounds = 0 } = options;
    this.#teacher =
      mae === undefined || agreementRounds === 0
        ? null
        : new TeacherReference(mae, agreementRounds, signal);
    this.#curves = curveSteps === 0 ? null : new RemovalCurves(classifier, curveSteps, signal);
  }

  get pictures(): number {
    return this.#pictures;
  }

  get picturesWithObjects(): number {
    return this.#withObjects;
  }

  /**
   * The next pictures, all of one size.
   *
   * @param objects - of each picture; null for those that recall is not measured on.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a share that keeps none of their patches.
   */
  async add(
    images: PixelBatch,
    shown: readonly Shown[],
    objects: readonly (ShownObjects | null)[] = [],
  ): Promise<void> {
    const { classifier, keeps } = this.options;
    const { patchSize } = classifier.config;
    const [n, height, width] = images.shape;
    const patches = Math.floor(height / patchSize) * Math.floor(width / patchSize);
    this.#patches = patches;
    this.#precision?.addTargets(shown as readonly Iterable<number>[]);
    this.#withObjects += objects.filter((each) => each !== null).length;
    const target = await this.#teacher?.maps(images, this.options.seed + this.#pictures);
    const seen = await this.options.judge?.see(images);
    // With all patches the answers are the same whoever chose them.
    const whole = new Map<VisionTransformer, Classification>();
    for (const selector of this.options.selectors) {
      let scores: Float32Array | undefined;
      for (const keep of keeps) {
        const count = keptOf(patches, keep);
        if (scores === undefined || dependsOnKeep(selector))
          scores = await this.#scores(selector, images, count);
        const kept = rowsOf(scores, n).map((row) => descending(row).slice(0, count));
        const asked = this.options.classifierOf?.(selector, keep) ?? classifier;
        const known = count === patches ? whole.get(asked) : undefined;
        const answers = known ?? (await this.#answers(asked, images, kept, keep));
        if (count === patches) whole.set(asked, answers);
        this.#addAnswers(selector, keep, answers, shown);
        for (const [i, each] of objects.entries())
          if (each !== null) this.#addRecall(selector, keep, each, kept[i] as number[]);
        for (const stays of (await seen?.stays(kept)) ?? [])
          this.#samples.add('judge', selector, keep, { value: stays ? 1 : 0, weight: 1 });
        if (target !== undefined) await this.#addGain(selector, keep, { scores, target, count, n });
      }
      // A ranking that depends on how many are kept has no curve.
      if (this.#curves !== null && !dependsOnKeep(selector) && scores !== undefined)
        await this.#curves.add(selector, images, scores, shown as readonly number[]);
      if (target !== undefined && !dependsOnKeep(selector) && scores !== undefined)
        await this.#addAgreement(selector, scores, target, n);
    }
    this.#pictures += n;
  }

  #addAnswers(
    selector: SelectorName,
    keep: number,
    { logits, top }: Classification,
    shown: readonly Shown[],
  ): void {
    if (this.#precision !== null) {
      this.#precision.addLogits(selector, keep, logits);
      return;
    }
    for (const [i, label] of shown.entries()) {
      const right = { value: top?.[i] === label ? 1 : 0, weight: 1 };
      this.#samples.add('accuracy', selector, keep, right);
    }
  }

  #addRecall(
    selector: SelectorName,
    keep: number,
    { any, each }: ShownObjects,
    kept: readonly number[],
  ): void {
    const add = (measure: Measure, figure: Weighted): void => {
      this.#samples.add(measure, selector, keep, figure);
    };
    const of = (some: ShownObjects['each']): Weighted =>
      instanceRecall({ each: some.map(({ counts }) => counts) }, kept);
    add('object recall', objectRecall({ any }, kept));
    add('instance recall', of(each));
    add('instance recall, seen', of(each.filter(({ unseen }) => unseen === false)));
    add('instance recall, unseen', of(each.filter(({ unseen }) => unseen === true)));
  }

  /** How much of the teacher's scores comes first, among as many patches as are kept. */
  async #addGain(
    selector: SelectorName,
    keep: number,
    of: { scores: Float32Array; target: Float32Array; count: number; n: number },
  ): Promise<void> {
    const { signal } = this.options;
    const shape = [of.n, of.scores.length / of.n] as const;
    const { ndcg } = await rankAgreement(of.scores, of.target, shape, { k: of.count, signal });
    for (const value of ndcg) this.#samples.add('NDCG', selector, keep, known(value));
  }

  async #addAgreement(
    selector: SelectorName,
    scores: Float32Array,
    target: Float32Array,
    n: number,
  ): Promise<void> {
    const { signal } = this.options;
    const shape = [n, scores.length / n] as const;
    const { kendallTau, spearman } = await rankAgreement(scores, target, shape, { signal });
    for (const value of kendallTau) this.#samples.add('tau-b', selector, null, known(value));
    for (const value of spearman) this.#samples.add('Spearman', selector, null, known(value));
  }

  async #answers(
    classifier: VisionTransformer,
    images: PixelBatch,
    kept: readonly (readonly number[])[],
    keep: number,
  ): Promise<Classification> {
    const { signal } = this.options;
    const ids = Int32Array.from(kept.flat());
    const begin = performance.now();
    const answers = await classifier.classify(images, { keep: ids, topK: 1, signal });
    add(this.#spent.classifier, String(keep), performance.now() - begin);
    add(this.#classified, String(keep), images.shape[0]);
    return answers;
  }

  async #scores(name: SelectorName, images: PixelBatch, keep: number): Promise<Float32Array> {
    const { classifier, ranker, mae, seed, signal } = this.options;
    const model = { none: classifier, classifier, ranker, mae }[askedModelOf(name)];
    const begin = performance.now();
    // An image's noise depends on its place in the batch.
    const drawn = { seed: seed + this.#pictures, signal };
    const asked = { model, keep, ...drawn };
    const shape = [images.shape[0], this.#patches] as const;
    const scores = await scoresOf(selectors[name], images, asked, shape);
    add(this.#scored, name, images.shape[0]);
    add(this.#spent.selectors, name, performance.now() - begin);
    return scores;
  }

  /** What all pictures come to. */
  async results(): Promise<StudyResults> {
    const { selectors: names, keeps, reference, signal } = this.options;
    const areas = new Samples();
    for (const which of ['insertion', 'deletion'] as const) {
      for (const [name, ofPictures] of this.#curves?.areas(which) ?? [])
        for (const area of ofPictures) areas.add(`${which} area`, name, null, area);
    }
    const many = await this.#precision?.results(names, keeps, reference);
    return {
      figures: [
        many?.figures ?? [],
        await this.#samples.figures(reference, signal),
        await areas.figures(reference, signal),
      ].flat(),
      curves: this.#curves?.means() ?? [],
      teacher: this.#teacher?.reliability() ?? null,
      precision: many?.precision ?? null,
      gigaflops: this.#gigaflops(),
      milliseconds: this.#milliseconds(),
    };
  }

  #gigaflops(): StudyResults['gigaflops'] {
    const { classifier, ranker, mae, keeps, selectors: names } = this.options;
    const patches = this.#patches;
    const asked = { ranker: ranker?.config, mae: mae?.config, classifier: classifier.config };
    const byShare = (of: (kept: number) => number): Record<string, number> =>
      Object.fromEntries(keeps.map((keep) => [String(keep), of(keptOf(patches, keep)) / 1e9]));
    const counted = names.filter((name) => selectorFlops(name, asked, patches, 1) !== undefined);
    return {
      classifier: byShare((kept) => classifierFlops(classifier.config, kept)),
      selectors: Object.fromEntries(
        counted.map((name) => [
          name,
          byShare((kept) => selectorFlops(name, asked, patches, kept) ?? NaN),
        ]),
      ),
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

function add(sums: Record<string, number>, key: string, value: number): void {
  sums[key] = (sums[key] ?? 0) + value;
}

const mapped = (
  values: Readonly<Record<string, number>>,
  change: (value: number, key: string) => number,
): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [key, change(value, key)]));
