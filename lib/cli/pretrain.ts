/** `ltrp pretrain`: trains a masked autoencoder, the teacher. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { resolveWeights, type PretrainOptions } from '../trainer.js';
import { maePresets } from '../training/presets.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { addOptions, option, parseInteger } from './options.js';
import {
  checkGeometry,
  encoderOptions,
  geometryOf,
  modelConfig,
  standardGeometry,
} from './starting-weights.js';
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
  addOptions(command, [
    option('--decoder-dim <width>', 'width of the decoder').argParser(integer),
    option('--decoder-depth <blocks>', 'blocks of the decoder').argParser(integer),
    option('--decoder-heads <count>', 'attention heads of the decoder').argParser(integer),
    option(
      '--image-size <pixels>',
      'size of the crops: a number or HEIGHTxWIDTH (default: 224)',
    ).argParser(parseImageSize),
    option('--patch-size <pixels>', 'side of a patch (default: 16)').argParser(integer),
    option(
      '--target <space>',
      'what to predict: pixels, or pixels normalised in every patch (default: raw)',
    ).choices(['raw', 'normalized']),
    // Under the name that `ltrp train` has for where weights begin.
    option('--start <model>')
      .argParser((text: string) => resolve(text))
      .hideHelp(),
  ]);
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
  const dim = settings.decoderDim ?? preset.decoder.dim;
  const decoder = {
    dim,
    depth: settings.decoderDepth ?? preset.decoder.depth,
    heads: settings.decoderHeads ?? preset.decoder.heads,
    mlpDim: 4 * dim,
  };
  return {
    kind: 'pretrain',
    ...trainingOptions(settings, pictures),
    maskRatio: settings.maskRatio,
    model: {
      ...geometryOf(settings, preset.encoder, from, standardGeometry(settings)),
      decoder: from?.decoder ?? decoder,
      normalizedTarget:
        settings.target === undefined
          ? (from?.normalizedTarget ?? false)
          : settings.target === 'normalized',
    },
    init,
  };
}
