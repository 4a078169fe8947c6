/** `ltrp pretrain`: trains a masked autoencoder, the teacher. */
import { Option, type Command } from 'commander';
import type { PretrainOptions } from '../trainer.js';
import { maePresets } from '../training/presets.js';
import { imageNetMean, imageNetStd } from '../images.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { parseInteger } from './options.js';
import { trainingCommand } from './training-command.js';
import {
  addTrainingOptions,
  parseImageSize,
  trainingOptions,
  type TrainingSettings,
} from './training-options.js';

interface PretrainSettings extends TrainingSettings {
  decoderDim?: number;
  decoderDepth?: number;
  decoderHeads?: number;
  target: 'raw' | 'normalized';
}

export function register(program: Command): void {
  const command = program
    .command('pretrain')
    .summary('train a masked autoencoder on pictures')
    .description(
      `Trains a masked autoencoder, the teacher that scores patches, on pictures without labels.

The --out folder gets run.json (what defines the run), log.jsonl (a line for every step and validation), the two
newest checkpoints, and at the end model.safetensors. Ctrl-C or SIGTERM finishes the step and saves; after that,
or after a crash, the same command with --resume continues to the same curve.`,
    );
  addTrainingOptions(command, { learningRate: 1e-3, weightDecay: 0.05, maskRatio: 0.75 });
  const integer = parseInteger(1);
  const options = [
    new Option('--decoder-dim <width>', 'width of the decoder').argParser(integer),
    new Option('--decoder-depth <blocks>', 'blocks of the decoder').argParser(integer),
    new Option('--decoder-heads <count>', 'attention heads of the decoder').argParser(integer),
    new Option('--image-size <pixels>', 'of the crops: a number or HEIGHTxWIDTH')
      .argParser(parseImageSize)
      .default({ height: 224, width: 224 }, '224'),
    new Option('--patch-size <pixels>', 'side of a patch').argParser(integer).default(16),
    new Option('--target <space>', 'what is predicted: pixels, or pixels normalised in every patch')
      .choices(['raw', 'normalized'])
      .default('raw'),
  ];
  for (const option of options) command.addOption(option);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp pretrain --data photos --out runs/teacher --epochs 100
  ltrp pretrain --data photos scenes@0.5 --val held-out --out runs/teacher --steps 20000 --batch-size 128
  ltrp pretrain --out runs/teacher --resume
${trainingExitCodesHelp}`,
  );
  command.action(() =>
    trainingCommand<PretrainSettings>(command, (settings, images) =>
      Promise.resolve(buildOptions(settings, images)),
    ),
  );
}

function buildOptions(settings: PretrainSettings, images: number): PretrainOptions {
  const preset = maePresets[settings.model];
  const dim = settings.dim ?? preset.encoder.dim;
  const decoderDim = settings.decoderDim ?? preset.decoder.dim;
  const { height, width } = settings.imageSize ?? { height: 224, width: 224 };
  return {
    kind: 'pretrain',
    ...trainingOptions(settings, images),
    model: {
      imageHeight: height,
      imageWidth: width,
      patchSize: settings.patchSize ?? 16,
      encoder: {
        dim,
        depth: settings.depth ?? preset.encoder.depth,
        heads: settings.heads ?? preset.encoder.heads,
        mlpDim: settings.mlpDim ?? 4 * dim,
      },
      decoder: {
        dim: decoderDim,
        depth: settings.decoderDepth ?? preset.decoder.depth,
        heads: settings.decoderHeads ?? preset.decoder.heads,
        mlpDim: 4 * decoderDim,
      },
      layerNormEps: 1e-6,
      normalizedTarget: settings.target === 'normalized',
      mean: [...imageNetMean],
      std: [...imageNetStd],
    },
  };
}
