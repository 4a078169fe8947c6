import { types } from 'node:util';
import { asyncDispose } from './async-dispose.js';
import { deviceWord, resolveModel } from './models.js';
import type {
  CoreBinding,
  NativePicture,
  NativePretrainOptions,
  NativeRankerTrainingOptions,
  NativeStepResult,
  NativeTrainer,
} from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import type { Device, JobOptions } from './types.js';
import {
  checkChoice,
  checkOptions,
  checkPresent,
  checkSource,
  invalid,
  jobKeys,
  type OptionKeys,
} from './validation.js';

// Documented where the native side is described, under the names that callers know.
export type {
  NativePicture as TrainingPicture,
  NativePretrainOptions as PretrainOptions,
  NativeRankerTrainingOptions as RankerTrainingOptions,
  NativeStepResult as StepResult,
} from './native/binding.js';

/** Held-out figures; null where they do not apply to the kind of training. */
export interface Evaluation {
  /** Mean squared error on the masked patches, in the target's space. Pre-training. */
  reconstructionError: number | null;
  /** The training loss on the held-out pictures. */
  loss: number | null;
  /** Mean Kendall tau-b of the ranker (all patches as input) and the teacher's scores at the visible patches. */
  kendallTau: number | null;
  /** The same pair's normalised discounted cumulative gain. */
  ndcg: number | null;
}

/** How weights are stored by {@link Trainer.exportModel}. */
export type StoredType = 'float32' | 'float16' | 'bfloat16';

/** Options of {@link Trainer.create} and {@link Trainer.resume}. */
export interface TrainerOptions extends Pick<JobOptions, 'signal'> {
  /**
   * Where weights, pictures and the optimizer's state are. Default `'auto'`. Not part of a run: what one device saved goes
   * on on another, with other rounding. A device that cannot be used is refused with `ERR_LTRP_UNSUPPORTED` and the reason.
   */
  device?: Device | undefined;
  /** Folder of the LibTorch to use; it counts for the first load in a process. Default: see `ltrp doctor`. */
  libtorch?: string | undefined;
}

const trainerKeys: OptionKeys<TrainerOptions> = { device: true, libtorch: true, signal: true };

const pretrainKeys: OptionKeys<NativePretrainOptions> = {
  kind: true,
  model: true,
  batchSize: true,
  microBatchSize: true,
  steps: true,
  warmupSteps: true,
  learningRate: true,
  weightDecay: true,
  beta1: true,
  beta2: true,
  clipGradientNorm: true,
  precision: true,
  seed: true,
  cropScale: true,
  flip: true,
  maskRatio: true,
};

const rankerKeys: OptionKeys<NativeRankerTrainingOptions> = {
  ...pretrainKeys,
  teacher: true,
  loss: true,
  lossK: true,
  drop: true,
  metric: true,
  input: true,
  start: true,
  memoryBudget: true,
};

/**
 * Trains a masked autoencoder (`kind: 'pretrain'`) or a ranker (`kind: 'ranker'`), one optimizer step a call.
 *
 * The caller brings decoded pictures; crops, flips, masks, the teacher's scores, forward, backward and the optimizer are
 * the core's. All of them are drawn from (seed, step, slot), so the same pictures give the same weights bit for bit on one
 * machine with one number of threads, also across {@link save} and {@link resume}. The command line (`ltrp pretrain`,
 * `ltrp train`) adds data, logs and checkpoints to this.
 *
 * @example
 * ```ts
 * const trainer = await Trainer.create(options);
 * while (trainer.step < options.steps) {
 *   const { loss } = await trainer.trainStep(await nextPictures(options.batchSize));
 * }
 * await trainer.exportModel('model.safetensors', 'float16');
 * trainer.dispose();
 * ```
 */
export class Trainer {
  readonly #core: CoreBinding;
  readonly #native: NativeTrainer;

  private constructor(core: CoreBinding, native: NativeTrainer) {
    this.#core = core;
    this.#native = native;
  }

  /**
   * A new run with weights drawn from the seed.
   *
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` naming the option; `ERR_LTRP_UNSUPPORTED` (device); for rankers also what loading the teacher reports.
   */
  static async create(
    options: NativePretrainOptions | NativeRankerTrainingOptions,
    trainer?: TrainerOptions,
  ): Promise<Trainer> {
    const { device, libtorch, signal } = checkOptions(trainer, trainerKeys, 'trainer');
    const run = checkRun(options);
    const place = { device: deviceWord(device) };
    const core = await loadCore({ libtorch });
    const native = await runJob(core, { signal }, (job) =>
      core.createTrainer(job, { ...run, ...place }),
    );
    return new Trainer(core, native);
  }

  /**
   * Goes on from a file that {@link save} wrote: weights, optimizer state, step and options.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT`, `ERR_LTRP_CHECKPOINT_CONTENT`.
   */
  static async resume(path: string, trainer?: TrainerOptions): Promise<Trainer> {
    const { device, libtorch, signal } = checkOptions(trainer, trainerKeys, 'trainer');
    checkSource('path', path);
    const place = { device: deviceWord(device) };
    const core = await loadCore({ libtorch });
    const native = await runJob(core, { signal }, (job) => core.resumeTrainer(job, path, place));
    return new Trainer(core, native);
  }

  /** Optimizer steps done. */
  get step(): number {
    return this.#native.step;
  }

  /** Those the run was created with, also after {@link resume}. */
  get options(): Readonly<NativePretrainOptions | NativeRankerTrainingOptions> {
    return this.#native.options;
  }

  /**
   * One optimizer step on exactly `batchSize` pictures. A cancelled step leaves weights and optimizer as they were.
   *
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`; `ERR_LTRP_OUT_OF_MEMORY`; `ERR_LTRP_DISPOSED`.
   */
  async trainStep(
    pictures: readonly NativePicture[],
    options?: JobOptions,
  ): Promise<NativeStepResult> {
    const checked = checkOptions(options, jobKeys);
    checkPictures(pictures);
    return runJob(this.#core, checked, (job) => this.#native.trainStep(job, pictures));
  }

  /** Figures on held-out pictures: centre crops, masks fixed by (seed, index of the picture). Changes nothing. */
  async evaluate(pictures: readonly NativePicture[], options?: JobOptions): Promise<Evaluation> {
    const checked = checkOptions(options, jobKeys);
    checkPictures(pictures);
    return runJob(this.#core, checked, (job) => this.#native.evaluate(job, pictures));
  }

  /** Writes everything {@link resume} needs, atomically: what was at `path` stays until the new file is whole. */
  async save(path: string, options?: JobOptions): Promise<void> {
    const checked = checkOptions(options, jobKeys);
    checkSource('path', path);
    return runJob(this.#core, checked, (job) => this.#native.save(job, path));
  }

  /** Writes the model alone, for `MaskedAutoencoder.load` or `PatchRanker.load`; atomically. */
  async exportModel(
    path: string,
    type: StoredType = 'float32',
    options?: JobOptions,
  ): Promise<void> {
    const checked = checkOptions(options, jobKeys);
    checkSource('path', path);
    checkChoice('type', type, ['float32', 'float16', 'bfloat16']);
    return runJob(this.#core, checked, (job) => this.#native.exportModel(job, path, type));
  }

  /** Frees weights and optimizer state once running calls are done. Idempotent. */
  dispose(): void {
    this.#native.dispose();
  }

  /** As {@link dispose}, for `await using`. */
  [asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }
}

/** Options of a new run, the teacher as a path. Values are the core's to check. */
function checkRun(
  options: NativePretrainOptions | NativeRankerTrainingOptions,
): NativePretrainOptions | NativeRankerTrainingOptions {
  checkPresent('options', options);
  const { kind } = options;
  if ((kind as unknown) === undefined)
    throw invalid("options.kind must be 'pretrain' or 'ranker'.");
  checkChoice('options.kind', kind, ['pretrain', 'ranker']);
  if (options.kind === 'pretrain') return checkOptions(options, pretrainKeys);
  checkOptions(options, rankerKeys);
  return { ...options, teacher: resolveModel(options.teacher, 'mae', 'options.teacher') };
}

function checkPictures(pictures: unknown): asserts pictures is readonly NativePicture[] {
  if (!Array.isArray(pictures)) throw invalid('pictures must be an array.');
  for (const [i, picture] of (pictures as readonly (NativePicture | null)[]).entries()) {
    const { pixels, height, width } = picture ?? {};
    const good =
      types.isUint8Array(pixels) &&
      Number.isSafeInteger(height) &&
      Number.isSafeInteger(width) &&
      pixels.length === (height as number) * (width as number) * 3;
    if (!good) {
      throw invalid(
        `pictures[${i}] must be { pixels, height, width } with a Uint8Array of height * width * 3 values.`,
      );
    }
  }
}
