import { checkMade, frozen, keepNative, loadModel, made, publicConfig } from './models.js';
import type { CoreBinding, NativeRanker, NativeSelection } from './native/binding.js';
import { runJob } from './native/job.js';
import {
  words,
  type ImageBatch,
  type JobOptions,
  type LoadOptions,
  type PixelBatch,
  type Precision,
  type Prior,
  type Ranking,
  type RankerConfig,
} from './types.js';
import { checkOptions, readImageBatch } from './validation.js';

/** Options of {@link PatchRanker.rank}. */
export interface RankOptions extends JobOptions {
  /**
   * `[n * V]`, ids ascending for each image: only these patches go in, as in training, and the others' logits are -Infinity.
   * Default: all patches.
   */
  visible?: Int32Array | undefined;
  /**
   * `'centre'`: in place of logits come combined scores, a patch's rank by logit and its rank by nearness to the centre, summed.
   * They say how patches are ordered within an image and nothing else. Default `'none'`.
   */
  prior?: Prior | undefined;
}

const rankKeys = words<keyof RankOptions>()('signal onProgress visible prior');

/**
 * {@link PatchRanker.rank} and `selectPatches` in one call of the core, which gets the bytes once. `undefined` if it is not a
 * ranker of this copy of the package.
 */
export let rankAndSelect: (
  ranker: Pick<PatchRanker, 'rank'>,
  images: PixelBatch,
  options: { prior: Prior | undefined; select: NativeSelection | undefined },
  signal: AbortSignal,
) => ReturnType<NativeRanker['rank']> | undefined;

/**
 * The ranking model: a small vision transformer that gives every patch a logit, larger for patches worth more
 * (section 3.2 of arXiv 2404.00680). It learned the order from a {@link MaskedAutoencoder}, without labels.
 *
 * All methods run on the core's compute thread; they reject with an {@link LtrpError}, or with the signal's reason when they
 * are cancelled. A model that refused a call stays usable.
 *
 * @example
 * ```ts
 * const ranker = await PatchRanker.load('tiny');
 * const images = await readImages(['cat.jpg'], { size: ranker.config.imageSize });
 * const { logits } = await ranker.rank(images);
 * const { indices } = await selectPatches(images, logits, { keepRatio: 0.5 });
 * ranker.dispose();
 * ```
 */
export class PatchRanker {
  /** Geometry and input normalisation, as the checkpoint has them. */
  readonly config: Readonly<RankerConfig>;
  /** Precision of rankings: the one asked for, or the processor's substitute. */
  readonly precision: Precision;
  /**
   * Sentences on how the checkpoint was read where it left something open: assumed defaults, parts left out, which
   * of several models it is. Empty for models of this project.
   */
  readonly notes: readonly string[];
  readonly #core: CoreBinding;
  readonly #native: NativeRanker;

  static {
    rankAndSelect = (ranker, images, options, signal) =>
      #native in ranker
        ? runJob(ranker.#core, { signal }, (job) => ranker.#native.rank(job, images, options))
        : undefined;
  }

  private constructor(key: typeof made, core: CoreBinding, native: NativeRanker) {
    checkMade(key, 'PatchRanker');
    this.#core = core;
    this.#native = native;
    keepNative(this, native);
    this.precision = native.precision;
    this.notes = frozen(native.notes);
    this.config = publicConfig(native.config);
  }

  /**
   * Loads a ranker: `'tiny'` (embedded), or a file or folder of this project or of the authors' training, as for
   * {@link MaskedAutoencoder.load}.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT` (not a valid file),
   *   `ERR_LTRP_CHECKPOINT_CONTENT` (a tensor is missing, unexpected or misshapen), `ERR_LTRP_UNSUPPORTED` (device or
   *   precision), or an error of finding LibTorch.
   */
  static async load(source: string, options?: LoadOptions): Promise<PatchRanker> {
    const { core, native } = await loadModel('ranker', source, options);
    return new PatchRanker(made, core, native);
  }

  /**
   * Ranks the patches of each image. An image's logits have the same bits in any batch, at any place in it, and on any number
   * of threads.
   *
   * @param images - [n, 3, H, W], or bytes [n, H, W, 3]. Heads of type `'token'` take any grid of the model's patch size, `'cls'` their own only.
   * @returns `logits` [n, L] in raster order. With `visible`, patches that did not go in have -Infinity: they rank last, and
   *   {@link selectPatches} never chooses them.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite), `ERR_LTRP_NOT_FINITE` (a logit that is
   *   not), `ERR_LTRP_DISPOSED`.
   */
  async rank(images: ImageBatch | PixelBatch, options?: RankOptions): Promise<Ranking> {
    const checked = checkOptions(options, rankKeys);
    const given = readImageBatch(images);
    const { visible, prior } = checked;
    return runJob(this.#core, checked, (job) => this.#native.rank(job, given, { visible, prior }));
  }

  /** Frees the weights once running calls are done; later calls reject with `ERR_LTRP_DISPOSED`. Calling it again does nothing. */
  dispose(): void {
    this.#native.dispose();
  }

  /** As {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }
}
