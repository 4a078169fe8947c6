import { asyncDispose } from './async-dispose.js';
import { frozen, loadKeys, nativeLoadOptions, resolveModel } from './models.js';
import type {
  CoreBinding,
  NativeImages,
  NativeMae,
  NativeMasking,
  NativeScoreOptions,
} from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import type {
  Encoding,
  ImageBatch,
  LoadOptions,
  MaeConfig,
  MaskingOptions,
  PatchScores,
  PixelBatch,
  Precision,
  Reconstruction,
  ReconstructOptions,
  ScoreMap,
  ScoreMapOptions,
  ScoreOptions,
} from './types.js';
import {
  checkChoice,
  checkFloats,
  checkIndices,
  checkInteger,
  checkBatch,
  checkOptions,
  checkShare,
  imageGeometry,
  invalid,
  jobKeys,
  type OptionKeys,
} from './validation.js';

const reconstructKeys: OptionKeys<ReconstructOptions> = {
  ...jobKeys,
  maskRatio: true,
  seed: true,
  noise: true,
  visible: true,
};

const scoreMapKeys: OptionKeys<ScoreMapOptions> = {
  ...jobKeys,
  maskRatio: true,
  seed: true,
  drop: true,
  metric: true,
  memoryBudget: true,
  tolerance: true,
  rounds: true,
};

const scoreKeys: OptionKeys<ScoreOptions> = {
  ...reconstructKeys,
  drop: true,
  metric: true,
  memoryBudget: true,
  tolerance: true,
};

/**
 * A masked autoencoder (He et al., CVPR 2022): the teacher, whose reconstruction tells what a patch is worth.
 *
 * All methods run on the core's compute thread, one after the other in the order of the calls; the JavaScript thread never
 * waits. They reject with an {@link LtrpError}, or with the signal's reason when they are cancelled. Inputs are copied when
 * a method is called. A model that refused a call stays usable.
 *
 * @example
 * ```ts
 * const mae = await MaskedAutoencoder.load('tiny');
 * const images = await readImages(['cat.jpg'], { size: mae.config.imageSize });
 * const { mean, standardError, shape } = await mae.scoreMap(images, { rounds: 4 });
 * mae.dispose();
 * ```
 */
export class MaskedAutoencoder {
  /** Geometry and input normalisation, as the checkpoint has them. */
  readonly config: Readonly<MaeConfig>;
  /** What scores are computed in: the precision asked for, or what the processor has instead. */
  readonly precision: Precision;
  readonly #core: CoreBinding;
  readonly #native: NativeMae;

  private constructor(core: CoreBinding, native: NativeMae) {
    this.#core = core;
    this.#native = native;
    this.precision = native.precision;
    const {
      imageHeight,
      imageWidth,
      patchSize,
      encoder,
      decoder,
      layerNormEps,
      normalizedTarget,
      mean,
      std,
    } = native.config;
    if (decoder === null)
      throw invalid('The checkpoint has an encoder only; a teacher needs the decoder.');
    this.config = frozen({
      imageSize: imageHeight,
      imageHeight,
      imageWidth,
      patchSize,
      grid: [imageHeight / patchSize, imageWidth / patchSize] as const,
      encoder,
      decoder,
      layerNormEps,
      normalizedTarget,
      mean,
      std,
    });
  }

  /**
   * Loads a teacher: `'tiny'` (embedded), a `.safetensors` or `.pth` file, or a Hugging Face folder. Names of the official
   * MAE files, of LTRP's, and of Hugging Face's ViTMAE (hub files and transformers 5) are understood.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT` (not a valid file),
   *   `ERR_LTRP_CHECKPOINT_CONTENT` (a tensor is missing, unexpected or misshapen; there is no decoder),
   *   `ERR_LTRP_UNSUPPORTED` (device or precision), or what finding LibTorch reports.
   */
  static async load(source: string, options?: LoadOptions): Promise<MaskedAutoencoder> {
    const checked = checkOptions(options, loadKeys);
    checked.signal?.throwIfAborted();
    const nativeOptions = nativeLoadOptions(checked);
    const path = resolveModel(source, 'mae');
    const core = await loadCore(
      checked.libtorch === undefined ? {} : { libtorch: checked.libtorch },
    );
    const native = await runJob(core, { signal: checked.signal }, (job) =>
      core.loadMae(job, path, nativeOptions),
    );
    return new MaskedAutoencoder(core, native);
  }

  /**
   * Scores the visible patches of one random (or given) mask: how much the reconstruction of the masked patches changes
   * when a visible patch is taken away. This is the pseudo-score of "Learning to Rank Patches for Unbiased Image
   * Redundancy Reduction" (CVPR 2024, arXiv 2404.00680): mean |anchor − prediction without i| over the masked patches and
   * their values, in normalised pixels; larger is denser. `'psnr'` and `'ssim'` compare whole reconstructions and are
   * rescaled to 1 − (x − min) / (max − min) over the whole batch, so those two depend on what else is in it.
   *
   * One mask says little; {@link scoreMap} averages over many. Progress counts variants (n · V).
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `scores` and `visible`, both [n, V].
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, ranges, pixels that are not finite), `ERR_LTRP_DISPOSED`,
   *   `ERR_LTRP_OUT_OF_MEMORY`.
   */
  async scorePatches(
    images: ImageBatch | PixelBatch,
    options?: ScoreOptions,
  ): Promise<PatchScores> {
    const checked = checkOptions(options, scoreKeys);
    const input = this.#input(images);
    const native = { ...this.#masking(images, checked), ...scoring(checked) };
    return runJob(this.#core, checked, (job) => this.#native.scorePatches(job, input, native));
  }

  /**
   * Scores every patch: as many random masks as it takes for each patch to be visible in at least `rounds` of them, and
   * the mean and its standard error over those. The masks depend on the seed and the image's place in the batch.
   *
   * Progress counts variants. `'psnr'` and `'ssim'` are rescaled within one image's round of masks, so a map does not
   * depend on what else is in the batch.
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `mean` and `standardError`, both [n, rows, columns].
   * @throws {LtrpError} as {@link scorePatches}.
   */
  async scoreMap(images: ImageBatch | PixelBatch, options?: ScoreMapOptions): Promise<ScoreMap> {
    const checked = checkOptions(options, scoreMapKeys);
    const input = this.#input(images);
    const { maskRatio, seed, rounds } = checked;
    checkInteger('rounds', rounds, 1, 1_000_000);
    checkMaskRatioAndSeed(checked);
    const native = { maskRatio, seed, rounds, ...scoring(checked) };
    return runJob(this.#core, checked, (job) => this.#native.scoreMap(job, input, native));
  }

  /**
   * Predicts all patches from the visible ones.
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `patches` [n, L, p * p * 3] in the model's target space (normalised pixels, or pixels normalised per patch
   *   when `config.normalizedTarget`), values ordered (row, column, channel); predictions at visible patches are there too.
   * @throws {LtrpError} as {@link scorePatches}.
   */
  async reconstruct(
    images: ImageBatch | PixelBatch,
    options?: ReconstructOptions,
  ): Promise<Reconstruction> {
    const checked = checkOptions(options, reconstructKeys);
    const input = this.#input(images);
    const native = this.#masking(images, checked);
    return runJob(this.#core, checked, (job) => this.#native.reconstruct(job, input, native));
  }

  /**
   * Encodes the visible patches.
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `latent` [n, V + 1, D] after the final norm, the CLS token first, then the visible patches in raster order.
   * @throws {LtrpError} as {@link scorePatches}.
   */
  async encode(images: ImageBatch | PixelBatch, options?: ReconstructOptions): Promise<Encoding> {
    const checked = checkOptions(options, reconstructKeys);
    const input = this.#input(images);
    const native = this.#masking(images, checked);
    return runJob(this.#core, checked, (job) => this.#native.encode(job, input, native));
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

  #input(images: ImageBatch | PixelBatch): NativeImages {
    checkBatch(images, this.config.patchSize);
    return { data: images.data, shape: images.shape } as NativeImages;
  }

  #masking(images: ImageBatch | PixelBatch, options: MaskingOptions): NativeMasking {
    const { maskRatio, seed, noise, visible } = options;
    const { count, height, width } = imageGeometry(images);
    const patches = (height / this.config.patchSize) * (width / this.config.patchSize);
    checkMaskRatioAndSeed(options);
    checkFloats('noise', noise, count * patches);
    checkIndices('visible', visible);
    if (visible !== undefined && (visible.length === 0 || visible.length % count !== 0)) {
      throw invalid(
        `visible must hold the same number of ids for each of the ${count} images, but it has ${visible.length} values.`,
      );
    }
    return { maskRatio, seed, noise, visible };
  }
}

function checkMaskRatioAndSeed({ maskRatio, seed }: { maskRatio?: unknown; seed?: unknown }): void {
  checkShare('maskRatio', maskRatio, '(0, 1)');
  checkInteger('seed', seed, 0);
}

function scoring(
  options: ScoreOptions | ScoreMapOptions,
): Omit<NativeScoreOptions, keyof NativeMasking> {
  const { drop, metric, memoryBudget, tolerance } = options;
  checkChoice('drop', drop, ['decoder', 'encoder', 'both']);
  checkChoice('metric', metric, ['l1', 'l2', 'psnr', 'ssim']);
  checkInteger('memoryBudget', memoryBudget, 1);
  checkShare('tolerance', tolerance, '[0, 1)');
  return { drop, metric, memoryBudget, tolerance };
}
