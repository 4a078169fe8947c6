import { types } from 'node:util';
import { described } from './described.js';
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
import { checkOptions, invalid, readFields, readImageBatch } from './validation.js';
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
export interface SelectorScores {
  /** [n, L] in raster order; larger is kept. */
  scores: Float32Array;
  /** Of the tensor above. */
  shape: readonly [images: number, patches: number];
}

/** Something that says which patches are worth keeping. What has such a `score` can stand beside {@link selectors}. */
export interface Selector {
  /**
   * Scores every patch.
   *
   * @param images - [n, 3, H, W], normalised, or bytes [n, H, W, 3]; sides are multiples of the patch size.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite, `keep`, `classes`, a model that the
   *   selector cannot ask), `ERR_LTRP_CHECKPOINT_CONTENT` (`teacher` of an encoder alone), `ERR_LTRP_NOT_FINITE`,
   *   `ERR_LTRP_DISPOSED`.
   */
  score(images: ImageBatch | PixelBatch, options?: SelectorOptions): Promise<SelectorScores>;
}

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

function selector(name: SelectorName): Selector {
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
 * | `mae-attention` | attention of the encoder's CLS token, last block | `MaskedAutoencoder` |
 * | `teacher` | the teacher's own scores, mean over masks | `MaskedAutoencoder` with a decoder |
 * | `ranker` | the ranker's logit | `PatchRanker` |
 * | `ranker-diverse` | the same, with patches of clusters among the kept | `PatchRanker` |
 * | `rollout` | attention through all blocks | `MaskedAutoencoder`, or `VisionTransformer` with pooling `'cls'` |
 * | `cls-attention` | attention of the classifier's CLS token, last block; labels | `VisionTransformer` with pooling `'cls'` and a head |
 * | `evit` | EViT's criterion: patches that stay when three blocks drop those with less attention; labels | the same |
 * | `grad-cam` | Grad-CAM of a class's logit; labels | `VisionTransformer` with a linear head |
 * | `tome` | size of the group that token merging makes around it | `MaskedAutoencoder` or `VisionTransformer` |
 */
export const selectors: Readonly<Record<SelectorName, Selector>> = Object.freeze(
  Object.fromEntries(selectorNames.map((name) => [name, selector(name)])) as Record<
    SelectorName,
    Selector
  >,
);
