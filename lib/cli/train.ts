/** `ltrp train`: trains a ranker on a teacher's scores. */
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import { embeddedModels, resolveModel } from '../models.js';
import type { RankerTrainingOptions } from '../trainer.js';
import { rankerPresets } from '../training/presets.js';
import type { Drop, LossName, Metric } from '../types.js';
import { invalid } from '../validation.js';
import { trainingExitCodesHelp } from './exit-codes.js';
import { parseInteger } from './options.js';
import { trainingCommand } from './training-command.js';
import {
  addTrainingOptions,
  parseImageSize,
  trainingOptions,
  type TrainingSettings,
} from './training-options.js';

interface TrainSettings extends TrainingSettings {
  teacher?: string;
  head: 'cls' | 'token';
  loss: LossName;
  lossK?: number;
  drop: Drop;
  metric: Metric;
  input: 'visible' | 'full';
  start: 'random' | 'teacher';
  memoryBudget: number;
}

export function register(program: Command): void {
  const command = program
    .command('train')
    .summary("train a ranker on a teacher's scores")
    .description(
      `Trains a ranker to order patches as a frozen teacher's leave-one-out scores do. No labels are needed.

Image size, patch size and normalisation are the teacher's. The --out folder gets run.json, log.jsonl, the two newest
checkpoints, and at the end model.safetensors. Ctrl-C or SIGTERM finishes the step and saves; --resume continues.`,
    );
  addTrainingOptions(command, { learningRate: 1e-3, weightDecay: 0.06, maskRatio: 0.75 });
  const options = [
    new Option('--teacher <model>', "checkpoint of a masked autoencoder, or 'tiny'").argParser(
      (text: string) => (embeddedModels.includes(text) ? text : resolve(text)),
    ),
    new Option('--image-size <pixels>', "of the crops (default: the teacher's)").argParser(
      parseImageSize,
    ),
    new Option(
      '--head <kind>',
      "'token': a logit from every patch, any grid; 'cls': the paper's, one grid",
    )
      .choices(['token', 'cls'])
      .default('token'),
    new Option('--loss <name>', 'learning-to-rank loss')
      .choices(['listMle', 'listNet', 'rankNet', 'focusedRank', 'pointWise'])
      .default('listMle'),
    new Option(
      '--loss-k <items>',
      'items of listMle and focusedRank (default: the whole list)',
    ).argParser(parseInteger(1)),
    new Option('--drop <where>', 'what the teacher is deprived of to score a patch')
      .choices(['decoder', 'encoder', 'both'])
      .default('decoder'),
    new Option('--metric <name>', 'how reconstructions are compared')
      .choices(['l1', 'l2', 'psnr', 'ssim'])
      .default('l1'),
    new Option(
      '--input <patches>',
      "what the ranker sees in training: the teacher's visible patches or all",
    )
      .choices(['visible', 'full'])
      .default('visible'),
    new Option(
      '--start <weights>',
      "random, or the first blocks of the teacher's encoder (of the same width)",
    )
      .choices(['random', 'teacher'])
      .default('random'),
    new Option('--memory-budget <MiB>', "for the teacher's activations")
      .argParser(parseInteger(16))
      .default(512),
  ];
  for (const option of options) command.addOption(option);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp train --data photos --teacher runs/teacher/model.safetensors --out runs/ranker --epochs 50
  ltrp train --data photos --val held-out --teacher tiny --out runs/ranker --loss rankNet --mask-ratio 0.9
  ltrp train --out runs/ranker --resume
${trainingExitCodesHelp}`,
  );
  command.action(() => trainingCommand<TrainSettings>(command, buildOptions));
}

async function buildOptions(
  settings: TrainSettings,
  images: number,
): Promise<RankerTrainingOptions> {
  if (settings.teacher === undefined) throw invalid('Name the teacher with --teacher.');
  const teacher = resolveModel(settings.teacher, 'mae');
  const model = await MaskedAutoencoder.load(teacher);
  const { imageHeight, imageWidth, patchSize, mean, std } = model.config;
  model.dispose();
  const preset = rankerPresets[settings.model];
  const dim = settings.dim ?? preset.dim;
  const { height, width } = settings.imageSize ?? { height: imageHeight, width: imageWidth };
  return {
    kind: 'ranker',
    ...trainingOptions(settings, images),
    model: {
      imageHeight: height,
      imageWidth: width,
      patchSize,
      encoder: {
        dim,
        depth: settings.depth ?? preset.depth,
        heads: settings.heads ?? preset.heads,
        mlpDim: settings.mlpDim ?? 4 * dim,
      },
      head: settings.head,
      layerNormEps: 1e-5,
      mean: [...mean],
      std: [...std],
    },
    teacher,
    loss: settings.loss,
    lossK: settings.lossK ?? null,
    drop: settings.drop,
    metric: settings.metric,
    input: settings.input,
    start: settings.start,
    memoryBudget: settings.memoryBudget * 1024 ** 2,
  };
}
