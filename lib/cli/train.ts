/** `ltrp train`: trains a ranker on a teacher's scores. */
import type { Command } from 'commander';
import { resolveModel } from '../models.js';
import { rankerInputs, rankerStarts } from '../native/binding.js';
import { resolveWeights, type RankerTrainingOptions } from '../trainer.js';
import { rankerPresets } from '../training/presets.js';
import { drops, heads, lossNames, metrics } from '../types.js';
import { invalid } from '../validation.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { addOptions, option, parseInteger, parseName, parseShare } from './options.js';
import { checkGeometry, encoderOptions, geometryOf, modelConfig } from './starting-weights.js';
import { trainingCommand, type Beginning } from './training-command.js';
import {
  addTrainingOptions,
  parseImageSize,
  parseModel,
  parseNonNegative,
  trainingOptions,
  type TrainingSettings,
} from './training-options.js';

interface TrainSettings
  extends
    TrainingSettings,
    Pick<
      RankerTrainingOptions,
      'maskRatio' | 'loss' | 'drop' | 'metric' | 'input' | 'start' | 'memoryBudget'
    > {
  teacher?: string;
  head?: RankerTrainingOptions['model']['head'];
  lossK?: number;
  smoothing?: number;
}

export function register(program: Command): void {
  const command = program
    .command('train')
    .summary("train a ranker on a teacher's scores")
    .description(
      `Trains a ranker to order patches as a frozen teacher scores them. No labels are needed.

Image size, patch size and normalisation are the teacher's. The --out folder gets run.json, log.jsonl, the two newest \
checkpoints, and model.safetensors. Ctrl-C or SIGTERM finishes the step and saves; --resume continues, if you like with \
another length, learning rate or clipping.`,
    );
  addTrainingOptions(command, { learningRate: 1e-3, weightDecay: 0.06, maskRatio: 0.75 });
  addOptions(command, [
    option('--teacher <model>', "checkpoint of a masked autoencoder, or 'tiny'").argParser(
      parseModel,
    ),
    option(
      '--scores <folder>',
      'learn from maps of all patches, made by ltrp score --store, instead of a teacher',
    ).argParser(parseName),
    option('--val-scores <folder>', 'stored maps for validation').argParser(parseName),
    option(
      '--val-share <share>',
      'share of the pictures of --scores to hold out for validation, by a hash of their file names (default: 0.05; with --val-scores: 0)',
    ).argParser(parseShare('[0, 1]')),
    option('--image-size <pixels>', "size of the crops (default: the teacher's)").argParser(
      parseImageSize,
    ),
    option(
      '--head <kind>',
      "'token': a logit from every patch, for any grid; 'cls': the paper's, for one grid (default: token)",
    ).choices(heads),
    option('--loss <name>', 'learning-to-rank loss').choices(lossNames).default('listMle'),
    option(
      '--loss-k <items>',
      'number of items for listMle and focusedRank (default: the whole list)',
    ).argParser(parseInteger(1)),
    option(
      '--smoothing <patches>',
      "with --scores: σ of a Gaussian over each map's ranks, so that a patch counts with its neighbours (default: 0, none)",
    ).argParser(parseNonNegative),
    option('--drop <where>', 'where the teacher drops the scored patch')
      .choices(drops)
      .default('decoder'),
    option('--metric <name>', 'how reconstructions are compared').choices(metrics).default('l1'),
    option(
      '--input <patches>',
      'patches that the ranker sees in training: those visible to the teacher, or all',
    )
      .choices(rankerInputs)
      .default('visible'),
    option(
      '--start <weights>',
      "starting weights: random, or the first blocks of the teacher's encoder (of the same width)",
    )
      .choices(rankerStarts)
      .default('random'),
    option('--memory-budget <MiB>', "memory for the teacher's activations")
      .argParser(parseInteger(16))
      .default(512),
  ]);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp train --data photos --teacher runs/teacher/model.safetensors --out runs/ranker --epochs 50
  ltrp train --data photos --val held-out --teacher tiny --out runs/ranker --loss rankNet --mask-ratio 0.9
  ltrp train --out runs/ranker --resume
  ltrp train --scores maps --out runs/ranker --epochs 50
${trainingExitCodesHelp}`,
  );
  command.action(() => trainingCommand<TrainSettings>(command, buildOptions));
}

/** Where the targets come from, and the geometry of the pictures that they are of. */
async function targetsOf({ settings, core, maps, signal }: Beginning<TrainSettings>) {
  if (maps === undefined) {
    if (settings.teacher === undefined)
      throw invalid('Name the teacher with --teacher, or stored maps with --scores.');
    const teacher = resolveModel(settings.teacher, 'mae', '--teacher');
    const geometry = await modelConfig(core, teacher, 'mae', signal);
    const { drop, metric, input, start } = settings;
    return {
      geometry,
      options: { targets: 'teacher', teacher, drop, metric, input, start } as const,
    };
  }
  const { model, options } = maps.store.manifest;
  const { drop, metric } = options;
  const fixed = { teacher: null, input: 'full', start: 'random' } as const;
  return { geometry: model, options: { targets: 'maps', ...fixed, drop, metric } as const };
}

async function buildOptions(beginning: Beginning<TrainSettings>): Promise<RankerTrainingOptions> {
  const { settings, pictures, core, given, signal } = beginning;
  const { geometry, options } = await targetsOf(beginning);
  const init = resolveWeights(settings.init, 'ranker');
  const from = init === undefined ? null : await modelConfig(core, init, 'ranker', signal);
  if (from !== null) checkGeometry(settings, given, { ...encoderOptions(from), head: from.head });
  const preset = rankerPresets[settings.model];
  const { maskRatio, loss, lossK = null, smoothing = 0 } = settings;
  return {
    kind: 'ranker',
    ...trainingOptions(settings, pictures),
    model: {
      ...geometryOf(settings, preset, from, { ...geometry, layerNormEps: 1e-5 }),
      head: from?.head ?? settings.head ?? 'token',
    },
    ...{ maskRatio, ...options, loss, lossK, smoothing },
    memoryBudget: settings.memoryBudget * 1024 ** 2,
    init,
  };
}
