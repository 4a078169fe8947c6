/**
 * The typed face of the two native binaries. Everything native that TypeScript calls is declared here and nowhere else.
 *
 * Conventions: every asynchronous method takes a {@link NativeJob} first, copies its typed-array inputs before it returns
 * (callers may then detach them), runs on the environment's one compute thread in first-in-first-out order, and rejects
 * with an `Error` that carries `code` (`ERR_LTRP_…`). Arrays of results can be transferred, but for those of `readWeights`,
 * which may be LibTorch's memory. A cancelled job rejects with `code === 'ERR_LTRP_CANCELLED'`.
 * Shapes: n images, L patches in raster order, V visible patches.
 */

import type {
  Drop,
  LossName,
  Metric,
  TransformerConfig as NativeTransformerConfig,
} from '../types.js';

export type { Drop, LossName, Metric, NativeTransformerConfig };

/** `native/bootstrap`: links no LibTorch. */
export interface BootstrapBinding {
  /**
   * Opens shared libraries by absolute path, in order (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), on a thread of libuv's pool.
   * Rejects with the loader's text; throws on arguments of another kind.
   */
  preload(paths: readonly string[]): Promise<void>;
  /** Absolute paths of all shared objects mapped into this process whose file name starts with `prefix`. */
  mapped(prefix: string): string[];
}

/** Cancel flag and progress of one call. `onProgress` gets only the newest event; it never blocks the compute thread. */
export interface NativeJob {
  cancel(): void;
}

/** Geometry that the files of both kinds of model carry. */
export interface NativeModelConfig {
  /** Pixels. */
  imageHeight: number;
  /** Pixels. */
  imageWidth: number;
  /** Side of a patch in pixels. */
  patchSize: number;
  /** Size of the encoder. */
  encoder: NativeTransformerConfig;
  /** What layer norms add to the variance. */
  layerNormEps: number;
  /** Mean of the input pixels in [0, 1], red, green, blue. */
  mean: [number, number, number];
  /** Standard deviation of the input pixels in [0, 1], red, green, blue. */
  std: [number, number, number];
}

/** Geometry of a masked autoencoder's file. */
export interface NativeMaeConfig extends NativeModelConfig {
  /** Size of the decoder; null where the file has an encoder only. */
  decoder: NativeTransformerConfig | null;
  /** True when the model was trained to predict patches normalised to mean 0 and variance 1. */
  normalizedTarget: boolean;
}

/** Geometry of a ranker's file. */
export interface NativeRankerConfig extends NativeModelConfig {
  /** `'cls'`: the paper's head, one grid only. `'token'`: one logit from every patch token, any grid. */
  head: 'cls' | 'token';
}

/**
 * Normalised pixels, NCHW float32: data.length === n * 3 * height * width. Models take bytes too, row by row, RGB, and
 * normalise them with their own mean and standard deviation.
 */
export type NativeImages =
  | {
      data: Float32Array;
      shape: readonly [images: number, channels: 3, height: number, width: number];
    }
  | {
      data: Uint8Array;
      shape: readonly [images: number, height: number, width: number, channels: 3];
    };

/** What matrix products are computed in. Scores take the delta form below float32. */
export type NativePrecision = 'float32' | 'float16' | 'bfloat16' | 'fp8' | 'int8';

/** How visible patches are chosen: `visible` ids [n * V] win over `noise` [n * L] (smaller is visible), which wins over `seed`. */
export interface NativeMasking {
  maskRatio?: number | undefined; // default 0.9
  seed?: number | undefined; // integer in [0, 2^53), default 0
  noise?: Float32Array | undefined;
  visible?: Int32Array | undefined;
}

export interface NativeScoreOptions extends NativeMasking {
  drop?: Drop | undefined;
  metric?: Metric | undefined;
  /** Upper bound in bytes for the activations of one chunk of variants. Default 512 MiB. */
  memoryBudget?: number | undefined;
  /** Delta form only; see ScoreOptions. Default 0. */
  tolerance?: number | undefined;
}

export interface NativeMae {
  readonly config: NativeMaeConfig;
  /** What the processor's instructions made of the precision asked for. */
  readonly precision: NativePrecision;
  scorePatches(
    job: NativeJob,
    images: NativeImages,
    options: NativeScoreOptions,
  ): Promise<{ scores: Float32Array; visible: Int32Array; shape: [number, number] }>;
  scoreMap(
    job: NativeJob,
    images: NativeImages,
    options: Omit<NativeScoreOptions, 'noise' | 'visible'> & { rounds?: number | undefined },
  ): Promise<{ mean: Float32Array; standardError: Float32Array; shape: [number, number, number] }>;
  /** `patches` are predictions in the model's target space, [n, L, p * p * 3], values ordered (row, column, channel). */
  reconstruct(
    job: NativeJob,
    images: NativeImages,
    options: NativeMasking,
  ): Promise<{ patches: Float32Array; visible: Int32Array; shape: [number, number, number] }>;
  /** Encoder output with CLS first, [n, V + 1, D]. */
  encode(
    job: NativeJob,
    images: NativeImages,
    options: NativeMasking,
  ): Promise<{ latent: Float32Array; visible: Int32Array; shape: [number, number, number] }>;
  /** Frees the weights once running jobs are done; later calls reject with ERR_LTRP_DISPOSED. Idempotent. */
  dispose(): void;
}

export interface NativeRanker {
  readonly config: NativeRankerConfig;
  /** What the processor's instructions made of the precision asked for. */
  readonly precision: NativePrecision;
  /** Without `visible`: all L patches go in. With it ([n * V], ascending per image): only those go in (training's asymmetric input). Logits [n, L]; patches that did not go in have -Infinity. */
  rank(
    job: NativeJob,
    images: NativeImages,
    options: { visible?: Int32Array | undefined },
  ): Promise<{ logits: Float32Array; shape: [number, number] }>;
  dispose(): void;
}

/** RGB bytes of one decoded picture. */
export interface NativePicture {
  /** `height * width * 3` values, row by row. */
  pixels: Uint8Array;
  /** Pixels. */
  height: number;
  /** Pixels. */
  width: number;
}

/** Where a trainer computes. Not part of a run: `options` does not name it, and a checkpoint goes on anywhere. */
export interface NativeTrainingPlace {
  device: string;
}

/** Options shared by both trainers. All are required; `ltrp pretrain --help` and `ltrp train --help` list sensible values. */
export interface NativeTrainingOptions {
  /** Pictures of an optimizer step: an integer in [1, 2^20]. */
  batchSize: number;
  /** Pictures per forward and backward pass, an integer in [1, batchSize]; gradients accumulate to batchSize. */
  microBatchSize: number;
  /** Length of the run in optimizer steps, at least 1: the learning rate's schedule ends there. */
  steps: number;
  /** Optimizer steps over which the learning rate rises, in [0, steps]. */
  warmupSteps: number;
  /** Peak learning rate, absolute, above 0. Linear warm-up, half-cosine to 0. */
  learningRate: number;
  /** Of AdamW, at least 0; none on biases and norms. */
  weightDecay: number;
  /** Of AdamW, in [0, 1). */
  beta1: number;
  /** Of AdamW, in [0, 1). */
  beta2: number;
  /** Limit of the global gradient norm, above 0; null: no clipping (the norm is reported all the same). */
  clipGradientNorm: number | null;
  /** What matrix products of the trained model are computed in; weights, optimizer and the teacher's scores are float32. */
  precision: 'float32' | 'bfloat16';
  /** Integer in [0, 2^53) that weights, crops, flips and masks are drawn from. */
  seed: number;
  /** Range of the share of a picture's area that a crop has, 0 < least <= most <= 1; aspect 3/4 to 4/3; antialiased bicubic. */
  cropScale: [number, number];
  /** Whether half of the crops are mirrored. */
  flip: boolean;
  /** Share of patches that are hidden, in (0, 1). */
  maskRatio: number;
}

/** Everything that defines a pre-training run of a masked autoencoder but the pictures. */
export interface NativePretrainOptions extends NativeTrainingOptions {
  /** Which training it is. */
  kind: 'pretrain';
  /** Geometry of the model; `decoder` must be given. */
  model: NativeMaeConfig;
}

/** Everything that defines a training run of a ranker but the pictures. */
export interface NativeRankerTrainingOptions extends NativeTrainingOptions {
  /** Which training it is. */
  kind: 'ranker';
  /** Geometry of the model; its patch size is the teacher's. */
  model: NativeRankerConfig;
  /** Frozen teacher: `'tiny'` (embedded), or the path of its checkpoint. */
  teacher: string;
  /** What the ranker learns from the teacher's scores; see `rankingLoss`. */
  loss: LossName;
  /** For `'listMle'` and `'focusedRank'`: items, at least 1; null: the whole list. */
  lossK: number | null;
  /** What is taken away to score a patch, as in `scorePatches`. */
  drop: Drop;
  /** How the teacher compares reconstructions, as in `scorePatches`. */
  metric: Metric;
  /** `'visible'`: the paper's asymmetric input; `'full'`: the ranker sees all patches, the loss reads the visible slots. */
  input: 'visible' | 'full';
  /** `'teacher'`: patch projection, CLS token and blocks start as the first ones of the teacher's encoder; the widths must agree. */
  start: 'random' | 'teacher';
  /** Upper bound in bytes for the activations of the teacher's scores, above 0. Results do not depend on it. */
  memoryBudget: number;
}

/** What one optimizer step was like. */
export interface NativeStepResult {
  /** Optimizer steps done after this one. */
  step: number;
  /** The training loss of its pictures. */
  loss: number;
  /** The learning rate it was made with. */
  learningRate: number;
  /** Global norm of the gradient, before clipping. */
  gradientNorm: number;
  /** Seconds for crops and normalisation on the compute thread; decoding is not in it. */
  augmentSeconds: number;
  /** Seconds for the teacher's scores; 0 when pre-training. */
  teacherSeconds: number;
  /** Seconds for the whole step. */
  totalSeconds: number;
}

export interface NativeTrainer {
  readonly step: number;
  readonly options: NativePretrainOptions | NativeRankerTrainingOptions;
  /** One optimizer step on exactly batchSize pictures. Crops, flips and masks are drawn from (seed, step, slot). */
  trainStep(job: NativeJob, pictures: readonly NativePicture[]): Promise<NativeStepResult>;
  /** Held-out figures on centre crops with masks fixed by (seed, picture index). pretrain: reconstructionError = mean squared
   * error on masked patches in target space. ranker: tau and ndcg of logits (full image in) against the teacher's scores at the visible patches. */
  evaluate(
    job: NativeJob,
    pictures: readonly NativePicture[],
  ): Promise<{
    reconstructionError: number | null;
    loss: number | null;
    kendallTau: number | null;
    ndcg: number | null;
  }>;
  /** Everything needed to continue exactly: weights, optimizer state, step, options. Atomic. */
  save(job: NativeJob, path: string): Promise<void>;
  /** The model alone, in our safetensors layout. */
  exportModel(
    job: NativeJob,
    path: string,
    type: 'float32' | 'float16' | 'bfloat16',
  ): Promise<void>;
  dispose(): void;
}

export interface NativeTensor {
  data: Float32Array;
  shape: number[];
}

export interface NativeWeights {
  naming: string;
  config: NativeMaeConfig | NativeRankerConfig;
  tensors: Record<string, NativeTensor>;
}

export interface CoreInfo {
  coreVersion: string; // of package.json
  torchVersion: string; // compiled against
  torchRuntimeVersion: string; // of the libraries that are loaded
  cpuCapability: string; // at::get_cpu_capability: DEFAULT, AVX2, AVX512
  cpuFeatures: string[]; // of: avx2, avx512f, avx512_vnni, avx512_bf16, amx_bf16, amx_int8
  mkl: boolean;
  onednn: boolean;
  threads: number; // intra-op threads of the compute thread
  simd: 'plain' | 'avx2' | 'avx512'; // of our own vector kernels
  /** What a model computes in when it is loaded for a precision. */
  precisions: Record<NativePrecision, NativePrecision>;
  variant: string; // which core this is: 'cpu', or 'cu' and a CUDA version
  devices: string[]; // those that can be used: 'cpu', 'cuda:0', …
  accelerators: NativeAccelerator[]; // those that the driver reports, usable or not
  acceleratorProblem: string | null; // why none of them can be used, without a full stop; null when one can
  autoDevice: string; // what 'auto' leads to
  /** Why work cannot be recorded on that device and is queued step by step, in the device's words; null when it can. */
  recordingProblem: string | null;
}

export interface NativeAccelerator {
  name: string; // 'cuda:0'
  model: string;
  computeCapability: string; // '9.0'
  memory: number; // bytes
  problem: string | null; // why it cannot be used
}

export interface NativeLoadOptions {
  device: string;
  precision: NativePrecision;
}

/** `native/binding`: one per LibTorch minor and variant. */
export interface CoreBinding {
  Job: new (onProgress?: (done: number, total: number) => void) => NativeJob;
  info(): CoreInfo;
  /** Intra-op threads used by the compute thread; applies to jobs queued afterwards. */
  setThreads(threads: number): void;
  /** Cancels all jobs and joins the compute thread. Called once from process 'exit'; workers use a cleanup hook. Idempotent. */
  shutdown(): void;

  /** Bytes RGB [n, height, width, 3] to normalised NCHW float32: (x / 255 - mean) / std. */
  normalizeImages(
    job: NativeJob,
    pixels: Uint8Array,
    shape: readonly [images: number, height: number, width: number],
    mean: readonly number[],
    std: readonly number[],
  ): Promise<Float32Array>;
  loadMae(job: NativeJob, path: string, options: NativeLoadOptions): Promise<NativeMae>;
  loadRanker(job: NativeJob, path: string, options: NativeLoadOptions): Promise<NativeRanker>;
  /** Indices [n, keep]. Patches whose logit is -Infinity are not chosen. See method section 5. */
  selectPatches(
    job: NativeJob,
    images: NativeImages,
    logits: Float32Array,
    options: {
      keep: number;
      patchSize: number;
      scoreShare: number;
      seed: number;
      mode: 'default' | 'compat';
      device?: string | undefined; // default 'cpu'
      densityNoise?: Float32Array | undefined; // [n * L]
      memberNoise?: Float32Array | undefined; // [n * L]
    },
  ): Promise<{ indices: Int32Array; shape: [number, number] }>;
  rankingLoss(
    job: NativeJob,
    name: LossName,
    predicted: Float32Array,
    target: Float32Array,
    shape: readonly [lists: number, items: number],
    options: {
      k?: number | undefined;
      noise?: Float32Array | undefined;
      seed?: number | undefined;
    },
  ): Promise<{ loss: number; gradient: Float32Array }>;
  /** Kendall's tau-b and NDCG of `predicted` against `target`, per list, [lists] each. */
  rankAgreement(
    job: NativeJob,
    predicted: Float32Array,
    target: Float32Array,
    shape: readonly [lists: number, items: number],
  ): Promise<{ kendallTau: Float64Array; ndcg: Float64Array }>;
  convertCheckpoint(
    job: NativeJob,
    input: string,
    output: string,
    options: { kind: 'mae' | 'ranker'; type: 'float32' | 'float16' | 'bfloat16' },
  ): Promise<{ naming: string; tensors: number; config: NativeMaeConfig | NativeRankerConfig }>;
  /** A checkpoint of any naming, whole: tensors by canonical name (core/checkpoint/checkpoint.h), float32. */
  readWeights(
    job: NativeJob,
    path: string,
    options: { kind: 'mae' | 'ranker' },
  ): Promise<NativeWeights>;
  createTrainer(
    job: NativeJob,
    options: (NativePretrainOptions | NativeRankerTrainingOptions) & NativeTrainingPlace,
  ): Promise<NativeTrainer>;
  resumeTrainer(job: NativeJob, path: string, place: NativeTrainingPlace): Promise<NativeTrainer>;
}
