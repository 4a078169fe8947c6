import {
  checkMade,
  frozen,
  keepNative,
  loadModel,
  made,
  publicConfig,
  teacherLoadKeys,
} from './models.js';
import type { CoreBinding, NativeMae } from './native/binding.js';
import { runJob } from './native/job.js';
import {
  words,
  type Encoding,
  type ImageBatch,
  type MaeConfig,
  type PatchScores,
  type PixelBatch,
  type Precision,
  type Reconstruction,
  type ReconstructOptions,
  type ScoreMap,
  type ScoreMapOptions,
  type ScoreOptions,
  type TeacherLoadOptions,
} from './types.js';
import { checkOptions, invalid, readImageBatch } from './validation.js';

const reconstructKeys = words<keyof ReconstructOptions>()(
  'signal onProgress maskRatio seed noise visible',
);

const scoreMapKeys = words<keyof ScoreMapOptions>()(
  'signal onProgress maskRatio seed drop metric memoryBudget tolerance rounds surprise',
);

const scoreKeys = words<keyof ScoreOptions>()(
  'signal onProgress maskRatio seed noise visible drop metric memoryBudget tolerance',
);

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
  /** Precision of scores: the one asked for, or the processor's substitute. */
  readonly precision: Precision;
  /**
   * Sentences on how the checkpoint was read where it left something open: assumed defaults, parts left out, which
   * of several models it is. Empty for models of this project.
   */
  readonly notes: readonly string[];
  readonly #core: CoreBinding;
  readonly #native: NativeMae;

  private constructor(key: typeof made, core: CoreBinding, native: NativeMae) {
    checkMade(key, 'MaskedAutoencoder');
    this.#core = core;
    this.#native = native;
    keepNative(this, native);
    this.precision = native.precision;
    this.notes = frozen(native.notes);
    const { decoder } = native.config;
    // For the compiler: the core has refused such a file.
    if (decoder === null)
      throw invalid('The checkpoint has an encoder only; a teacher needs the decoder.');
    this.config = publicConfig({ ...native.config, decoder });
  }

  /**
   * Loads a teacher: `'tiny'` (embedded), a safetensors file or one of torch.save, one shard or the index of several, or a
   * folder with any of these (Hugging Face's, a training run's). Names of the official MAE files, of LTRP's, and of Hugging
   * Face's ViTMAE (hub files and transformers 5) are understood, below whatever keys and prefixes wrappers add (DDP,
   * torch.compile, Lightning, DeepSpeed, FSDP, EMA). Nothing in a file is executed.
   *
   * `'hf:organisation/name'`, also with `@revision`, is a model of the Hugging Face hub. It is taken from a cache in the
   * layout of Python's, and fetched where it is not there (docs/checkpoints.md). Nothing else is ever fetched.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT` (not a valid file),
   *   `ERR_LTRP_CHECKPOINT_CONTENT` (a tensor is missing, unexpected or misshapen; there is no decoder),
   *   `ERR_LTRP_UNSUPPORTED` (device, precision or architecture), `ERR_LTRP_OUT_OF_MEMORY`, `ERR_LTRP_DOWNLOAD` (of a model of
   *   the hub), or an error of finding LibTorch.
   */
  static async load(source: string, options?: TeacherLoadOptions): Promise<MaskedAutoencoder> {
    const { core, native } = await loadModel('mae', source, options, teacherLoadKeys);
    return new MaskedAutoencoder(made, core, native);
  }

  /**
   * Scores the visible patches of one random (or given) mask: how much the reconstruction of the masked patches changes
   * when a visible patch is removed. This is the pseudo-score of "Learning to Rank Patches for Unbiased Image
   * Redundancy Reduction" (CVPR 2024, arXiv 2404.00680): mean |anchor − prediction without i| over the masked patches and
   * their values, in normalised pixels; larger is denser. `'psnr'` and `'ssim'` compare whole reconstructions and are
   * rescaled to 1 − (x − min) / (max − min) over the whole batch (to 0 where all are equal), so those two depend on
   * the other images.
   *
   * With the same `visible` patches an image's scores have the same bits in any batch, at any place in it, with any
   * `memoryBudget` and number of threads; `'psnr'` and `'ssim'` with any of these but the batch.
   *
   * One mask says little; {@link scoreMap} averages over many. Progress counts variants (n · V).
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `scores` and `visible`, both [n, V].
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, ranges, pixels that are not finite), `ERR_LTRP_NOT_FINITE` (a score
   *   that is not), `ERR_LTRP_DISPOSED`, `ERR_LTRP_OUT_OF_MEMORY`.
   */
  async scorePatches(
    images: ImageBatch | PixelBatch,
    options?: ScoreOptions,
  ): Promise<PatchScores> {
    const checked = checkOptions(options, scoreKeys);
    const given = readImageBatch(images);
    return runJob(this.#core, checked, (job) => this.#native.scorePatches(job, given, checked));
  }

  /**
   * Scores every patch: the mean over random masks, with its standard error. Every patch is visible in at least `rounds`
   * masks. They depend on the seed and the image's place in the batch.
   *
   * Progress counts variants. `'psnr'` and `'ssim'` are rescaled within one image's round of masks, so a map at the same
   * place has the same bits in any batch, with any `memoryBudget` and number of threads.
   *
   * @param images - [n, 3, H, W], any grid of the model's patch size.
   * @returns `mean` and `standardError`, both [n, rows, columns].
   * @throws {LtrpError} as {@link scorePatches}.
   */
  async scoreMap(images: ImageBatch | PixelBatch, options?: ScoreMapOptions): Promise<ScoreMap> {
    const checked = checkOptions(options, scoreMapKeys);
    const given = readImageBatch(images);
    return runJob(this.#core, checked, (job) => this.#native.scoreMap(job, given, checked));
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
    const given = readImageBatch(images);
    return runJob(this.#core, checked, (job) => this.#native.reconstruct(job, given, checked));
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
    const given = readImageBatch(images);
    return runJob(this.#core, checked, (job) => this.#native.encode(job, given, checked));
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
