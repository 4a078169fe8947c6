/** Options that the training commands share, and their parsers. */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { isHubSource } from '../hub/source.js';
import { embeddedModels } from '../models.js';
import {
  reductions,
  schedules,
  trainingPrecisions,
  type NativeRanks,
  type NativeTrainingOptions,
} from '../native/binding.js';
import type { Interval } from '../training/loop.js';
import { presetNames, type PresetName } from '../training/presets.js';
import { shareOf } from '../share.js';
import { storedTypes, type Device, type StoredType } from '../types.js';
import { invalid } from '../validation.js';
import {
  addOptions,
  option,
  deviceOption,
  libtorchOption,
  maskRatioOption,
  parseBytes,
  parseInteger,
  parseName,
  parseShare,
  seedOption,
  shardOptions,
} from './options.js';

/** Values of the shared options, after commander. */
export interface TrainingSettings extends Omit<
  NativeTrainingOptions,
  'microBatchSize' | 'steps' | 'warmupSteps' | 'decaySteps' | 'schedule' | 'clipGradientNorm'
> {
  schedule: NonNullable<NativeTrainingOptions['schedule']>;
  decay?: number;
  data?: string[];
  val?: string[];
  /** Of `train`: a store of score maps, another one to validate with, and the share of the first that is held out. */
  scores?: string;
  valScores?: string;
  valShare?: number;
  /** Of `finetune`: files of labels and of names of categories. */
  labels?: string;
  valLabels?: string;
  categories?: string;
  unseen?: string;
  valEvery?: number;
  valCount: number;
  out: string;
  resume: boolean;
  init?: string;
  model: PresetName;
  dim?: number;
  depth?: number;
  heads?: number;
  mlpDim?: number;
  imageSize?: { height: number; width: number };
  patchSize?: number;
  steps?: number;
  epochs?: number;
  microBatchSize?: number;
  warmup?: number;
  clipGradientNorm?: number;
  checkpointEvery: Interval;
  exportType: StoredType;
  decodeSize?: number;
  decodeThreads: number;
  prefetch: number;
  cacheMemory: number;
  imageColumn?: string;
  rowGroupMemory?: number;
  maxUnreadable: number;
  threads?: number;
  /** Of several processes (docs/many-machines.md). */
  rankTimeout: number;
  joinTimeout: number;
  reduce: NativeRanks['reduction'];
  bucketSize: number;
  device?: Device;
  libtorch?: string;
  json: boolean;
}

/** Options that do not change the curve: a resumed run may have others at will. Of the rest: resumed-settings.ts. */
export const freeOptions: readonly string[] =
  'out resume val valScores valLabels valEvery valCount checkpointEvery exportType decodeThreads prefetch cacheMemory maxUnreadable threads rankTimeout joinTimeout reduce bucketSize device libtorch json'.split(
    ' ',
  );

export interface TrainingDefaults {
  learningRate: number;
  weightDecay: number;
  /** Where patches are hidden. */
  maskRatio?: number;
  beta2?: number;
  cropScale?: [number, number];
  valCount?: number;
  /** What `--data` takes. */
  data?: string;
}

export function addTrainingOptions(command: Command, defaults: TrainingDefaults): void {
  const integer = parseInteger(1);
  const { cropScale = [0.2, 1] } = defaults;
  addOptions(command, [
    option(
      '--data <sources...>',
      defaults.data ??
        'folders (searched recursively), .txt lists, globs, images or shards (.tar, .parquet); SOURCE@0.5 gives a source half of every epoch',
    ),
    option('--val <sources...>', 'held-out pictures for validation, named the same way'),
    option(
      '--val-every <steps>',
      'steps between validations (default: a twentieth of the run)',
    ).argParser(integer),
    option('--val-count <images>', 'maximum number of held-out pictures to use')
      .argParser(integer)
      .default(defaults.valCount ?? 256),
    option('--out <folder>', 'folder for the log, checkpoints and model')
      .argParser(parseName)
      .makeOptionMandatory(),
    option('--resume', 'continue the run in the --out folder from its newest checkpoint').default(
      false,
    ),
    option(
      '--init <model>',
      "starting weights, which decide the geometry: 'tiny', a model file or the folder of a run",
    ).argParser(parseModel),
    option('--model <size>', 'size of the model').choices(presetNames).default('tiny'),
    option('--dim <width>', 'width of the encoder (default: that of --model)').argParser(integer),
    option('--depth <blocks>', 'blocks of the encoder').argParser(integer),
    option('--heads <count>', 'attention heads of the encoder').argParser(integer),
    option('--mlp-dim <width>', 'hidden width of the MLPs (default: 4 * dim)').argParser(integer),
    option('--steps <count>', 'length of the run in optimizer steps (default: 10000)').argParser(
      integer,
    ),
    option('--epochs <count>', 'length of the run in passes through the data')
      .argParser(parsePositive)
      .conflicts('steps'),
    option('--batch-size <images>', 'images in an optimizer step').argParser(integer).default(64),
    option(
      '--micro-batch-size <images>',
      'images in memory at a time (default: up to 32)',
    ).argParser(integer),
    option('--learning-rate <rate>', 'peak learning rate')
      .argParser(parsePositive)
      .default(defaults.learningRate),
    option('--warmup <steps>', 'linear warm-up (default: a twentieth of the run)').argParser(
      parseInteger(0),
    ),
    option(
      '--schedule <name>',
      "learning rate after the warm-up: 'cosine' falls to 0, 'wsd' holds the peak until --decay",
    )
      .choices(schedules)
      .default('cosine'),
    option(
      '--decay <steps>',
      'for wsd: final steps over which the rate falls to 0; 0 holds it (default: a tenth of the run)',
    ).argParser(parseInteger(0)),
    option('--weight-decay <factor>', "AdamW's, not for biases and norms")
      .argParser(parseNonNegative)
      .default(defaults.weightDecay),
    option('--beta1 <factor>', "AdamW's").argParser(parseNonNegative).default(0.9),
    option('--beta2 <factor>', "AdamW's")
      .argParser(parseNonNegative)
      .default(defaults.beta2 ?? 0.95),
    option(
      '--clip-gradient-norm <limit>',
      'limit for the global norm of the gradient (default: none)',
    ).argParser(parsePositive),
    option(
      '--precision <type>',
      'precision of matrix products in training, where the device supports it; scores are always float32',
    )
      .choices(trainingPrecisions)
      .default('float32'),
    seedOption(),
    option('--crop-scale <min,max>', "range of a random crop's share of the picture")
      .argParser(parseRange)
      .default(cropScale, cropScale.join(',')),
    option('--no-flip', 'no random mirroring'),
    ...(defaults.maskRatio === undefined ? [] : [maskRatioOption(defaults.maskRatio)]),
    option(
      '--checkpoint-every <interval>',
      'steps (500) or time (90s, 10m, 1h) between checkpoints',
    )
      .argParser(parseInterval)
      .default({ seconds: 600 }, '10m'),
    option('--export-type <type>', "how the finished model's weights are stored")
      .choices(storedTypes)
      .default('float16'),
    option(
      '--decode-size <pixels>',
      'shorter side of decoded pictures (default: twice the image size)',
    ).argParser(integer),
    option('--decode-threads <count>', 'pictures to decode at a time')
      .argParser(integer)
      .default(Math.max(1, Math.min(8, availableParallelism() - 1))),
    option('--prefetch <batches>', 'batches to decode ahead').argParser(integer).default(2),
    option('--cache-memory <size>', 'memory for decoded pictures, for example 512MiB')
      .argParser(parseBytes)
      .default(2 * 1024 ** 3, '2GiB'),
    ...shardOptions(),
    option(
      '--max-unreadable <share>',
      'share of unreadable pictures above which the run ends; up to it they are named and skipped',
    )
      .argParser(parseShare('[0, 1]'))
      .default(0.5),
    option('--threads <count>', 'threads for computing (default: all cores)').argParser(integer),
    option(
      '--rank-timeout <seconds>',
      'several processes: if one is gone, all end within this time',
    )
      .argParser(parsePositive)
      .default(60),
    option(
      '--join-timeout <seconds>',
      'several processes: how long they wait for each other to start',
    )
      .argParser(parsePositive)
      .default(45),
    option('--reduce <type>', 'several processes: type of the gradients that are sent and summed')
      .choices(reductions)
      .default('float32'),
    option(
      '--bucket-size <size>',
      'several processes: size of the gradients that are sent together',
    )
      .argParser(parseBytes)
      .default(4 * 1024 ** 2, '4MiB'),
    deviceOption(),
    libtorchOption(),
    option('--json', 'print the result as JSON on standard output').default(false),
  ]);
}

/** Length of a run on so many pictures. */
export function stepsOf(
  { epochs, steps, batchSize }: Pick<TrainingSettings, 'epochs' | 'steps' | 'batchSize'>,
  pictures: number,
): number {
  if (epochs === undefined) return steps ?? 10000;
  return Math.max(1, Math.ceil((epochs * pictures) / batchSize));
}

/** The options of the native trainers that all kinds share. */
export function trainingOptions(
  settings: TrainingSettings,
  pictures: number,
): NativeTrainingOptions {
  const { batchSize, learningRate, weightDecay, beta1, beta2, clipGradientNorm = null } = settings;
  const { precision, seed, cropScale, flip } = settings;
  const steps = stepsOf(settings, pictures);
  return {
    ...decayOf(settings, steps),
    ...{ batchSize, steps, learningRate, weightDecay, beta1, beta2, clipGradientNorm },
    ...{ precision, seed, cropScale, flip },
    microBatchSize: Math.min(settings.microBatchSize ?? 32, batchSize),
    warmupSteps: Math.min(settings.warmup ?? Math.ceil(steps / 20), steps),
  };
}

/** What stored maps have decided. */
const decidedByMaps = [
  ...(['teacher', 'val', 'imageSize', 'decodeSize', 'cropScale', 'flip'] as const),
  ...(['maskRatio', 'drop', 'metric', 'input', 'start', 'memoryBudget'] as const),
];

/**
 * Refuses options that would count for nothing, be the run new or resumed.
 *
 * @param given - whether an option was given on the command line, by its name in the settings.
 */
export function refuseUnused(
  { scores, schedule }: Pick<TrainingSettings, 'scores' | 'schedule'>,
  given: (name: string) => boolean,
): void {
  if (given('decay') && schedule !== 'wsd') throw invalid('--decay is for --schedule wsd.');
  if (scores === undefined) {
    if (!['valScores', 'valShare', 'smoothing'].some(given)) return;
    throw invalid('--val-scores, --val-share and --smoothing are for --scores.');
  }
  const superfluous = decidedByMaps.find(given);
  if (superfluous === undefined) return;
  throw invalid(
    `${superfluous === 'flip' ? '--no-flip' : superfluous} must be left out with --scores: the stored maps decide it.`,
  );
}

/** The schedule of a run of so many steps. */
export function decayOf(
  { schedule, decay }: { schedule: TrainingSettings['schedule']; decay?: number | undefined },
  steps: number,
): Pick<NativeTrainingOptions, 'schedule' | 'decaySteps'> {
  if (schedule !== 'wsd') return { schedule, decaySteps: 0 };
  return { schedule, decaySteps: Math.min(decay ?? Math.ceil(steps / 10), steps) };
}

/** An embedded model's name, or a path. A name of the hub stays one, for the message that says how to fetch it. */
export const parseModel = (text: string): string =>
  embeddedModels.includes(text) || isHubSource(text) ? text : resolve(text);

function parseNumber(text: string): number {
  return /^\d*\.?\d+(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : NaN;
}

export function parsePositive(text: string): number {
  const value = parseNumber(text);
  if (!(value > 0 && Number.isFinite(value)))
    throw new InvalidArgumentError('It must be a positive number.');
  return value;
}

export function parseNonNegative(text: string): number {
  const value = parseNumber(text);
  if (!(value >= 0 && Number.isFinite(value)))
    throw new InvalidArgumentError('It must be 0 or a positive number.');
  return value;
}

export function parseRange(text: string): [number, number] {
  const [low, high, ...rest] = text.split(',').map(shareOf);
  if (
    low === undefined ||
    high === undefined ||
    rest.length > 0 ||
    !(low > 0 && low <= high && high <= 1)
  ) {
    throw new InvalidArgumentError(
      'It must be two shares with 0 < min <= max <= 1, for example 0.2,1.',
    );
  }
  return [low, high];
}

export function parseImageSize(text: string): { height: number; width: number } {
  const match = /^(\d{1,5})(?:x(\d{1,5}))?$/i.exec(text.trim());
  const height = Number(match?.[1]);
  const width = Number(match?.[2] ?? match?.[1]);
  if (!(height > 0 && width > 0)) {
    throw new InvalidArgumentError(
      'It must be a number of pixels or HEIGHTxWIDTH, for example 224 or 192x320.',
    );
  }
  return { height, width };
}

function parseInterval(text: string): Interval {
  const match = /^(\d+)([smh]?)$/.exec(text.trim());
  const count = Number(match?.[1]);
  if (match === null || !(count > 0)) {
    throw new InvalidArgumentError('It must be a number of steps (500) or a time (90s, 10m, 1h).');
  }
  const unit = match[2];
  if (unit === undefined || unit === '') return { steps: count };
  return { seconds: count * (unit === 's' ? 1 : unit === 'm' ? 60 : 3600) };
}
