/**
 * Types shared by the public classes and functions.
 *
 * Shapes: n images, L patches in raster order (row by row from the top left), V visible patches, p the side of a patch in
 * pixels. All tensors are dense, row-major typed arrays with their shape beside them.
 */

/** Where the arithmetic runs. `'auto'` takes a GPU that can be used, else the CPU; `'cuda'` means `'cuda:0'`. */
export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/** Arithmetic of the forward passes, from exact to coarse. */
export type Precision = 'float32' | 'float16' | 'bfloat16' | 'fp8' | 'int8';

/**
 * What is known of a patch before it is looked at: `'centre'`, that photographers put subjects in the middle; the distance is in
 * shares of the picture's height and width.
 */
export type Prior = 'none' | 'centre';

type WordsOf<Text extends string> = Text extends `${infer First} ${infer Rest}`
  ? First | WordsOf<Rest>
  : Text;

/**
 * All words of a union, or keys of a type, in a text with a space between them: the compiler compares them with it,
 * test/names.test.ts with those of the core.
 */
export const words =
  <Word extends string>() =>
  <Text extends string>(
    text: [Word, WordsOf<Text>] extends [WordsOf<Text>, Word] ? Text : Word,
  ): readonly Word[] =>
    text.split(' ') as Word[];

/** Every {@link Precision}. */
export const precisions = words<Precision>()('float32 float16 bfloat16 fp8 int8');

/** Every {@link Prior}. */
export const priors = words<Prior>()('none centre');

/** Options of every load. */
export interface LoadOptions {
  /** Default `'auto'`. A device that cannot be used is refused with `ERR_LTRP_UNSUPPORTED` and the reason. */
  device?: Device | undefined;
  /**
   * Precision of matrix products. Default `'float32'`. A teacher scores in the delta form with `'bfloat16'` and
   * `'int8'`: several times faster, and exact to about 5e-4 and 2e-3 of a score because only differences are rounded;
   * reconstructions and encodings stay float32. A ranker or classifier rounds what enters each product, two and three times faster:
   * patches whose logits nearly tie may change places (embedded ranker, photographs: Kendall tau against float64 0.998 and
   * 0.994). `'float16'` and `'fp8'` are for GPUs. Without instructions for a precision, `'fp8'` gives way to
   * `'int8'`, and everything else to the next more exact precision that there is; the model's `precision` says which.
   */
  precision?: Precision | undefined;
  /** Folder of the LibTorch to use; it counts for the first load in a process. Default: see `ltrp doctor`. */
  libtorch?: string | undefined;
  /**
   * Which weights to take from a file with several models: a key above them or a part of the names' prefix, such as
   * `'model_ema'`. Default: the only model, or the weights that are not an average (EMA) of others; `notes` says which.
   */
  weights?: string | undefined;
  /** Cancels the load; the promise rejects with the signal's reason. Without it the load cannot be cancelled. */
  signal?: AbortSignal | undefined;
  /** Bytes of a file of an `hf:` model as it is fetched, file by file. Without it, and for other sources, nothing is reported. */
  onProgress?: ProgressListener | undefined;
}

/** Options of {@link MaskedAutoencoder.load}. */
export interface TeacherLoadOptions extends LoadOptions {
  /**
   * Whether the model predicts pixels normalised per patch (`norm_pix_loss`), as mae_pretrain_*_full.pth does. Default: as
   * the file, its recorded arguments or a config.json beside it say; without any, false, with a note in `notes`.
   */
  normalizedTarget?: boolean | undefined;
}

/** Pictures as the models take them: RGB, normalised by the models' mean and standard deviation, NCHW. */
export interface ImageBatch {
  /** `images * 3 * height * width` values. */
  readonly data: Float32Array;
  /** Height and width are in pixels and multiples of the patch size of the model they are given to. */
  readonly shape: readonly [images: number, channels: 3, height: number, width: number];
}

/**
 * Decoded pictures: RGB bytes, row by row. Models normalise them on their device, with their own mean and standard deviation.
 * Bytes take a quarter of the memory, and of the copy to a GPU.
 */
export interface PixelBatch {
  /** `images * height * width * 3` values. */
  readonly data: Uint8Array;
  /** Height and width are in pixels and multiples of the patch size of the model they are given to. */
  readonly shape: readonly [images: number, height: number, width: number, channels: 3];
}

/** How far a call has come. The unit is that of the call: variants for scores, images for encodings. */
export interface ProgressEvent {
  /** Units done so far. */
  done: number;
  /** Units in all. */
  total: number;
}

/** Receives the progress of a call. If it throws, the call is cancelled and rejects with that error. */
export type ProgressListener = (event: ProgressEvent) => void;

/** Options of every long call. */
export interface JobOptions {
  /** Cancels the call; the promise rejects with the signal's reason. Without it the call cannot be cancelled. */
  signal?: AbortSignal | undefined;
  /** Called on the JavaScript thread with the newest state only; events in between may be left out. Without it nothing is reported. */
  onProgress?: ProgressListener | undefined;
}

/** Where the scored patch is removed (the paper: `decoder`). */
export type Drop = 'decoder' | 'encoder' | 'both';

/** Every {@link Drop}. */
export const drops = words<Drop>()('decoder encoder both');

/** How two reconstructions are compared. `reach` (not the paper's) is a geometric mean: it asks how many patches move rather than how far the few that move most. `psnr` and `ssim` are rescaled: by scorePatches over the whole batch, on which they depend; by scoreMap within one image's round. Where all values are equal the scores are 0. */
export type Metric = 'l1' | 'l2' | 'psnr' | 'ssim' | 'reach';

/** Every {@link Metric}. */
export const metrics = words<Metric>()('l1 l2 psnr ssim reach');

/** Names of the learning-to-rank losses. */
export type LossName = 'pointWise' | 'listNet' | 'listMle' | 'rankNet' | 'focusedRank';

/** Every {@link LossName}. */
export const lossNames = words<LossName>()('pointWise listNet listMle rankNet focusedRank');

/**
 * Which patches stay visible: `visible` wins over `noise`, which wins over `seed`.
 * V = ⌊L · (1 − maskRatio)⌋ in double precision; there must be at least one visible and one masked patch.
 */
export interface MaskingOptions {
  /** Share of patches that are hidden, in (0, 1). Default 0.9. */
  maskRatio?: number | undefined;
  /** Integer in [0, 2^53). The masks of an image depend on the seed and its place in the batch. Default 0. */
  seed?: number | undefined;
  /** `[n * L]`: finite values; the V patches with the smallest noise are visible. Default: drawn from `seed`. */
  noise?: Float32Array | undefined;
  /** `[n * V]`: the ids of the visible patches, ascending for each image. Default: chosen by `noise`. */
  visible?: Int32Array | undefined;
}

/** Options of the leave-one-out scores. */
export interface ScoreOptions extends MaskingOptions, JobOptions {
  /**
   * `'decoder'` (default): encode once, decode without the patch. `'encoder'`: hide it in the encoder's attention only,
   * for comparison with the authors' code. `'both'`: encode and decode without it.
   */
  drop?: Drop | undefined;
  /**
   * Default `'l1'`: mean absolute difference over the masked patches, in normalised pixels. `'reach'`: the geometric mean of the
   * masked patches' mean absolute differences.
   */
  metric?: Metric | undefined;
  /** Upper bound in bytes for the activations of one chunk of variants. Default 512 MiB. Results do not depend on it, to the last bit. */
  memoryBudget?: number | undefined;
  /**
   * Below float32 only: the share, in [0, 1), of a difference's squared norm that may be left out before each matrix
   * product by leaving out the tokens with the smallest differences. Default 0: nothing is left out. At 0.001 the order of a
   * trained teacher keeps a Kendall tau of about 0.98, and its scores are one to two per cent too low. docs/benchmarks.md
   * shows the speed.
   */
  tolerance?: number | undefined;
}

/** Options of {@link MaskedAutoencoder.scoreMap}. */
export interface ScoreMapOptions extends Omit<ScoreOptions, 'noise' | 'visible'> {
  /** Every patch is visible in at least this many random masks. Default 4. */
  rounds?: number | undefined;
  /**
   * Multiplies each mean and its error by the patch's surprise: how badly the model predicts the patch's edges (differences of
   * neighbouring pixels) in the masks that hide it. Goes beyond the paper; meant for `metric: 'reach'`. Default false.
   */
  surprise?: boolean | undefined;
}

/** Options of {@link MaskedAutoencoder.reconstruct} and {@link MaskedAutoencoder.encode}. */
export interface ReconstructOptions extends MaskingOptions, JobOptions {}

/** A stack of transformer blocks. */
export interface TransformerConfig {
  /** Width of a token. */
  dim: number;
  /** Number of blocks. */
  depth: number;
  /** Attention heads. */
  heads: number;
  /** Hidden width of the MLP. */
  mlpDim: number;
}

/** Geometry that all kinds of models have. */
export interface ModelConfig {
  /**
   * Side in pixels of the square images the model was made for. A model made for other shapes has its height here and
   * both sides in `imageHeight` and `imageWidth`. Position tables are interpolated for other sizes.
   */
  imageSize: number;
  /** Pixels. */
  imageHeight: number;
  /** Pixels. */
  imageWidth: number;
  /** Side of a patch in pixels. */
  patchSize: number;
  /** Rows and columns of patches at `imageHeight` × `imageWidth`. */
  grid: readonly [rows: number, columns: number];
  /** Size of the encoder. */
  encoder: Readonly<TransformerConfig>;
  /** Added to the variance in layer norms. */
  layerNormEps: number;
  /** Mean of the input pixels in [0, 1], red, green, blue. */
  mean: readonly [number, number, number];
  /** Standard deviation of the input pixels in [0, 1], red, green, blue. */
  std: readonly [number, number, number];
}

/** Geometry of a masked autoencoder. */
export interface MaeConfig extends ModelConfig {
  /** Size of the decoder. */
  decoder: Readonly<TransformerConfig>;
  /** True when the model was trained to predict patches normalised to mean 0 and variance 1. */
  normalizedTarget: boolean;
}

/** Geometry of a ranker. */
export interface RankerConfig extends ModelConfig {
  /** `'cls'`: the paper's head, one grid only. `'token'`: one logit from every patch token, any grid. */
  head: 'cls' | 'token';
}

/** Every head of a ranker. */
export const heads = words<RankerConfig['head']>()('cls token');

/** Where a centre crop of an odd difference begins. */
export type CropRounding = 'floor' | 'even';

/** Every {@link CropRounding}. */
export const cropRoundings = words<CropRounding>()('floor even');

/** How weights are stored. */
export type StoredType = 'float32' | 'float16' | 'bfloat16';

/** Every {@link StoredType}. */
export const storedTypes = words<StoredType>()('float32 float16 bfloat16');

/** Scores of the visible patches. */
export interface PatchScores {
  /** [n, V]; larger means that the reconstruction needs the patch more. */
  scores: Float32Array;
  /** `[n, V]`: which patch each score belongs to, ascending. */
  visible: Int32Array;
  /** Of the tensors above. */
  shape: readonly [images: number, visible: number];
}

/** A score for every patch, averaged over masks. */
export interface ScoreMap {
  /** [n, rows, columns]. */
  mean: Float32Array;
  /** [n, rows, columns]; of the mean, over the masks in which the patch was visible. NaN where there was only one. */
  standardError: Float32Array;
  /** Of the tensors above. */
  shape: readonly [images: number, rows: number, columns: number];
}

/** The decoder's predictions. */
export interface Reconstruction {
  /** [n, L, p * p * 3] in the model's target space, values ordered (row, column, channel). */
  patches: Float32Array;
  /** [n, V], ascending. */
  visible: Int32Array;
  /** Of the tensors above. */
  shape: readonly [images: number, patches: number, values: number];
}

/** The encoder's output for the visible patches. */
export interface Encoding {
  /** [n, V + 1, D], the CLS token first, after the final norm. */
  latent: Float32Array;
  /** [n, V], ascending. */
  visible: Int32Array;
  /** Of the tensors above. */
  shape: readonly [images: number, tokens: number, width: number];
}

/** A logit for every patch; larger ranks higher. */
export interface Ranking {
  /** [n, L], with `prior` combined scores; -Infinity for patches that did not go in (`visible`). */
  logits: Float32Array;
  /** Of the tensors above. */
  shape: readonly [images: number, patches: number];
}

/** How a squeezed picture is stored. */
export type SqueezeFormat = 'jpeg' | 'webp' | 'avif';

/** Every {@link SqueezeFormat}. */
export const squeezeFormats = words<SqueezeFormat>()('jpeg webp avif');

/** What the dropped patches of a squeezed picture become. */
export type SqueezeFill = 'flat' | 'blur';

/** Every {@link SqueezeFill}. */
export const squeezeFills = words<SqueezeFill>()('flat blur');
