/** `ltrp finetune`: trains a classifier that receives the patches a selector keeps. */
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { toLtrpError } from '../errors.js';
import { imageNetMean, imageNetStd } from '../images.js';
import { embeddedModels } from '../models.js';
import { poolings, type CoreBinding, type NativeClassifierConfig } from '../native/binding.js';
import { selectorNames, type SelectorName } from '../selectors.js';
import { resolveWeights, type FinetuneOptions } from '../trainer.js';
import { maePresets } from '../training/presets.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { parseInteger, parseShare } from './options.js';
import { checkGeometry, encoderOptions, modelConfig } from './starting-weights.js';
import { trainingCommand, type Beginning } from './training-command.js';
import {
  addTrainingOptions,
  parseImageSize,
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
      | 'erase'
    > {
  pooling?: NativeClassifierConfig['pooling'];
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

--data is a folder with a folder of pictures for each class. The --out folder gets run.json, log.jsonl, classes.txt (their \
names, in the order of the logits), the two newest checkpoints, and model.safetensors. Ctrl-C or SIGTERM finishes the step and \
saves; --resume continues.`,
    );
  addTrainingOptions(command, {
    learningRate: 2.5e-4,
    weightDecay: 0.05,
    beta2: 0.999,
    cropScale: [0.08, 1],
    valCount: 2000,
    data: 'folders with a folder of pictures for each class; SOURCE@0.5 gives a source half of every epoch',
  });
  const options = [
    new Option(
      '--image-size <pixels>',
      'of the crops: a number or HEIGHTxWIDTH (default: that of --init, or 224)',
    ).argParser(parseImageSize),
    new Option('--patch-size <pixels>', 'side of a patch (default: 16)').argParser(parseInteger(1)),
    new Option(
      '--pooling <kind>',
      "what the head reads: the CLS token, or the patches' mean before or after the norm (default: cls)",
    ).choices(poolings),
    new Option('--min-learning-rate <rate>', 'where the half-cosine ends')
      .argParser(parseNonNegative)
      .default(1e-6),
    new Option('--layer-decay <factor>', 'of the learning rate, from each block to the one before')
      .argParser(parseShare('(0, 1]'))
      .default(0.75),
    new Option(
      '--drop-path <share>',
      "of the pictures, for the last block's branches; rises from 0",
    )
      .argParser(parseShare('[0, 1)'))
      .default(0.1),
    new Option('--label-smoothing <share>', 'of the target that all classes have alike')
      .argParser(parseShare('[0, 1)'))
      .default(0.1),
    new Option(
      '--mixup <alpha>',
      'mixes pairs of pictures with a share of Beta(alpha, alpha); 0: not',
    )
      .argParser(parseNonNegative)
      .default(0),
    new Option('--cutmix <alpha>', 'mixes boxes of pairs of pictures; 0: not')
      .argParser(parseNonNegative)
      .default(0),
    new Option('--erase <share>', 'of the pictures, of which a box is erased')
      .argParser(parseShare('[0, 1]'))
      .default(0.25),
    new Option('--keep <share>', 'of the patches that the model receives')
      .argParser(parseShare('(0, 1]'))
      .default(1),
    new Option(
      '--keep-random <min,max>',
      'range of that share in training, drawn for each step (default: always --keep)',
    ).argParser(parseRange),
    new Option('--selector <name>', 'what chooses these patches (default: random)').choices(
      selectorNames,
    ),
    new Option(
      '--selector-model <model>',
      "what the selector asks: a model file, or 'tiny' for the embedded ranker or masked autoencoder",
    ).argParser((text: string) => (embeddedModels.includes(text) ? text : resolve(text))),
  ];
  for (const option of options) command.addOption(option);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp finetune --data photos/train --val photos/val --init tiny --out runs/classifier --epochs 50
  ltrp finetune --data photos/train --val photos/val --init mae_pretrain_vit_base.pth --out runs/half \\
    --keep 50% --selector ranker --selector-model tiny
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
): Promise<Partial<NativeClassifierConfig> & Omit<NativeClassifierConfig, 'classes' | 'pooling'>> {
  try {
    return await modelConfig(core, init, 'classifier', signal);
  } catch (error) {
    if (toLtrpError(error).code !== 'ERR_LTRP_CHECKPOINT_CONTENT') throw error;
    return modelConfig(core, init, 'mae', signal);
  }
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
  const dim = settings.dim ?? preset.dim;
  const { imageHeight, imageWidth } = from ?? { imageHeight: 224, imageWidth: 224 };
  const { height, width } = settings.imageSize ?? { height: imageHeight, width: imageWidth };
  // A file of an encoder alone says nothing of what a head read.
  const pooled = from?.classes ? from.pooling : undefined;
  const { minLearningRate, layerDecay, dropPath, labelSmoothing, mixup, cutmix, erase } = settings;
  return {
    kind: 'finetune',
    ...trainingOptions(settings, pictures),
    model: {
      imageHeight: height,
      imageWidth: width,
      patchSize: from?.patchSize ?? settings.patchSize ?? 16,
      encoder: from?.encoder ?? {
        dim,
        depth: settings.depth ?? preset.depth,
        heads: settings.heads ?? preset.heads,
        mlpDim: settings.mlpDim ?? 4 * dim,
      },
      layerNormEps: from?.layerNormEps ?? 1e-6,
      mean: [...(from?.mean ?? imageNetMean)],
      std: [...(from?.std ?? imageNetStd)],
      classes: classes.length,
      pooling: settings.pooling ?? pooled ?? 'cls',
    },
    ...{ minLearningRate, layerDecay, dropPath, labelSmoothing, mixup, cutmix, erase },
    keepRatio: settings.keep,
    keepRandom: settings.keepRandom ?? null,
    selector: settings.selector ?? 'random',
    selectorModel: settings.selectorModel,
    init,
  };
}
