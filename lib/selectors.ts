import { types } from 'node:util';
import { described, lengthOf } from './described.js';
import { checkNormalization } from './images.js';
import type { MaskedAutoencoder } from './masked-autoencoder.js';
import { nativeOf } from './models.js';
import { callCore } from './native/call.js';
import type { NativeImages } from './native/binding.js';
import type { PatchRanker } from './patch-ranker.js';
import {
  words,
  type ImageBatch,
  type JobOptions,
  type ModelConfig,
  type PixelBatch,
} from './types.js';
import {
  checkChoice,
  checkOptions,
  invalid,
  readFields,
  readImageBatch,
  readShort,
} from './validation.js';
import type { VisionTransformer } from './vision-transformer.js';

/** Names of the {@link selectors}. */
export type SelectorName =
  | 'centre'
  | 'cls-attention'
  | 'contrast'
  | 'dpc-knn'
  | 'evit'
  | 'grad-cam'
  | 'gradient'
  | 'grid'
  | 'k-means'
  | 'mae-attention'
  | 'random'
  | 'ranker'
  | 'ranker-diverse'
  | 'rollout'
  | 'teacher'
  | 'tome'
  | 'variance';

/** Every {@link SelectorName}. */
export const selectorNames = words<SelectorName>()(
  'centre cls-attention contrast dpc-knn evit grad-cam gradient grid k-means mae-attention random ranker ranker-diverse rollout teacher tome variance',
);

/** Options of {@link Selector.score}. */
export interface SelectorOptions extends JobOptions {
  /**
   * The loaded model that the selector asks (see {@link selectors}); the scores are for its patch size, and the images were
   * normalised with its mean and standard deviation. Selectors that ask none also take its geometry alone, as `{ config }`.
   * {@link VisionTransformer.classify} gives selectors of your own its `selectorModel`, or the classifier itself.
   * Default: none; 16 pixels, `imageNetMean` and `imageNetStd`.
   */
  model?:
    | MaskedAutoencoder
    | PatchRanker
    | VisionTransformer
    | {
        /** A geometry. */
        readonly config: Pick<ModelConfig, 'patchSize' | 'mean' | 'std'>;
      }
    | undefined;
  /**
   * How many patches will be kept, 1 to L. `grid`, `k-means`, `evit`, `tome` and `ranker-diverse` need it and rank these first;
   * the others do not read it. Default: none.
   */
  keep?: number | undefined;
  /** `[n]`: the class of each image that `grad-cam` explains; the others do not read it. Default: the predicted one. */
  classes?: Int32Array | undefined;
  /**
   * Integer in [0, 2^53) that `random`, `dpc-knn`, `k-means`, `ranker-diverse` and `teacher` draw from; an image's noise depends
   * on its place in the batch. Default 0.
   */
  seed?: number | undefined;
}

const selectorKeys = words<keyof SelectorOptions>()('signal onProgress model keep classes seed');

/** What a selector thinks of patches. */
export interface SelectorScores<Values extends Float32Array | Float64Array = Float32Array> {
  /** [n, L] in raster order; finite; larger is kept. Float64 is rounded to float32. */
  scores: Values;
  /** Of the tensor above. */
  shape: readonly [images: number, patches: number];
}

/**
 * Something that says which patches are worth keeping. An object of your own with such a `score` is a `selector` for
 * {@link VisionTransformer.classify}, where its scores are checked; {@link registerSelector} gives it a name.
 */
export interface Selector<
  Values extends Float32Array | Float64Array = Float32Array | Float64Array,
> {
  /**
   * Scores every patch.
   *
   * @param images - [n, 3, H, W], normalised, or bytes [n, H, W, 3]; sides are multiples of the patch size.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite, `keep`, `classes`, a model that the
   *   selector cannot ask), `ERR_LTRP_CHECKPOINT_CONTENT` (`teacher` of an encoder alone), `ERR_LTRP_NOT_FINITE`,
   *   `ERR_LTRP_DISPOSED`.
   */
  score(
    images: ImageBatch | PixelBatch,
    options?: SelectorOptions,
  ): Promise<SelectorScores<Values>>;
}

/** Selectors by name: those of this package, and those that {@link registerSelector} has added. */
export type Selectors = {
  readonly [Name in SelectorName | (string & {})]: Name extends SelectorName
    ? Selector<Float32Array>
    : Selector | undefined;
};

/** The model as it was given: its geometry, and what is behind it where it is loaded. */
function readModel(given: unknown) {
  if (given === undefined) return { config: {} as Partial<ModelConfig> };
  const native = nativeOf(given);
  const fields =
    typeof given === 'object' && given !== null && !types.isPromise(given)
      ? readFields(given, ['config'], 'model')
      : {};
  if (typeof fields.config !== 'object' || fields.config === null) {
    throw invalid(`model must be a loaded model, or { config } of one; got ${described(given)}.`);
  }
  const keys = ['patchSize', 'mean', 'std'] as const;
  return {
    native,
    config: readFields(fields.config, keys, 'model.config') as Partial<ModelConfig>,
  };
}

function selector(name: SelectorName): Selector<Float32Array> {
  return {
    async score(images, options) {
      const checked = checkOptions(options, selectorKeys);
      const { data, shape } = readImageBatch(images);
      const { keep, seed, classes } = checked;
      const { native, config } = readModel(checked.model);
      const { patchSize = 16, mean, std } = config;
      const normalization = checkNormalization({ mean, std });
      const settings = { patchSize, keep, seed, classes, model: native, ...normalization };
      return callCore(checked, { data }, (core, job, given) =>
        core.scoreBySelector(job, name, { ...given, shape } as NativeImages, settings),
      );
    },
  };
}

/**
 * What could say which patches to keep, by name; docs/method.md has the formulas and what each costs.
 *
 * | selector | score of a patch | needs |
 * | --- | --- | --- |
 * | `random` | uniform noise | |
 * | `centre` | nearness to the middle of the grid | |
 * | `grid` | 1 for `keep` patches spread evenly | |
 * | `variance` | variance of its pixels, summed over the colours | |
 * | `gradient` | mean length of the luma's gradient | |
 * | `contrast` | distance of its mean colour from that of its neighbours up to two patches away | |
 * | `dpc-knn` | how good a centre of a cluster its pixels are | |
 * | `k-means` | 1 for the `keep` patches nearest to the means of clusters of pixels | |
 * | `mae-attention` | attention of the encoder's CLS token, last block | `MaskedAutoencoder`, or `VisionTransformer` without a head |
 * | `teacher` | the teacher's own scores, mean over masks | `MaskedAutoencoder` with a decoder |
 * | `ranker` | the ranker's logit | `PatchRanker` |
 * | `ranker-diverse` | the same, with patches of clusters among the kept | `PatchRanker` |
 * | `rollout` | attention through all blocks | `MaskedAutoencoder` or `VisionTransformer` |
 * | `cls-attention` | attention of the classifier's CLS token, last block; labels | `VisionTransformer` with a linear head |
 * | `evit` | EViT's criterion: patches that stay when three blocks drop those with less attention; labels | `VisionTransformer` with pooling `'cls'` and a head |
 * | `grad-cam` | Grad-CAM of a class's logit; labels | `VisionTransformer` with a linear head |
 * | `tome` | size of the group that token merging makes around it | `MaskedAutoencoder` or `VisionTransformer` |
 *
 * A head that pools the patches reads no CLS token: `cls-attention` is then the attention that a patch receives, mean over all
 * tokens, `rollout` the mean of the patches' rows.
 */
export const selectors = {} as Selectors;

for (const name of selectorNames) add(name, selector(name));

/** What has a name keeps it: figures are compared by it. */
function add(name: string, value: Selector): void {
  Object.defineProperty(selectors, name, { value, enumerable: true });
}

/**
 * Adds a selector of your own to {@link selectors}, for this thread and as long as it lives. Its name is then a `selector` for
 * {@link VisionTransformer.classify}.
 *
 * @param name - lower-case words and digits with hyphens between them, at most 40 characters; not the name of another one.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for another name, and for what has no `score`.
 *
 * @example
 * ```ts
 * registerSelector('darkest', {
 *   async score(images, options) {
 *     const { scores, shape } = await selectors.variance.score(images, options);
 *     return { scores: scores.map((score) => -score), shape };
 *   },
 * });
 * const { logits } = await vit.classify(images, { keepRatio: 0.5, selector: 'darkest' });
 * ```
 */
export function registerSelector(name: string, selector: Selector): void {
  if (typeof name !== 'string' || name.length > 40 || !/^[a-z][a-z\d]*(-[a-z\d]+)*$/.test(name)) {
    throw invalid(
      `name must be lower-case words and digits with hyphens between them, at most 40 characters; got ${described(name)}.`,
    );
  }
  if (Object.hasOwn(selectors, name))
    throw invalid(`name must not be that of another selector; there is '${name}' already.`);
  scoreOf(selector);
  add(name, selector);
}

/** The method of a selector, which may be the caller's. */
function scoreOf(selector: unknown): Selector['score'] {
  const { score } =
    typeof selector === 'object' && selector !== null
      ? readFields(selector, ['score'], 'selector')
      : {};
  if (typeof score === 'function') return score.bind(selector) as Selector['score'];
  throw invalid(
    `selector must be the name of one or an object with a method score; got ${described(selector)}.`,
  );
}

/** A selector by its name, or what may be one. */
export function selectorOf(given: unknown): unknown {
  if (typeof given !== 'string') return given;
  checkChoice('selector', given, Object.keys(selectors));
  return selectors[given];
}

/**
 * What a selector, which may be the caller's, says of a batch: [n, L], checked. What its `score` throws is thrown on.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for what is no selector, and for scores of another shape or not finite.
 */
export async function scoresOf(
  selector: unknown,
  images: ImageBatch | PixelBatch,
  options: SelectorOptions,
  [n, patches]: readonly [images: number, patches: number],
): Promise<Float32Array> {
  const score = scoreOf(selector);
  const answer: unknown = await score(images, options);
  if (typeof answer !== 'object' || answer === null) {
    throw invalid(
      `selector must score with a promise of { scores, shape }; got ${described(answer)}.`,
    );
  }
  const { scores, shape } = readFields(answer, ['scores', 'shape'], 'selector');
  const sizes = readShort('selector.shape', shape);
  if (!Array.isArray(sizes) || sizes.length !== 2 || sizes[0] !== n || sizes[1] !== patches) {
    throw invalid(
      `selector must give scores of shape [images, patches], here [${n}, ${patches}]; got ${described(sizes)}.`,
    );
  }
  if (
    !(types.isFloat32Array(scores) || types.isFloat64Array(scores)) ||
    lengthOf(scores) !== n * patches
  ) {
    throw invalid(
      `selector must give scores as a Float32Array or Float64Array of length ${n * patches}; got ${described(scores)}.`,
    );
  }
  const copy = new Float32Array(scores);
  const wrong = copy.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) {
    throw invalid(
      `selector must give finite scores; got ${copy[wrong] as number} for patch ${wrong % patches} of image ${Math.floor(wrong / patches)}.`,
    );
  }
  return copy;
}
