/** `ltrp pretrain`: trains a masked autoencoder, the teacher. */
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { resolveWeights, type PretrainOptions } from '../trainer.js';
import { maePresets } from '../training/presets.js';
import { imageNetMean, imageNetStd } from '../images.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { parseInteger } from './options.js';
import { checkGeometry, encoderOptions, modelConfig } from './starting-weights.js';
import { trainingCommand, type Beginning } from './training-command.js';
import {
  addTrainingOptions,
  parseImageSize,
  trainingOptions,
  type TrainingSettings,
} from './training-options.js';

interface PretrainSettings extends TrainingSettings {
  maskRatio: number;
  decoderDim?: number;
  decoderDepth?: number;
  decoderHeads?: number;
  target?: 'raw' | 'normalized';
  start?: string;
}

export function register(program: Command): void {
  const command = program
    .command('pretrain')
    .summary('train a masked autoencoder on pictures')
    .description(
      `Trains a masked autoencoder, the teacher that scores patches, on pictures without labels.

The --out folder gets run.json (the options of the run), log.jsonl (a line for every step and validation), the two newest \
checkpoints, and model.safetensors. Ctrl-C or SIGTERM finishes the step and saves. After that, or after a crash, --resume \
continues on the same curve. You may then change the length, learning rate, clipping or location of the pictures.`,
    );
  addTrainingOptions(command, { learningRate: 1e-3, weightDecay: 0.05, maskRatio: 0.75 });
  const integer = parseInteger(1);
  const options = [
    new Option('--decoder-dim <width>', 'width of the decoder').argParser(integer),
    new Option('--decoder-depth <blocks>', 'blocks of the decoder').argParser(integer),
    new Option('--decoder-heads <count>', 'attention heads of the decoder').argParser(integer),
    new Option(
      '--image-size <pixels>',
      'size of the crops: a number or HEIGHTxWIDTH (default: 224)',
    ).argParser(parseImageSize),
    new Option('--patch-size <pixels>', 'side of a patch (default: 16)').argParser(integer),
    new Option(
      '--target <space>',
      'what to predict: pixels, or pixels normalised in every patch (default: raw)',
    ).choices(['raw', 'normalized']),
    // Under the name that `ltrp train` has for where weights begin.
    new Option('--start <model>').argParser((text: string) => resolve(text)).hideHelp(),
  ];
  for (const option of options) command.addOption(option);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp pretrain --data photos --out runs/teacher --epochs 100
  ltrp pretrain --data photos scenes@0.5 --val held-out --out runs/teacher --steps 20000 --batch-size 128
  ltrp pretrain --out runs/teacher --resume
  ltrp pretrain --out runs/teacher --resume --epochs 200
  ltrp pretrain --data photos --init mae_visualize_vit_base.pth --out runs/finetuned --learning-rate 1e-4
${trainingExitCodesHelp}`,
  );
  command.action(() => trainingCommand<PretrainSettings>(command, buildOptions));
}

async function buildOptions({
  settings,
  pictures,
  core,
  given,
  signal,
}: Beginning<PretrainSettings>): Promise<PretrainOptions> {
  const init = resolveWeights(settings.init ?? settings.start, 'mae');
  const from = init === undefined ? null : await modelConfig(core, init, 'mae', signal);
  const preset = maePresets[settings.model];
  const dim = settings.dim ?? preset.encoder.dim;
  const decoderDim = settings.decoderDim ?? preset.decoder.dim;
  const encoder = {
    dim,
    depth: settings.depth ?? preset.encoder.depth,
    heads: settings.heads ?? preset.encoder.heads,
    mlpDim: settings.mlpDim ?? 4 * dim,
  };
  const decoder = {
    dim: decoderDim,
    depth: settings.decoderDepth ?? preset.decoder.depth,
    heads: settings.decoderHeads ?? preset.decoder.heads,
    mlpDim: 4 * decoderDim,
  };
  if (from !== null) {
    checkGeometry(settings, given, {
      ...encoderOptions(from),
      ...(from.decoder && {
        decoderDim: from.decoder.dim,
        decoderDepth: from.decoder.depth,
        decoderHeads: from.decoder.heads,
      }),
    });
    if (from.decoder === null) {
      process.stderr.write(`${init} is an encoder alone; the decoder begins at random.\n`);
    }
  }
  const { imageHeight, imageWidth } = from ?? { imageHeight: 224, imageWidth: 224 };
  const { height, width } = settings.imageSize ?? { height: imageHeight, width: imageWidth };
  return {
    kind: 'pretrain',
    ...trainingOptions(settings, pictures),
    maskRatio: settings.maskRatio,
    model: {
      imageHeight: height,
      imageWidth: width,
      patchSize: from?.patchSize ?? settings.patchSize ?? 16,
      encoder: from?.encoder ?? encoder,
      decoder: from?.decoder ?? decoder,
      layerNormEps: from?.layerNormEps ?? 1e-6,
      normalizedTarget:
        settings.target === undefined
          ? (from?.normalizedTarget ?? false)
          : settings.target === 'normalized',
      mean: [...(from?.mean ?? imageNetMean)],
      std: [...(from?.std ?? imageNetStd)],
    },
    init,
  };
}
