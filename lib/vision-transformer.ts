import { callOnKept, type EmbedOptions } from './kept-patches.js';
import { checkMade, frozen, keepNative, loadModel, made, publicConfig } from './models.js';
import type { CoreBinding, NativeClassifier, NativeClassifierConfig } from './native/binding.js';
import {
  words,
  type ImageBatch,
  type LoadOptions,
  type ModelConfig,
  type PixelBatch,
  type Precision,
} from './types.js';
import { checkOptions, readImageBatch } from './validation.js';

/** Geometry of a classifier. */
export type ClassifierConfig = NativeClassifierConfig & ModelConfig;

/** Options of {@link VisionTransformer.classify}. */
export interface ClassifyOptions extends EmbedOptions {
  /** How many classes `top` has, 1 to all of them. Default: there is no `top`. */
  topK?: number | undefined;
}

const embedKeys = words<keyof EmbedOptions>()(
  'signal onProgress keep keepRatio selector selectorModel seed',
);
const classifyKeys = words<keyof ClassifyOptions>()(
  'signal onProgress keep keepRatio selector selectorModel seed topK',
);

/** What images are taken for. */
export interface Classification {
  /** [n, classes]; larger is likelier. */
  logits: Float32Array;
  /** `[n, topK]`: the classes with the largest logits, the largest first; of equal ones the lower first. Only with `topK`. */
  top?: Int32Array;
  /** Of `logits`. */
  shape: readonly [images: number, classes: number];
}

/** What the head of a classifier reads. */
export interface Embedding {
  /** [n, D]. */
  embeddings: Float32Array;
  /** Of the tensor above. */
  shape: readonly [images: number, width: number];
}

/**
 * A vision transformer that classifies images from all of their patches or only from those that are kept: these are
 * gathered after the positions are added and before the first block (section 4 of arXiv 2404.00680), so that its cost falls
 * with their number.
 *
 * All methods run on the core's compute thread; they reject with an {@link LtrpError}, or with the signal's reason when they
 * are cancelled. A model that refused a call stays usable.
 *
 * @example
 * ```ts
 * const vit = await VisionTransformer.load('mae_finetuned_vit_base.pth');
 * const images = await readImages(['cat.jpg'], { size: vit.config.imageSize });
 * const ranker = await PatchRanker.load('tiny');
 * const { logits } = await ranker.rank(images);
 * const { indices } = await selectPatches(images, logits, { keepRatio: 0.5 });
 * const { top } = await vit.classify(images, { keep: indices, topK: 5 });
 * // The same in one call:
 * await vit.classify(images, { keepRatio: 0.5, selector: 'ranker', topK: 5 });
 * ```
 */
export class VisionTransformer {
  /** Geometry, input normalisation and head, as the checkpoint has them. */
  readonly config: Readonly<ClassifierConfig>;
  /** What is computed in: the precision asked for, or what the processor has instead. */
  readonly precision: Precision;
  /** What the checkpoint left open and how it was read, in sentences. Empty for models of this project. */
  readonly notes: readonly string[];
  readonly #core: CoreBinding;
  readonly #native: NativeClassifier;

  private constructor(key: typeof made, core: CoreBinding, native: NativeClassifier) {
    checkMade(key, 'VisionTransformer');
    this.#core = core;
    this.#native = native;
    keepNative(this, native);
    this.precision = native.precision;
    this.notes = frozen(native.notes);
    this.config = publicConfig(native.config);
  }

  /**
   * Loads a classifier: a safetensors file or one of torch.save, or a folder with one, as for {@link MaskedAutoencoder.load}.
   * Understood are MAE's fine-tuned files, LTRP's, and ViT and DeiT of timm and Hugging Face (DeiT without distillation). The
   * number of attention heads of a `.pth` comes from a `config.json` beside it where its width is none of the published ones. A
   * masked autoencoder, or its encoder alone, is a model without a head: it embeds, and does not classify.
   *
   * @throws {LtrpError} as {@link MaskedAutoencoder.load}.
   */
  static async load(source: string, options?: LoadOptions): Promise<VisionTransformer> {
    const { core, native } = await loadModel('classifier', source, options);
    return new VisionTransformer(made, core, native);
  }

  /**
   * Classifies images. With the same patches an image's logits have the same bits in any batch, at any place in it, and on any number
   * of threads. What selectors draw at random depends on the place.
   *
   * @param images - [n, 3, H, W], or bytes [n, H, W, 3]; any grid of the model's patch size, for which positions are interpolated.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (shapes, pixels that are not finite, `keep` with an id twice or outside the
   *   grid or with none, a model that the selector cannot ask, its scores, `topK`), `ERR_LTRP_CHECKPOINT_CONTENT` (there is no
   *   head), `ERR_LTRP_NOT_FINITE` (a logit that is not), `ERR_LTRP_DISPOSED`. What a selector of your own throws is thrown on.
   */
  async classify(
    images: ImageBatch | PixelBatch,
    options?: ClassifyOptions,
  ): Promise<Classification> {
    const checked = checkOptions(options, classifyKeys);
    const given = readImageBatch(images);
    const { topK } = checked;
    return callOnKept(this.#core, this, given, checked, (job, batch, kept) =>
      this.#native.classify(job, batch, { ...kept, topK }),
    );
  }

  /**
   * What the head reads: the CLS token after the norm or the normed mean of the patch tokens, as `config.pooling` says.
   *
   * @param images - As for {@link classify}.
   * @throws {LtrpError} as {@link classify}.
   */
  async embed(images: ImageBatch | PixelBatch, options?: EmbedOptions): Promise<Embedding> {
    const checked = checkOptions(options, embedKeys);
    const given = readImageBatch(images);
    return callOnKept(this.#core, this, given, checked, (job, batch, kept) =>
      this.#native.embed(job, batch, kept),
    );
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
