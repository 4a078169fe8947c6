import { asyncDispose } from './async-dispose.js';
import { frozen, loadKeys, nativeLoadOptions, resolveModel } from './models.js';
import type { CoreBinding, NativeImages, NativeRanker } from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import type {
  ImageBatch,
  JobOptions,
  LoadOptions,
  PixelBatch,
  Precision,
  Ranking,
  RankerConfig,
} from './types.js';
import {
  checkIndices,
  checkBatch,
  checkOptions,
  invalid,
  jobKeys,
  type OptionKeys,
} from './validation.js';

/** Options of {@link PatchRanker.rank}. */
export interface RankOptions extends JobOptions {
  /**
   * `[n * V]`, ids ascending for each image: only these patches go in, as in training, and the others' logits are -Infinity.
   * Default: all patches.
   */
  visible?: Int32Array | undefined;
}

const rankKeys: OptionKeys<RankOptions> = { ...jobKeys, visible: true };

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
  /** What rankings are computed in: the precision asked for, or what the processor has instead. */
  readonly precision: Precision;
  readonly #core: CoreBinding;
  readonly #native: NativeRanker;

  private constructor(core: CoreBinding, native: NativeRanker) {
    this.#core = core;
    this.#native = native;
    this.precision = native.precision;
    const { imageHeight, imageWidth, patchSize, encoder, head, layerNormEps, mean, std } =
      native.config;
    this.config = frozen({
      imageSize: imageHeight,
      imageHeight,
      imageWidth,
      patchSize,
      grid: [imageHeight / patchSize, imageWidth / patchSize] as const,
      encoder,
      head,
      layerNormEps,
      mean,
      std,
    });
  }

  /**
   * Loads a ranker: `'tiny'` (embedded), or a `.safetensors` or `.pth` file of this project or of the authors' training.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT` (not a valid file),
   *   `ERR_LTRP_CHECKPOINT_CONTENT` (a tensor is missing, unexpected or misshapen), `ERR_LTRP_UNSUPPORTED` (device or
   *   precision), or what finding LibTorch reports.
   */
  static async load(source: string, options?: LoadOptions): Promise<PatchRanker> {
    const checked = checkOptions(options, loadKeys);
    checked.signal?.throwIfAborted();
    const nativeOptions = nativeLoadOptions(checked);
    const path = resolveModel(source, 'ranker');
    const core = await loadCore(
      checked.libtorch === undefined ? {} : { libtorch: checked.libtorch },
    );
    const native = await runJob(core, { signal: checked.signal }, (job) =>
      core.loadRanker(job, path, nativeOptions),
    );
    return new PatchRanker(core, native);
  }

  /**
   * Ranks the patches of each image.
   *
   * @param images - [n, 3, H, W], or bytes [n, H, W, 3]. Heads of type `'token'` take any grid of the model's patch size, `'cls'` their own only.
   * @returns `logits` [n, L] in raster order. With `visible`, patches that did not go in have -Infinity: they rank last, and
   *   {@link selectPatches} never chooses them.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite), `ERR_LTRP_DISPOSED`.
   */
  async rank(images: ImageBatch | PixelBatch, options?: RankOptions): Promise<Ranking> {
    const checked = checkOptions(options, rankKeys);
    checkBatch(images, this.config.patchSize);
    const { visible } = checked;
    checkIndices('visible', visible);
    const [count] = images.shape;
    if (visible !== undefined && (visible.length === 0 || visible.length % count !== 0)) {
      throw invalid(
        `visible must hold the same number of ids for each of the ${count} images, but it has ${visible.length} values.`,
      );
    }
    const input = { data: images.data, shape: images.shape } as NativeImages;
    return runJob(this.#core, checked, (job) => this.#native.rank(job, input, { visible }));
  }

  /** Frees the weights once running calls are done; later calls reject with `ERR_LTRP_DISPOSED`. Calling it again does nothing. */
  dispose(): void {
    this.#native.dispose();
  }

  /** As {@link dispose}, for `await using`. */
  [asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }
}
