/**
 * The typed face of the two native binaries. Everything native that TypeScript calls is declared here and nowhere else.
 *
 * Conventions: every asynchronous method takes a {@link NativeJob} first, copies its typed-array inputs before it returns
 * (callers may then detach them), runs on the environment's one compute thread in first-in-first-out order, and rejects
 * with an `Error` that carries `code` (`ERR_LTRP_…`). A cancelled job rejects with `code === 'ERR_LTRP_CANCELLED'`.
 * Shapes: n images, L patches in raster order, V visible patches.
 */

/** `native/bootstrap`: links no LibTorch. */
export interface BootstrapBinding {
  /** Opens shared libraries by absolute path, in order (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE). Throws with the loader's text. */
  preload(paths: readonly string[]): void;
  /** Absolute paths of all shared objects mapped into this process whose file name starts with `prefix`. */
  mapped(prefix: string): string[];
}

/** Cancel flag and progress of one call. `onProgress` gets only the newest event; it never blocks the compute thread. */
export interface NativeJob {
  cancel(): void;
}

export interface NativeTransformerConfig {
  dim: number;
  depth: number;
  heads: number;
  mlpDim: number;
}

export interface NativeMaeConfig {
  imageHeight: number;
  imageWidth: number;
  patchSize: number;
  encoder: NativeTransformerConfig;
  decoder: NativeTransformerConfig | null;
  layerNormEps: number;
  normalizedTarget: boolean;
  mean: [number, number, number];
  std: [number, number, number];
}

export interface NativeRankerConfig {
  imageHeight: number;
  imageWidth: number;
  patchSize: number;
  encoder: NativeTransformerConfig;
  head: 'cls' | 'token';
  layerNormEps: number;
  mean: [number, number, number];
  std: [number, number, number];
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

export type Drop = 'decoder' | 'encoder' | 'both';
export type Metric = 'l1' | 'l2' | 'psnr' | 'ssim';

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
  /** Without `visible`: all L patches go in. With it ([n * V], ascending per image): only those go in (training's asymmetric input). Logits [n, L]; kToken heads leave slots that were not visible at 0. */
  rank(
    job: NativeJob,
    images: NativeImages,
    options: { visible?: Int32Array | undefined },
  ): Promise<{ logits: Float32Array; shape: [number, number] }>;
  dispose(): void;
}

/** One decoded picture: RGB bytes, height * width * 3. */
export interface NativePicture {
  pixels: Uint8Array;
  height: number;
  width: number;
}

export type LossName = 'pointWise' | 'listNet' | 'listMle' | 'rankNet' | 'focusedRank';

/** Where a trainer computes. Not part of a run: `options` does not name it, and a checkpoint goes on anywhere. */
export interface NativeTrainingPlace {
  device: string;
}

/** Options shared by both trainers. Units: images for sizes, optimizer steps for lengths. */
export interface NativeTrainingOptions {
  batchSize: number;
  /** Images per forward/backward; gradients accumulate to batchSize. */
  microBatchSize: number;
  steps: number;
  warmupSteps: number;
  /** Peak learning rate, absolute. Linear warm-up, half-cosine to 0. */
  learningRate: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  /** Global gradient norm limit; null: no clipping (the norm is reported all the same). */
  clipGradientNorm: number | null;
  precision: 'float32' | 'bfloat16';
  seed: number;
  /** RandomResizedCrop: area share range; aspect 3/4 to 4/3; bicubic with antialiasing. */
  cropScale: [number, number];
  flip: boolean;
  maskRatio: number;
}

export interface NativePretrainOptions extends NativeTrainingOptions {
  kind: 'pretrain';
  model: NativeMaeConfig;
}

export interface NativeRankerTrainingOptions extends NativeTrainingOptions {
  kind: 'ranker';
  model: NativeRankerConfig;
  /** Checkpoint path of the frozen teacher. */
  teacher: string;
  loss: LossName;
  /** For listMle and focusedRank; null: the whole list. */
  lossK: number | null;
  drop: Drop;
  metric: Metric;
  /** 'visible': the paper's asymmetric input; 'full': the ranker sees all patches, the loss reads the visible slots. */
  input: 'visible' | 'full';
  /** 'teacher': patch projection, CLS token and blocks start as the first ones of the teacher's encoder; the widths must agree. */
  start: 'random' | 'teacher';
  memoryBudget: number;
}

export interface NativeStepResult {
  step: number; // optimizer steps done after this one
  loss: number;
  learningRate: number;
  gradientNorm: number;
  augmentSeconds: number; // decode excluded; crops and normalisation on the compute thread
  teacherSeconds: number; // 0 when pre-training
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
  /** Indices [n, keep]. See method section 5. */
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
