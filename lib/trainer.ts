import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { described } from './described.js';
import { notFound } from './errors.js';
import { checkMade, made, resolveModel, type ModelKind } from './models.js';
import {
  changeKeys,
  finetuneKeys,
  pretrainKeys,
  rankerKeys,
  type CoreBinding,
  type NativeClassifierConfig,
  type NativeEvaluation,
  type NativeFileConfig,
  type NativeFinetuneOptions,
  type NativeMaeConfig,
  type NativePicture,
  type NativePretrainOptions,
  type NativeRankerConfig,
  type NativeRankerTrainingOptions,
  type NativeStepResult,
  type NativeTrainer,
  type NativeTrainingChanges,
} from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import { words, type Device, type JobOptions, type StoredType } from './types.js';
import {
  checkChoice,
  checkOptions,
  checkPresent,
  checkPath,
  invalid,
  jobKeys,
  readFields,
  reading,
  readShort,
} from './validation.js';

// Documented where the native side is described, under the names that callers know.
export type {
  NativeEvaluation as Evaluation,
  NativeFinetuneOptions as FinetuneOptions,
  NativePicture as TrainingPicture,
  NativePretrainOptions as PretrainOptions,
  NativeRankerTrainingOptions as RankerTrainingOptions,
  NativeScoredCrop as ScoredCrop,
  NativeStepResult as StepResult,
  NativeTrainingChanges as TrainingChanges,
} from './native/binding.js';

/** A run of any kind. */
export type AnyTrainingOptions =
  NativeFinetuneOptions | NativePretrainOptions | NativeRankerTrainingOptions;

/** Options of {@link Trainer.create} and {@link Trainer.resume}. */
export interface TrainerOptions extends Pick<JobOptions, 'signal'> {
  /**
   * Where weights, pictures and the optimizer's state are. Default `'auto'`. Not part of a run: a checkpoint of one
   * device continues on another, with different rounding. A device that cannot be used is refused with `ERR_LTRP_UNSUPPORTED` and the reason.
   */
  device?: Device | undefined;
  /** Folder of the LibTorch to use; it counts for the first load in a process. Default: see `ltrp doctor`. */
  libtorch?: string | undefined;
}

/** Options of {@link Trainer.resume}. */
export interface ResumeOptions extends TrainerOptions {
  /** Changes of the run's options from here on. Default: none. */
  changes?: NativeTrainingChanges | undefined;
}

const trainerKeys = words<keyof TrainerOptions>()('device libtorch signal');
const resumeKeys = words<keyof ResumeOptions>()('device libtorch signal changes');

/**
 * Trains a masked autoencoder (`kind: 'pretrain'`), a ranker (`kind: 'ranker'`) or a classifier (`kind: 'finetune'`), one
 * optimizer step a call.
 *
 * The caller brings decoded pictures; crops, flips, masks, the teacher's scores, forward, backward and the optimizer are
 * the core's. All of them are drawn from (seed, step, slot), so the same pictures give the same weights bit for bit on one
 * machine with one number of threads, also across {@link save} and {@link resume}. The command line (`ltrp pretrain`,
 * `ltrp train`, `ltrp finetune`) adds data, logs and checkpoints to this.
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
  readonly #options: AnyTrainingOptions;

  private constructor(key: typeof made, core: CoreBinding, native: NativeTrainer) {
    checkMade(key, 'Trainer', 'Trainer.create or Trainer.resume');
    this.#core = core;
    this.#native = native;
    const { model } = native;
    const all = Object.entries(JSON.parse(native.options) as Record<string, unknown>);
    const paths = ['init', 'selectorModel'];
    const options = Object.fromEntries(
      all.filter(([name, value]) => !(paths.includes(name) && value === '')),
    );
    const kind = 'head' in model ? 'ranker' : 'pooling' in model ? 'finetune' : 'pretrain';
    const none = options['teacher'] === '' && { teacher: null };
    this.#options = { kind, ...options, ...none, model } as never;
  }

  /**
   * A new run with weights drawn from the seed, or those of `init`.
   *
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` naming the option; `ERR_LTRP_UNSUPPORTED` (device); what loading
   *   the teacher, the selector's model or `init` reports.
   */
  static async create(options: AnyTrainingOptions, trainer?: TrainerOptions): Promise<Trainer> {
    const { device, libtorch, signal } = checkOptions(trainer, trainerKeys, 'trainer');
    const run = { ...readRun(options), device };
    const core = await loadCore({ libtorch });
    const native = await runJob(core, { signal }, (job) => core.createTrainer(job, run));
    return new Trainer(made, core, native);
  }

  /**
   * Continues from a file that {@link save} wrote: weights, optimizer state, step and options, but for `changes`.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_CHECKPOINT_FORMAT`, also when the bytes do not match the saved
   *   checksum; `ERR_LTRP_CHECKPOINT_CONTENT`; `ERR_LTRP_INVALID_ARGUMENT` naming the change.
   */
  static async resume(path: string, trainer?: ResumeOptions): Promise<Trainer> {
    const { device, libtorch, signal, changes } = checkOptions(trainer, resumeKeys, 'trainer');
    checkPath('path', path, 'a path');
    const given = checkOptions(changes, changeKeys, 'trainer.changes');
    if (given.teacher === null) delete given.teacher;
    if (given.teacher !== undefined) {
      given.teacher = resolveModel(given.teacher, 'mae', 'trainer.changes.teacher');
    }
    const place = { device, changes: asJson(given, 'trainer.changes') };
    const core = await loadCore({ libtorch });
    const native = await runJob(core, { signal }, (job) => core.resumeTrainer(job, path, place));
    return new Trainer(made, core, native);
  }

  /** Optimizer steps done. */
  get step(): number {
    return this.#native.step;
  }

  /**
   * Of each batch, the pictures that this process trains on.
   *
   * @internal
   */
  get part(): readonly [first: number, count: number] {
    return this.#native.part;
  }

  /** Those the run was created with, also after {@link resume}, but for its changes. */
  get options(): Readonly<AnyTrainingOptions> {
    return this.#options;
  }

  /**
   * One optimizer step on exactly `batchSize` pictures. A cancelled step leaves weights and optimizer as they were, and so does
   * one whose loss or gradient is not finite: `applied` is false then. When many of these follow each other the run has diverged;
   * go on from a checkpoint before them with a lower learning rate.
   *
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`; `ERR_LTRP_OUT_OF_MEMORY`; `ERR_LTRP_DISPOSED`.
   */
  async trainStep(
    pictures: readonly NativePicture[],
    options?: JobOptions,
  ): Promise<NativeStepResult> {
    const checked = checkOptions(options, jobKeys);
    const given = readPictures(pictures);
    return runJob(this.#core, checked, (job) => this.#native.trainStep(job, given));
  }

  /** Figures on held-out pictures: centre crops, masks fixed by (seed, index of the picture). Changes nothing. */
  async evaluate(
    pictures: readonly NativePicture[],
    options?: JobOptions,
  ): Promise<NativeEvaluation> {
    const checked = checkOptions(options, jobKeys);
    const given = readPictures(pictures);
    return runJob(this.#core, checked, (job) => this.#native.evaluate(job, given));
  }

  /**
   * Writes everything {@link resume} needs, atomically: what was at `path` stays until the new file is whole.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; `ERR_LTRP_DIVERGED` when a weight is not finite: nothing is written.
   */
  async save(path: string, options?: JobOptions): Promise<void> {
    const checked = checkOptions(options, jobKeys);
    checkPath('path', path, 'a path');
    return runJob(this.#core, checked, (job) => this.#native.save(job, path));
  }

  /** Writes the model alone, for `load` of `MaskedAutoencoder`, `PatchRanker` or `VisionTransformer`; atomically. */
  async exportModel(
    path: string,
    type: StoredType = 'float32',
    options?: JobOptions,
  ): Promise<void> {
    const checked = checkOptions(options, jobKeys);
    checkPath('path', path, 'a path');
    return runJob(this.#core, checked, (job) => this.#native.exportModel(job, path, type));
  }

  /** Frees weights and optimizer state once running calls are done. Idempotent. */
  dispose(): void {
    this.#native.dispose();
  }

  /** As {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }
}

const kinds = {
  finetune: { native: 'classifier', keys: finetuneKeys },
  pretrain: { native: 'mae', keys: pretrainKeys },
  ranker: { native: 'ranker', keys: rankerKeys },
} as const;

/** A new run as the core takes it, the models that it names as paths. */
function readRun(given: AnyTrainingOptions) {
  checkPresent('options', given);
  const { kind } = readFields(Object(given) as object, ['kind'], 'options');
  if (kind === undefined) throw invalid("options.kind must be 'finetune', 'pretrain' or 'ranker'.");
  checkChoice('options.kind', kind, Object.keys(kinds));
  const { native, keys } = kinds[kind as keyof typeof kinds];
  const {
    kind: again,
    model,
    ...options
  } = checkOptions(given as unknown as Record<string, unknown>, keys);
  checkChoice('options.kind', again, [kind as string]); // it was read again with the others
  for (const list of pairs)
    if (list in options) options[list] = readShort(`options.${list}`, options[list]);
  if (Array.isArray(options['unseen']))
    options['unseen'] = Array.from(options['unseen'] as unknown[]);
  options['init'] = resolveStart(options['init'], native) ?? '';
  if (native === 'ranker') {
    const without = options['targets'] === 'maps' && options['teacher'] === null;
    // Whatever is no name is refused by its name.
    const teacher = options['teacher'] as string;
    options['teacher'] = without ? '' : resolveModel(teacher, 'mae', 'options.teacher');
  }
  if (native === 'classifier') {
    options['selectorModel'] = resolveSelectorModel(options['selectorModel'], options['selector']);
  }
  return { kind: native, model: readModel(model), options: asJson(options, 'options') } as const;
}

/** Fine-tuning may begin from the embedded masked autoencoder. */
function resolveStart(init: unknown, kind: ModelKind): string | undefined {
  const of = kind === 'classifier' ? 'mae' : kind;
  return resolveWeights(init as string | null | undefined, of);
}

/** The file behind `selectorModel`; an embedded model is the one that the selector asks. Empty: none. */
function resolveSelectorModel(given: unknown, selector: unknown): string {
  if (given === undefined || given === null) return '';
  const kind = String(selector).startsWith('ranker') ? 'ranker' : 'mae';
  return resolveModel(given as string, kind, 'options.selectorModel');
}

/** Options that are lists of two numbers. */
const pairs: readonly string[] = ['cropScale', 'keepRandom'];
/** Options that are lists of numbers. */
const lists: readonly string[] = [...pairs, 'unseen'];

/** Options as JSON. Values that JSON cannot hold are refused; the core checks the rest. */
function asJson(options: object, name: string): string {
  const isPlain = (value: unknown): boolean =>
    value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value);
  for (const [key, value] of Object.entries(options)) {
    // readRun has copied these.
    if (isPlain(value) || (lists.includes(key) && Array.isArray(value) && value.every(isPlain)))
      continue;
    throw invalid(
      `${name}.${key} must be a number, a string or a boolean; got ${described(value)}.`,
    );
  }
  return JSON.stringify(options);
}

/** The file behind `init`: the folder of a run stands for the model that is in it. */
export function resolveWeights(
  init: string | null | undefined,
  kind: ModelKind,
): string | undefined {
  if (init === undefined || init === null) return undefined;
  const path = resolveModel(init, kind, 'options.init');
  if (!existsSync(join(path, 'run.json'))) return path;
  const model = join(path, 'model.safetensors');
  if (existsSync(model)) return model;
  throw notFound(
    `The run in ${path} has no model.safetensors yet; let it go on until it stops or ends, which writes one.`,
  );
}

const modelFields = words<keyof (NativeClassifierConfig & NativeMaeConfig & NativeRankerConfig)>()(
  'imageHeight imageWidth patchSize encoder decoder layerNormEps mean std normalizedTarget head classes pooling queries queryDim',
);

const stackFields = ['dim', 'depth', 'heads', 'mlpDim'] as const;

/** A geometry as given, read once; the core checks it. */
function readModel(given: unknown): NativeFileConfig {
  const name = 'options.model';
  if (typeof given !== 'object' || given === null) {
    throw invalid(`${name} must be an object; got ${described(given)}.`);
  }
  const model = readFields(given, modelFields, name);
  for (const stack of ['encoder', 'decoder'] as const) {
    const value = model[stack];
    if (typeof value === 'object' && value !== null) {
      model[stack] = readFields(value, stackFields, `${name}.${stack}`);
    }
  }
  for (const list of ['mean', 'std'] as const)
    model[list] = readShort(`${name}.${list}`, model[list]);
  return model as unknown as NativeFileConfig;
}

const cropFields = ['top', 'left', 'height', 'width', 'flip', 'scores'] as const;

/** Pictures as they were given, read once. */
function readPictures(pictures: unknown): NativePicture[] {
  const list = reading('pictures', () =>
    Array.isArray(pictures) ? Array.from(pictures as unknown[]) : undefined,
  );
  if (list === undefined) throw invalid(`pictures must be an array; got ${described(pictures)}.`);
  return list.map((picture, i) => {
    const name = `pictures[${i}]`;
    const keys = ['pixels', 'height', 'width', 'scored', 'label', 'labels'] as const;
    const fields = readFields(Object(picture) as object, keys, name);
    if (fields.scored !== undefined) {
      fields.scored = readFields(Object(fields.scored) as object, cropFields, `${name}.scored`);
    }
    return fields as unknown as NativePicture;
  });
}
