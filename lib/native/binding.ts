/**
 * Types of the two native binaries: every native function that TypeScript calls.
 *
 * Conventions: every asynchronous method takes a {@link NativeJob} first, copies its typed-array inputs before it returns
 * (callers may then detach them), runs on the environment's one compute thread in first-in-first-out order, and rejects
 * with an `Error` that carries `code` (`ERR_LTRP_…`). Arrays of results can be transferred, but for those of `readWeights`,
 * which may be LibTorch's memory. A cancelled job rejects with `code === 'ERR_LTRP_CANCELLED'`.
 * Shapes: n images, L patches in raster order, V visible patches.
 */

import {
  words,
  type Drop,
  type Encoding,
  type ImageBatch,
  type LoadOptions,
  type LossName,
  type MaskingOptions,
  type Metric,
  type ModelConfig,
  type PatchScores,
  type PixelBatch,
  type Precision,
  type Prior,
  type Ranking,
  type Reconstruction,
  type ScoreMap,
  type ScoreMapOptions,
  type ScoreOptions,
  type StoredType,
  type TeacherLoadOptions,
  type TransformerConfig as NativeTransformerConfig,
} from '../types.js';

export type { NativeTransformerConfig };

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

/** Geometry that the files of all kinds of models carry. */
export type NativeModelConfig = Omit<ModelConfig, 'imageSize' | 'grid'>;

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

/** Geometry of a classifier's file. */
export interface NativeClassifierConfig extends NativeModelConfig {
  /** Outputs of the head; 0 where the file has none. */
  classes: number;
  /**
   * What the head reads. `'cls'`: the CLS token after the norm. `'mean'`: the norm of the patch tokens' mean, as MAE's
   * fine-tuned files. `'normed-mean'`: the mean of the normed patch tokens, as timm's with `global_pool: 'avg'` and no `fc_norm`.
   * `'queries'`: all normed tokens, by ML-Decoder's queries.
   */
  pooling: 'cls' | 'mean' | 'normed-mean' | 'queries';
  /** Of `'queries'`: their number, at most one for each class. Else 0. */
  queries: number;
  /** Of `'queries'`: their width, a multiple of 8. Else 0. */
  queryDim: number;
}

/** Every pooling. */
export const poolings = words<NativeClassifierConfig['pooling']>()('cls mean normed-mean queries');

/** Normalised pixels, or bytes, which models normalise with their own mean and standard deviation. */
export type NativeImages = ImageBatch | PixelBatch;

/** Of pixels in [0, 1], red, green, blue. */
export interface NativeNormalization {
  mean: readonly number[];
  std: readonly number[];
}

export interface NativeMae {
  readonly config: NativeMaeConfig;
  readonly notes: string[];
  /** What the processor's instructions made of the precision asked for. */
  readonly precision: Precision;
  scorePatches(job: NativeJob, images: NativeImages, options: ScoreOptions): Promise<PatchScores>;
  scoreMap(job: NativeJob, images: NativeImages, options: ScoreMapOptions): Promise<ScoreMap>;
  /**
   * Writes a score shard to `path`, atomically: crops of the pictures, drawn by (seed, `number` of the picture), and their maps.
   * `options` is {@link NativeStoreOptions} as JSON. Progress counts crops.
   */
  storeScores(
    job: NativeJob,
    pictures: readonly (NativePicture & { number: number })[],
    shard: { path: string; options: string; metadata: Record<string, string> },
  ): Promise<void>;
  /** `patches` are predictions in the model's target space, [n, L, p * p * 3], values ordered (row, column, channel). */
  reconstruct(
    job: NativeJob,
    images: NativeImages,
    options: MaskingOptions,
  ): Promise<Reconstruction>;
  /** Encoder output with CLS first, [n, V + 1, D]. */
  encode(job: NativeJob, images: NativeImages, options: MaskingOptions): Promise<Encoding>;
  /** Frees the weights once running jobs are done; later calls reject with ERR_LTRP_DISPOSED. Idempotent. */
  dispose(): void;
}

/** Which patches are kept; see docs/method.md, 5. Those whose logit is -Infinity are not chosen. One of `keep` and `keepRatio`. */
export interface NativeSelection {
  keep?: number | undefined;
  keepRatio?: number | undefined;
  scoreShare?: number | undefined; // default 1, 'compat': 0.7
  seed?: number | undefined; // default 0
  mode?: 'default' | 'compat' | undefined;
  prior?: Prior | undefined; // default 'none'
  device?: string | undefined; // default 'cpu'
  densityNoise?: Float32Array | undefined; // [n * L]
  memberNoise?: Float32Array | undefined; // [n * L]
}

export interface NativeRanker {
  readonly config: NativeRankerConfig;
  readonly notes: string[];
  /** What the processor's instructions made of the precision asked for. */
  readonly precision: Precision;
  /**
   * Without `visible`: all L patches go in. With it ([n * V], ascending per image): only those go in (training's asymmetric input).
   * Logits [n, L]; patches that did not go in have -Infinity. With `prior`: combined scores instead of logits.
   * With `select`: `indices` [n, keep] of the patches to keep, too.
   */
  rank(
    job: NativeJob,
    images: NativeImages,
    options: {
      visible?: Int32Array | undefined;
      prior?: Prior | undefined; // default 'none'
      select?: NativeSelection | undefined;
    },
  ): Promise<Ranking & { indices?: Int32Array }>;
  dispose(): void;
}

/** Which patches go in: all of them, unless one of `keep` and `keepRatio` is given. */
export interface NativeKeep {
  /** [n * K], distinct for each image, in any order. */
  keep?: Int32Array | undefined;
  /** Those that `selector` (default 'grid') ranks highest, with `seed` (default 0). */
  keepRatio?: number | undefined;
  selector?: string | undefined;
  seed?: number | undefined;
  /** None is kept: the CLS token alone, for a head that reads it. */
  noPatches?: boolean | undefined;
}

export interface NativeClassifier {
  readonly config: NativeClassifierConfig;
  readonly notes: string[];
  /** What the processor's instructions made of the precision asked for. */
  readonly precision: Precision;
  /** Logits [n, classes]. With `topK`: `top` [n, topK], the classes of the largest, the largest first. */
  classify(
    job: NativeJob,
    images: NativeImages,
    options: NativeKeep & { topK?: number | undefined },
  ): Promise<{ logits: Float32Array; top?: Int32Array; shape: [number, number] }>;
  /** What the head reads, [n, D]. */
  embed(
    job: NativeJob,
    images: NativeImages,
    options: NativeKeep,
  ): Promise<{ embeddings: Float32Array; shape: [number, number] }>;
  dispose(): void;
}

/** The kinds of models and what `loadModel` makes of their files. */
export interface NativeModels {
  classifier: NativeClassifier;
  mae: NativeMae;
  ranker: NativeRanker;
}

/** What a model is for. */
export type ModelKind = 'classifier' | 'mae' | 'ranker';

/** Geometry of a model's file. */
export type NativeFileConfig = NativeClassifierConfig | NativeMaeConfig | NativeRankerConfig;

/** Every {@link ModelKind}. */
export const modelKinds = words<ModelKind>()('classifier mae ranker');

/** A crop of a picture whose score map is known; its sides are in pixels of the decoded picture. */
export interface NativeScoredCrop {
  /** Pixels above it. */
  top: number;
  /** Pixels to its left. */
  left: number;
  /** Pixels. */
  height: number;
  /** Pixels. */
  width: number;
  /** Whether the crop is mirrored left to right. */
  flip: boolean;
  /** [L] in raster order: scores of the crop, resized to the model's image size and then mirrored; larger is denser. */
  scores: Float32Array;
}

/** RGB bytes of one decoded picture. */
export interface NativePicture {
  /** `height * width * 3` values, row by row. */
  pixels: Uint8Array;
  /** Pixels. */
  height: number;
  /** Pixels. */
  width: number;
  /** What a ranker with `targets: 'maps'` learns from, and nothing else takes. */
  scored?: NativeScoredCrop | undefined;
  /** Its class, from 0: fine-tuning with `labels: 'one'` needs it, nothing else reads it. Default: none. */
  label?: number | undefined;
  /** Its categories, from 0, which may be none: fine-tuning with `labels: 'many'` needs them, nothing else reads them. Default: unknown. */
  labels?: Int32Array | undefined;
}

/** How stored score maps are made: fields of ScoreStoreOptions (native/core/training/options.h), all required. */
export interface NativeStoreOptions {
  crops: number;
  cropScale: [number, number];
  flip: boolean;
  rounds: number;
  maskRatio: number;
  drop: Drop;
  metric: Metric;
  surprise: boolean;
  seed: number;
}

/**
 * Options shared by all trainers. All but those with a default are required; `ltrp pretrain --help`, `ltrp train --help` and
 * `ltrp finetune --help` list sensible values.
 */
export interface NativeTrainingOptions {
  /** Pictures of an optimizer step: an integer in [1, 2^20]. */
  batchSize: number;
  /** Pictures per forward and backward pass, an integer in [1, batchSize]; gradients accumulate to batchSize. */
  microBatchSize: number;
  /** Length of the run in optimizer steps, at least 1: the learning rate's schedule ends there. */
  steps: number;
  /** Optimizer steps over which the learning rate rises, in [0, steps]. */
  warmupSteps: number;
  /**
   * How the learning rate goes on after its linear warm-up. `'cosine'`: half a cosine to 0. `'wsd'` (warm-up, stable, decay): it stays
   * at its peak and falls over the last `decaySteps`. Default `'cosine'`.
   */
  schedule?: 'cosine' | 'wsd' | undefined;
  /** Of `'wsd'`: optimizer steps at the end over which it falls, in [0, steps]. Default 0: it stays. */
  decaySteps?: number | undefined;
  /** Peak learning rate, absolute, above 0. */
  learningRate: number;
  /** Of AdamW, at least 0; none on biases and norms. */
  weightDecay: number;
  /** Of AdamW, in [0, 1). */
  beta1: number;
  /** Of AdamW, in [0, 1). */
  beta2: number;
  /** Limit of the global gradient norm, above 0; null: no clipping (the norm is reported all the same). */
  clipGradientNorm: number | null;
  /**
   * What matrix products of the trained model are computed in; weights, optimizer and the teacher's scores are float32. A
   * processor without bfloat16 products computes them in float32.
   */
  precision: 'float32' | 'bfloat16';
  /** Integer in [0, 2^53) that weights, crops, flips and masks are drawn from. */
  seed: number;
  /** Range of the share of a picture's area that a crop has, 0 < least <= most <= 1; aspect 3/4 to 4/3; antialiased bicubic. */
  cropScale: [number, number];
  /** Whether half of the crops are mirrored. */
  flip: boolean;
}

/** Everything that defines a pre-training run of a masked autoencoder but the pictures. */
export interface NativePretrainOptions extends NativeTrainingOptions {
  /** Which training it is. */
  kind: 'pretrain';
  /** Geometry of the model; `decoder` must be given. */
  model: NativeMaeConfig;
  /** Share of patches that are hidden, in (0, 1). */
  maskRatio: number;
  /**
   * Weights to begin from instead of those drawn from `seed`: `'tiny'` (embedded), the path of a checkpoint, or the folder of
   * a run. Their geometry must be the model's, but for the image size: position tables are interpolated. Of an encoder alone the
   * decoder begins at random. Default: none.
   */
  init?: string | null | undefined;
}

/** Everything that defines a training run of a ranker but the pictures. */
export interface NativeRankerTrainingOptions extends NativeTrainingOptions {
  /** Which training it is. */
  kind: 'ranker';
  /** Geometry of the model; its patch size is the teacher's. */
  model: NativeRankerConfig;
  /** Share of patches that are hidden, in (0, 1). */
  maskRatio: number;
  /**
   * `'teacher'`: scores of random masks, which the teacher computes in every step. `'maps'`: each picture brings a `scored` crop;
   * then `input` is `'full'`, `start` is `'random'`, and `maskRatio`, `drop`, `metric`, `cropScale`, `flip` and `memoryBudget` are not
   * read. Default `'teacher'`.
   */
  targets?: 'teacher' | 'maps' | undefined;
  /** Frozen teacher: `'tiny'` (embedded), or the path of its checkpoint; null with `targets: 'maps'`. */
  teacher: string | null;
  /** The loss on the teacher's scores; see `rankingLoss`. */
  loss: LossName;
  /** For `'listMle'` and `'focusedRank'`: items, at least 1; null: the whole list. */
  lossK: number | null;
  /**
   * Of `targets: 'maps'`, in patches, in [0, 64]: the ranks within each map are averaged over their neighbourhood by a Gaussian of this
   * σ before they are learned. Default 0: the maps are learned as they are.
   */
  smoothing?: number | undefined;
  /** Where the scored patch is removed, as in `scorePatches`. */
  drop: Drop;
  /** How the teacher compares reconstructions, as in `scorePatches`. */
  metric: Metric;
  /** `'visible'`: the paper's asymmetric input; `'full'`: the ranker sees all patches, the loss reads the visible slots. */
  input: 'visible' | 'full';
  /** `'teacher'`: patch projection, CLS token and blocks start as the first ones of the teacher's encoder; the widths must agree. */
  start: 'random' | 'teacher';
  /**
   * Weights to begin from instead: a ranker, named as the teacher is, or the folder of a run. Geometry and head must be the
   * model's; with the head `'token'` the image size may be another one. Default: none.
   */
  init?: string | null | undefined;
  /** Upper bound in bytes for the activations of the teacher's scores, above 0. Results do not depend on it. */
  memoryBudget: number;
}

/** Everything that defines the fine-tuning of a classifier but the pictures. */
export interface NativeFinetuneOptions extends NativeTrainingOptions {
  /** Which training it is. */
  kind: 'finetune';
  /**
   * What each picture brings. `'one'`: its `label`; the loss is the cross-entropy, and evaluation takes centre crops. `'many'`: its
   * `labels`; the loss is the asymmetric one, see `asymmetricLoss`, and evaluation squeezes whole pictures. Default `'one'`.
   */
  labels?: 'one' | 'many' | undefined;
  /** Of `'many'`: focusing power of absent labels, at least 0. Default 4. */
  gammaNegative?: number | undefined;
  /** Of `'many'`: focusing power of present labels, at least 0. Default 0. */
  gammaPositive?: number | undefined;
  /** Of `'many'`, in [0, 1): absent labels of a probability up to this have no loss. Default 0.05. */
  margin?: number | undefined;
  /** Of `'many'`: ids of categories whose average precision is reported apart, such as those that the selector has seen no labels of. Default: none. */
  unseen?: number[] | undefined;
  /** Geometry of the model; at least 2 classes. */
  model: NativeClassifierConfig;
  /**
   * Weights to begin from instead of those drawn from `seed`: `'tiny'` (the embedded masked autoencoder), the path of a masked
   * autoencoder or of a classifier, or the folder of a run. Their geometry must be the model's, but for the image size: positions
   * are interpolated. A head of another shape begins at random. Default: none.
   */
  init?: string | null | undefined;
  /** Learning rate at the end of the half-cosine, at least 0. The warm-up rises from 0. */
  minLearningRate: number;
  /** In (0, 1]: of two blocks that follow each other the earlier one has this share of the learning rate. 1: all have the same. */
  layerDecay: number;
  /** In [0, 1): share of the pictures for which the last block's attention, and its MLP, are left out; it rises from 0 at the first. */
  dropPath: number;
  /** In [0, 1): share of the target that all classes have alike; 0 with `labels: 'many'`. */
  labelSmoothing: number;
  /**
   * At least 0: pairs of pictures that follow each other are mixed with a share of Beta(mixup, mixup), one for each step; 0: not.
   * `batchSize` and `microBatchSize` must be even then.
   */
  mixup: number;
  /** At least 0: the same with boxes of pictures; with both on, each step has one of them. 0: not. */
  cutmix: number;
  /**
   * In [0, 10]: magnitude of RandAugment, which changes colours and form of the crops; 0: none. Rotations and shifts move things that
   * have labels, too.
   */
  randAugment: number;
  /** In [0, 1]: share of the pictures of which a box is erased, with the mean. */
  erase: number;
  /** Share of the patches that the model receives, in (0, 1]: in training and at evaluation; the number is rounded, and not 0. */
  keepRatio: number;
  /** Least and most of that share in training, drawn for each step; null: always `keepRatio`. */
  keepRandom: [number, number] | null;
  /** What chooses the patches: one of `selectors` by name. It sees the augmented picture. */
  selector: string;
  /**
   * The frozen model that the selector asks: the path of its file, or `'tiny'` for the embedded ranker or masked autoencoder.
   * Default: none, for selectors that ask none.
   */
  selectorModel?: string | null | undefined;
}

const commonKeys = words<keyof NativeTrainingOptions>()(
  'batchSize microBatchSize steps warmupSteps schedule decaySteps learningRate weightDecay beta1 beta2 clipGradientNorm precision seed cropScale flip',
);

type OwnKeys<Options extends NativeTrainingOptions> = Exclude<
  keyof Options,
  keyof NativeTrainingOptions
>;

/** Keys of {@link NativeFinetuneOptions}. */
export const finetuneKeys = [
  ...commonKeys,
  ...words<OwnKeys<NativeFinetuneOptions>>()(
    'kind model labels gammaNegative gammaPositive margin unseen init minLearningRate layerDecay dropPath labelSmoothing mixup cutmix randAugment erase keepRatio keepRandom selector selectorModel',
  ),
];

/** Keys of {@link NativePretrainOptions}. */
export const pretrainKeys = [
  ...commonKeys,
  ...words<OwnKeys<NativePretrainOptions>>()('kind model maskRatio init'),
];

/** Keys of {@link NativeRankerTrainingOptions}. */
export const rankerKeys = [
  ...commonKeys,
  ...words<OwnKeys<NativeRankerTrainingOptions>>()(
    'kind model maskRatio init targets teacher loss lossK smoothing drop metric input start memoryBudget',
  ),
];

/**
 * Changes of a resumed run, each as in the options of a new run; options not named stay. `steps`:
 * not below those that are done; the learning rate's schedule is that of the new length at once. `microBatchSize`: another
 * one rounds otherwise. `teacher`: where the same one lies now; it and `memoryBudget` are a ranker's, `minLearningRate` is
 * a classifier's.
 */
export type NativeTrainingChanges = {
  [
    Key in
      | 'steps'
      | 'warmupSteps'
      | 'schedule'
      | 'decaySteps'
      | 'microBatchSize'
      | 'learningRate'
      | 'weightDecay'
      | 'beta1'
      | 'beta2'
      | 'clipGradientNorm'
      | 'precision'
      | 'teacher'
      | 'memoryBudget'
  ]?: NativeRankerTrainingOptions[Key] | undefined;
} & {
  /** Where a classifier's half-cosine ends, at least 0. */
  minLearningRate?: number | undefined;
};

/** Keys of {@link NativeTrainingChanges}. */
export const changeKeys = words<keyof NativeTrainingChanges>()(
  'steps warmupSteps schedule decaySteps microBatchSize learningRate weightDecay beta1 beta2 clipGradientNorm precision teacher memoryBudget minLearningRate',
);

/** Words of options of training. */
export const trainingPrecisions = words<NativeTrainingOptions['precision']>()('float32 bfloat16');
export const labelKinds = words<NonNullable<NativeFinetuneOptions['labels']>>()('one many');
export const reductions = words<NativeRanks['reduction']>()('float32 bfloat16');
export const schedules = words<NonNullable<NativeTrainingOptions['schedule']>>()('cosine wsd');
export const rankerInputs = words<NativeRankerTrainingOptions['input']>()('visible full');
export const rankerStarts = words<NativeRankerTrainingOptions['start']>()('random teacher');
export const rankerTargets =
  words<NonNullable<NativeRankerTrainingOptions['targets']>>()('teacher maps');

/** What one optimizer step was like. */
export interface NativeStepResult {
  /** Optimizer steps done after this one. */
  step: number;
  /**
   * Whether weights and optimizer were updated. `false`: `loss` or `gradientNorm` is NaN or infinite; weights and optimizer are
   * as they were, and the step counts, so that the next one has other pictures.
   */
  applied: boolean;
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
  /** Seconds of waiting for the gradients of other ranks; 0 of a process that trains alone. */
  sumSeconds: number;
  /** Seconds for the whole step. */
  totalSeconds: number;
}

/** A process that is one of several which train one model. */
export interface NativeRanks {
  rank: number;
  size: number;
  /** Of the store through which they meet. */
  host: string;
  port: number;
  /** Whether this process hosts it. */
  hostsStore: boolean;
  /** Who does, in words. */
  storeOwner: string;
  /** Seconds within which all have ended when one is gone. */
  timeout: number;
  /** Seconds for all to come. */
  joinTimeout: number;
  /** Where the reason of an end is written, as torchrun reads it. */
  errorFile?: string | undefined;
  /** What gradients are while they are added up. */
  reduction: 'float32' | 'bfloat16';
  /** Bytes of gradients that are sent together. */
  bucketBytes: number;
  device?: string | undefined;
}

/** Held-out figures; null where they do not apply to the kind of training. */
export interface NativeEvaluation {
  /** Mean squared error on the masked patches, in the target's space. Pre-training. */
  reconstructionError: number | null;
  /** The training loss on the held-out pictures. */
  loss: number | null;
  /** Mean Kendall tau-b of the ranker (all patches as input) and the teacher's scores at the visible patches. */
  kendallTau: number | null;
  /** The same pair's normalised discounted cumulative gain. */
  ndcg: number | null;
  /** Share of the pictures whose class has the largest logit. Fine-tuning with one label. */
  accuracy: number | null;
  /** Mean of `averagePrecision` over the categories that a picture has; NaN where there is none. Fine-tuning with many labels. */
  meanAveragePrecision: number | null;
  /** The same over the categories that are not `unseen`; null without such. */
  seenAveragePrecision: number | null;
  /** The same over those that are. */
  unseenAveragePrecision: number | null;
  /** Average precision over all held-out pictures by category, as `meanAveragePrecision` defines it; NaN for one that no picture has. */
  averagePrecision: number[] | null;
}

export interface NativeTrainer {
  readonly step: number;
  /** All options as JSON, as a checkpoint has them. */
  readonly options: string;
  readonly model: NativeFileConfig;
  /** Of each batch, the pictures that this process trains on: all, but for a rank. */
  readonly part: readonly [first: number, count: number];
  /** One optimizer step on exactly its part of batchSize pictures. Crops, flips and masks are drawn from (seed, step, slot). */
  trainStep(job: NativeJob, pictures: readonly NativePicture[]): Promise<NativeStepResult>;
  /** Held-out figures on centre crops with masks fixed by (seed, picture index). pretrain: reconstructionError = mean squared
   * error on masked patches in target space. ranker: tau and ndcg of logits (full image in) against the teacher's scores at the visible patches.
   * finetune: accuracy or average precisions, and the loss without smoothing, on the patches that are kept. */
  evaluate(job: NativeJob, pictures: readonly NativePicture[]): Promise<NativeEvaluation>;
  /** Everything needed to continue exactly: weights, optimizer state, step, options. Atomic. */
  save(job: NativeJob, path: string): Promise<void>;
  /** The model alone, in our safetensors layout. */
  exportModel(job: NativeJob, path: string, type: StoredType): Promise<void>;
  dispose(): void;
}

export interface NativeTensor {
  data: Float32Array;
  shape: number[];
}

/** The caller's overrides of a checkpoint. */
type NativeCheckpointOptions = Pick<TeacherLoadOptions, 'weights' | 'normalizedTarget'>;

export interface NativeWeights {
  naming: string;
  config: NativeFileConfig;
  /** Sentences on assumptions, parts left out and choices made. */
  notes: string[];
  tensors: Record<string, NativeTensor>;
}

/** As native/kernels/simd.h names them, weakest first. */
export type CpuLevel =
  'plain' | 'avx2' | 'avx-vnni' | 'avx512' | 'avx512-vnni' | 'avx512-bf16' | 'amx';

export interface CoreInfo {
  coreVersion: string; // of package.json
  torchVersion: string; // compiled against
  torchRuntimeVersion: string; // of the libraries that are loaded
  cpuCapability: string; // at::get_cpu_capability: DEFAULT, AVX2, AVX512
  cpuFeatures: string[]; // of: avx2, avx_vnni, avx512f, avx512_vnni, avx512_bf16, amx_bf16, amx_int8
  mkl: boolean;
  onednn: boolean;
  threads: number; // intra-op threads of the compute thread
  simd: CpuLevel; // of our own kernels
  simdOfProcessor: CpuLevel; // what simd would be without LTRP_CPU_LEVEL
  emulatedPrecisions: boolean; // LTRP_EMULATE_PRECISIONS=1
  /** For each precision asked for, the one a model computes in. */
  precisions: Record<Precision, Precision>;
  /** The words of every enumeration that crosses the border, as the core's tables have them. */
  names: Record<string, string[]>;
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

export interface NativeKeepList {
  values: Float64Array;
  cells: Int32Array;
  ids: Int32Array;
  positions: Int32Array;
  mask: Int32Array;
  shape: [rows: number, columns: number];
}

/** `native/binding`: one per LibTorch minor and variant. */
export interface CoreBinding {
  Job: new (onProgress?: (done: number, total: number) => void) => NativeJob;
  info(): CoreInfo;
  /** Intra-op threads used by the compute thread; applies to jobs queued afterwards. */
  setThreads(threads: number): void;
  /** Cancels all jobs and joins the compute thread. Called once from process 'exit'; workers use a cleanup hook. Idempotent. */
  shutdown(): void;

  /** Bytes to normalised pixels: (x / 255 - mean) / std. */
  normalizeImages(
    job: NativeJob,
    images: PixelBatch,
    options: NativeNormalization,
  ): Promise<ImageBatch>;
  loadModel<Kind extends ModelKind>(
    job: NativeJob,
    kind: Kind,
    path: string,
    options: NativeCheckpointOptions & Pick<LoadOptions, 'device' | 'precision'>,
  ): Promise<NativeModels[Kind]>;
  /** Indices [n, keep]. `mean` and `std` are for bytes. Without `patchSize`: the one that gives a patch for every logit. */
  selectPatches(
    job: NativeJob,
    images: NativeImages,
    logits: Float32Array,
    options: NativeSelection & NativeNormalization & { patchSize?: number | undefined },
  ): Promise<{ indices: Int32Array; shape: [number, number] }>;
  /** Arrays and grid of cells of a `KeepList`; exactly one of `shape`, `imageGridThw` and `spatialShape`. */
  keepFor(
    job: NativeJob,
    logits: Float32Array,
    ranking: { grid: unknown; width: unknown; height: unknown; view?: object | undefined },
    target: object,
    options: { keep?: number | undefined; keepRatio?: number | undefined },
  ): Promise<NativeKeepList>;
  /** Of a ranking of the whole picture, by falling weight. */
  denseRegions(
    job: NativeJob,
    logits: Float32Array,
    ranking: { grid: unknown; width: unknown; height: unknown },
    options: {
      count?: number | undefined;
      keepRatio?: number | undefined;
      padding?: number | undefined;
      aspect?: number | undefined;
    },
  ): Promise<{ box: [left: number, top: number, width: number, height: number]; weight: number }[]>;
  /**
   * Scores [n, L]; `keep` is how many will be kept, `mean` and `std` are those of normalised images, `model` is what the selector
   * asks, `classes` [n] are what a selector that explains a class explains.
   */
  scoreBySelector(
    job: NativeJob,
    selector: string,
    images: NativeImages,
    options: NativeNormalization & {
      patchSize: number;
      model?: NativeModels[ModelKind] | undefined;
      keep?: number | undefined;
      classes?: Int32Array | undefined;
      seed?: number | undefined;
    },
  ): Promise<{ scores: Float32Array; shape: [number, number] }>;
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
  /** Kendall's tau-b, NDCG of the first `k` and Spearman's correlation of `predicted` and `target`, per list, [lists] each. */
  rankAgreement(
    job: NativeJob,
    predicted: Float32Array,
    target: Float32Array,
    shape: readonly [lists: number, items: number],
    options: { k?: number | undefined },
  ): Promise<{ kendallTau: Float64Array; ndcg: Float64Array; spearman: Float64Array }>;
  asymmetricLoss(
    job: NativeJob,
    logits: Float32Array,
    targets: Float32Array | Uint8Array,
    shape: readonly [images: number, classes: number],
    options: {
      gammaNegative?: number | undefined;
      gammaPositive?: number | undefined;
      margin?: number | undefined;
    },
  ): Promise<{ loss: number; gradient: Float32Array }>;
  averagePrecision(
    job: NativeJob,
    scores: Float32Array,
    targets: Float32Array | Uint8Array,
    shape: readonly [images: number, classes: number],
  ): Promise<{ mean: number; perClass: Float64Array; withoutPositive: number }>;
  /**
   * Mean average precision of each draw: `times` [draws * images] says how often an image counts in it. Classes without a positive
   * in a draw are left out of its mean.
   */
  averagePrecisionOfDraws(
    job: NativeJob,
    scores: Float32Array,
    targets: Float32Array | Uint8Array,
    shape: readonly [images: number, classes: number],
    options: { times: Int32Array },
  ): Promise<{ means: Float64Array }>;
  convertCheckpoint(
    job: NativeJob,
    input: string,
    output: string,
    options: NativeCheckpointOptions & {
      kind: ModelKind;
      type: StoredType;
      /** Whether a file that is there may be replaced. */
      overwrite: boolean;
    },
  ): Promise<Omit<NativeWeights, 'tensors'> & { tensors: number }>;
  /** A checkpoint of any naming, whole: tensors by canonical name (core/checkpoint/checkpoint.h), float32. */
  readWeights(
    job: NativeJob,
    path: string,
    options: NativeCheckpointOptions & { kind: ModelKind },
  ): Promise<NativeWeights>;
  /**
   * A file that `storeScores` wrote: scores [crops * L], `crops` [crops * 5] (top, left, height, width, 1 where mirrored) and
   * `sizes` [pictures * 2] (height, width as decoded).
   */
  readScoreShard(
    job: NativeJob,
    path: string,
  ): Promise<{
    metadata: Record<string, string>;
    scores: Float32Array;
    crops: Int32Array;
    sizes: Int32Array;
  }>;
  /** `options` and `changes` as JSON. The device is not part of a run: a checkpoint continues on any. */
  createTrainer(
    job: NativeJob,
    run: {
      kind: ModelKind;
      model: NativeFileConfig;
      options: string;
      device?: string | undefined;
    },
  ): Promise<NativeTrainer>;
  resumeTrainer(
    job: NativeJob,
    path: string,
    options: { changes: string; device?: string | undefined },
  ): Promise<NativeTrainer>;

  /**
   * Makes this process one of several (core/ranks). Trainers that are made from then on train together and begin as rank 0's; all
   * ranks make the same calls of them. A rank that is gone ends all processes.
   */
  joinRanks(job: NativeJob, ranks: NativeRanks): Promise<void>;
  /** What each rank has given, by rank. All call it. */
  exchangeRanks(job: NativeJob, text: string): Promise<string[]>;
  leaveRanks(job: NativeJob): Promise<void>;
  /** Ends this process with the exit code, and the others with the message. Does not return. */
  endRanks(message: string, exitCode: number): void;
  /** Hosts the store of ranks that this process starts; returns its port. */
  hostRanks(): number;
  /** Ends them with the message, unless they end for another reason already. */
  endHostedRanks(message: string): void;
}
