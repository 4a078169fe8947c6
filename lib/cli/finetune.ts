/** `ltrp finetune`: trains a classifier that receives the patches a selector keeps. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { toLtrpError } from '../errors.js';
import {
  poolings,
  type CoreBinding,
  type NativeClassifierConfig,
  type NativeModelConfig,
} from '../native/binding.js';
import { selectorNames, type SelectorName } from '../selectors.js';
import { resolveWeights, type FinetuneOptions } from '../trainer.js';
import { maePresets } from '../training/presets.js';
import { invalid } from '../validation.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { addOptions, option, parseInteger, parseShare } from './options.js';
import {
  checkGeometry,
  encoderOptions,
  geometryOf,
  modelConfig,
  standardGeometry,
} from './starting-weights.js';
import { trainingCommand, type Beginning } from './training-command.js';
import { unseenOf } from './training-labels.js';
import {
  addTrainingOptions,
  parseImageSize,
  parseModel,
  parseNonNegative,
  parseRange,
  trainingOptions,
  type TrainingSettings,
} from './training-options.js';

interface FinetuneSettings
  extends
    TrainingSettings,
    Pick<
      FinetuneOptions,
      | 'minLearningRate'
      | 'layerDecay'
      | 'dropPath'
      | 'labelSmoothing'
      | 'mixup'
      | 'cutmix'
      | 'randAugment'
      | 'erase'
      | 'gammaNegative'
      | 'gammaPositive'
      | 'margin'
    > {
  pooling?: NativeClassifierConfig['pooling'];
  queries?: number;
  queryDim?: number;
  keep: number;
  keepRandom?: [number, number];
  selector?: SelectorName;
  selectorModel?: string;
}

export function register(program: Command): void {
  const command = program
    .command('finetune')
    .summary('train a classifier on labelled pictures')
    .description(
      `Trains a vision transformer to tell classes apart, from all patches or from those that a selector keeps.

--data is a folder with a folder of pictures for each class, or --labels lists any number of categories for each picture. The \
--out folder gets run.json, log.jsonl, classes.txt (names in the order of the logits), the two newest checkpoints, and \
model.safetensors. Ctrl-C or SIGTERM finishes the step and \
saves; --resume continues.`,
    );
  addTrainingOptions(command, {
    learningRate: 2.5e-4,
    weightDecay: 0.05,
    beta2: 0.999,
    cropScale: [0.08, 1],
    valCount: 2000,
    data: 'folders with a folder of pictures for each class, or pictures of --labels; SOURCE@0.5 gives a source half of every epoch',
  });
  const file = (text: string): string => resolve(text);
  addOptions(command, [
    option(
      '--labels <file>',
      "categories of the pictures, any number each: COCO's .json, a folder of VOC's .xml, or lines with a picture and its categories, \
separated by tabs; the defaults are then crops of at least half of a picture and no label smoothing",
    ).argParser(file),
    option('--val-labels <file>', 'the same for --val (default: --labels)').argParser(file),
    option(
      '--categories <file>',
      'names of the categories to learn, one a line; others are ignored (default: all of --labels)',
    ).argParser(file),
    option(
      '--unseen <file>',
      'names of categories whose average precision is also reported separately, one a line',
    ).argParser(file),
    option(
      '--gamma-negative <power>',
      'exponent of the asymmetric loss (--labels) for absent categories',
    )
      .argParser(parseNonNegative)
      .default(4),
    option('--gamma-positive <power>', 'the same for present categories')
      .argParser(parseNonNegative)
      .default(0),
    option('--margin <probability>', 'probability up to which absent categories have no loss')
      .argParser(parseShare('[0, 1)'))
      .default(0.05),
    option(
      '--image-size <pixels>',
      'size of the crops: a number or HEIGHTxWIDTH (default: that of --init, or 224)',
    ).argParser(parseImageSize),
    option('--patch-size <pixels>', 'side of a patch (default: 16)').argParser(parseInteger(1)),
    option(
      '--pooling <kind>',
      "what the head reads: the CLS token, the patches' mean before or after the norm, or all tokens by ML-Decoder's queries \
(default: cls, with --labels queries)",
    ).choices(poolings),
    option(
      '--queries <count>',
      "number of ML-Decoder's queries (default: one for each category, at most 100)",
    ).argParser(parseInteger(1)),
    option(
      '--query-dim <width>',
      "width of ML-Decoder's queries (default: the encoder's)",
    ).argParser(parseInteger(1)),
    option('--min-learning-rate <rate>', 'where the half-cosine ends')
      .argParser(parseNonNegative)
      .default(1e-6),
    option(
      '--layer-decay <factor>',
      'factor of the learning rate from each block to the one before',
    )
      .argParser(parseShare('(0, 1]'))
      .default(0.75),
    option(
      '--drop-path <share>',
      "share of pictures that skip the last block's branches; it rises from 0 in the first block",
    )
      .argParser(parseShare('[0, 1)'))
      .default(0.1),
    option('--label-smoothing <share>', 'share of the target that all classes share equally')
      .argParser(parseShare('[0, 1)'))
      .default(0.1),
    option('--mixup <alpha>', 'mix pairs of pictures by a share from Beta(alpha, alpha); 0: off')
      .argParser(parseNonNegative)
      .default(0),
    option('--cutmix <alpha>', 'mix boxes of pairs of pictures; 0: off')
      .argParser(parseNonNegative)
      .default(0),
    option(
      '--rand-augment <magnitude>',
      'strength of random changes of colour and shape, at most 10; 0: off',
    )
      .argParser(parseNonNegative)
      .default(9),
    option('--erase <share>', 'share of the pictures in which a box is erased')
      .argParser(parseShare('[0, 1]'))
      .default(0.25),
    option('--keep <share>', 'share of the patches that the model receives')
      .argParser(parseShare('(0, 1]'))
      .default(1),
    option(
      '--keep-random <min,max>',
      'range from which training draws that share at each step (default: always --keep)',
    ).argParser(parseRange),
    option('--selector <name>', 'how the patches are chosen (default: random)').choices(
      selectorNames,
    ),
    option(
      '--selector-model <model>',
      "the selector's model: a file, or 'tiny' for the embedded ranker or masked autoencoder",
    ).argParser(parseModel),
  ]);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp finetune --data photos/train --val photos/val --init tiny --out runs/classifier --epochs 50
  ltrp finetune --data photos/train --val photos/val --init mae_pretrain_vit_base.pth --out runs/half \\
    --keep 50% --selector ranker --selector-model tiny
  ltrp finetune --data coco/train2017 --labels instances_train2017.json --val coco/val2017 --val-labels instances_val2017.json \\
    --init mae_pretrain_vit_base.pth --out runs/coco --keep 75% --selector ranker --selector-model tiny --erase 0
  ltrp finetune --data photos/train --init tiny --out runs/any --keep 50% --keep-random 10%,100% --selector random
  ltrp finetune --out runs/classifier --resume
${trainingExitCodesHelp}`,
  );
  command.action(() =>
    trainingCommand<FinetuneSettings>(command, buildOptions, { labelled: true }),
  );
}

/** Geometry of what a run begins from: a classifier, or a masked autoencoder. */
async function startingConfig(
  core: CoreBinding,
  init: string,
  signal: AbortSignal,
): Promise<Partial<NativeClassifierConfig> & NativeModelConfig> {
  try {
    return await modelConfig(core, init, 'classifier', signal);
  } catch (error) {
    if (toLtrpError(error).code !== 'ERR_LTRP_CHECKPOINT_CONTENT') throw error;
    return modelConfig(core, init, 'mae', signal);
  }
}

/** Of ML-Decoder: as --init has them, or as many as there are categories, as wide as the encoder. */
function queriesOf(
  settings: FinetuneSettings,
  pooling: NativeClassifierConfig['pooling'],
  dim: number,
  from: Partial<NativeClassifierConfig> | null,
  categories: number,
): Pick<NativeClassifierConfig, 'queries' | 'queryDim'> {
  if (pooling !== 'queries') {
    if ((settings.queries ?? settings.queryDim) !== undefined)
      throw invalid('--queries and --query-dim are for --pooling queries.');
    return { queries: 0, queryDim: 0 };
  }
  const same = from?.pooling === 'queries' && from.classes === categories;
  return {
    queries: settings.queries ?? (same ? from.queries : undefined) ?? Math.min(categories, 100),
    queryDim: settings.queryDim ?? (same ? from.queryDim : undefined) ?? 8 * Math.ceil(dim / 8),
  };
}

async function buildOptions({
  settings,
  pictures,
  core,
  given,
  signal,
  classes,
}: Beginning<FinetuneSettings>): Promise<FinetuneOptions> {
  const init = resolveWeights(settings.init, 'mae');
  const from = init === undefined ? null : await startingConfig(core, init, signal);
  if (from !== null) checkGeometry(settings, given, encoderOptions(from));
  const preset = maePresets[settings.model].encoder;
  const geometry = geometryOf(settings, preset, from, standardGeometry(settings));
  const many = settings.labels !== undefined;
  // A file of an encoder alone says nothing of what a head read.
  const pooled = from?.classes ? from.pooling : undefined;
  const pooling = settings.pooling ?? pooled ?? (many ? 'queries' : 'cls');
  const { minLearningRate, layerDecay, dropPath, mixup, cutmix, randAugment, erase } = settings;
  const { gammaNegative, gammaPositive, margin } = settings;
  return {
    kind: 'finetune',
    ...trainingOptions(settings, pictures),
    // A crop cuts labelled things away.
    ...(many && !given('cropScale') && { cropScale: [0.5, 1] }),
    labels: many ? 'many' : 'one',
    ...{ gammaNegative, gammaPositive, margin },
    unseen: await unseenOf(settings, classes),
    model: {
      ...geometry,
      classes: classes.length,
      pooling,
      ...queriesOf(settings, pooling, geometry.encoder.dim, from, classes.length),
    },
    labelSmoothing: many && !given('labelSmoothing') ? 0 : settings.labelSmoothing,
    ...{ minLearningRate, layerDecay, dropPath, mixup, cutmix, randAugment, erase },
    keepRatio: settings.keep,
    keepRandom: settings.keepRandom ?? null,
    selector: settings.selector ?? 'random',
    selectorModel: settings.selectorModel,
    init,
  };
}
