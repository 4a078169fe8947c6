import { checkNormalization } from './images.js';
import { callCore } from './native/call.js';
import type { NativeImages } from './native/binding.js';
import {
  words,
  type ImageBatch,
  type JobOptions,
  type ModelConfig,
  type PixelBatch,
} from './types.js';
import {
  checkOptions,
  jobKeys,
  readFields,
  readImageBatch,
  type OptionKeys,
} from './validation.js';

/** Names of the {@link selectors}. */
export type SelectorName = 'centre' | 'contrast' | 'gradient' | 'grid' | 'random' | 'variance';

/** Every {@link SelectorName}. */
export const selectorNames = words<SelectorName>({
  centre: true,
  contrast: true,
  gradient: true,
  grid: true,
  random: true,
  variance: true,
});

/** Options of {@link Selector.score}. */
export interface SelectorOptions extends JobOptions {
  /**
   * A model whose patch size the scores are for, and whose mean and standard deviation the images were normalised with.
   * Default: 16 pixels, `imageNetMean` and `imageNetStd`.
   */
  model?:
    | {
        /** Its geometry. */
        readonly config: Pick<ModelConfig, 'patchSize' | 'mean' | 'std'>;
      }
    | undefined;
  /** How many patches will be kept, 1 to L. `grid` needs it and gives them 1, all others 0. The others do not read it. Default: none. */
  keep?: number | undefined;
  /** `[n]`: the class of each image, for selectors that explain one. None of these reads it. Default: none. */
  classes?: Int32Array | undefined;
  /** Integer in [0, 2^53) that `random` draws from; an image's noise depends on its place in the batch. Default 0. */
  seed?: number | undefined;
}

const selectorKeys: OptionKeys<SelectorOptions> = {
  ...jobKeys,
  model: true,
  keep: true,
  classes: true,
  seed: true,
};

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
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite, `keep`).
   */
  score(images: ImageBatch | PixelBatch, options?: SelectorOptions): Promise<SelectorScores>;
}

function selector(name: SelectorName): Selector {
  return {
    async score(images, options) {
      const checked = checkOptions(options, selectorKeys);
      const { data, shape } = readImageBatch(images);
      const { keep, seed, model } = checked;
      const config = readFields(model?.config ?? {}, ['patchSize', 'mean', 'std'], 'model.config');
      const { patchSize = 16, mean, std } = config as Partial<ModelConfig>;
      const settings = { patchSize, keep, seed, ...checkNormalization({ mean, std }) };
      return callCore(checked, { data }, (core, job, given) =>
        core.scoreBySelector(job, name, { ...given, shape } as NativeImages, settings),
      );
    },
  };
}

/**
 * Selectors that need neither labels nor a trained model, by name. Pixels are RGB in [0, 1], patches lie in a grid.
 *
 * - `random`: uniform noise.
 * - `centre`: the nearer to the middle of the grid, the higher.
 * - `grid`: `keep` patches spread evenly.
 * - `variance`: population variance of a patch's pixels, summed over the colours.
 * - `gradient`: mean length of the luma's gradient over the patch.
 * - `contrast`: distance of a patch's mean colour from that of its neighbours up to two patches away.
 */
export const selectors: Readonly<Record<SelectorName, Selector>> = Object.freeze(
  Object.fromEntries(selectorNames.map((name) => [name, selector(name)])) as Record<
    SelectorName,
    Selector
  >,
);
