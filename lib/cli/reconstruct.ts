/** `ltrp reconstruct`: what the masked autoencoder makes of hidden patches. */
import { Option, type Command } from 'commander';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import type { LoadOptions } from '../types.js';
import { exitCodesHelp } from './exit-codes.js';
import { shortPath } from './image-arguments.js';
import { eachImage, type ImageTask } from './image-command.js';
import {
  deviceOption,
  gridOption,
  libtorchOption,
  parseShare,
  patchesOption,
  seedOption,
} from './options.js';
import { OutputFolder } from './output-folder.js';
import type { PatchGrid } from '../patch-grid.js';
import { reconstructionPicture } from './report/pictures.js';
import { gridCell, loadOptions, showResults } from './results.js';
import { readWholePicture, type GridWish } from '../whole-picture.js';

interface ReconstructSettings extends GridWish {
  maskRatio: number;
  model: string;
  out: string;
  json?: true;
  seed: number;
  device: NonNullable<LoadOptions['device']>;
  libtorch?: string;
}

/** One line of the command's JSON. */
export interface ReconstructResult {
  image: string;
  /** Pixels of the source, after its EXIF rotation. */
  width: number;
  height: number;
  model: string;
  grid: PatchGrid;
  maskRatio: number;
  seed: number;
  /** Ids of the patches that the model saw, ascending. */
  visible: number[];
  /** On the masked patches, in normalised pixels. */
  meanSquaredError: number;
  /** The picture that was written. */
  picture: string;
}

export function register(program: Command): void {
  program
    .command('reconstruct')
    .summary('show what the teacher makes of hidden patches')
    .description(
      `Hides most patches of pictures and lets a masked autoencoder fill them in. For every image it writes NAME-reconstruction.png,
three panels: what the model saw, its reconstruction (visible patches as they are), the original.`,
    )
    .argument('<images...>', 'files, folders (searched recursively) or globs (in quotes)')
    .addOption(
      new Option('--mask-ratio <share>', 'share of the patches that is hidden')
        .argParser(parseShare('(0, 1)'))
        .default(0.75),
    )
    .option(
      '--model <model>',
      "'tiny' (embedded), a .safetensors or .pth file, or a Hugging Face folder",
      'tiny',
    )
    .option('--out <folder>', 'where the pictures go', 'ltrp-out')
    .option('--json', 'print one JSON object per image on standard output, and nothing else')
    .addOption(gridOption())
    .addOption(patchesOption())
    .addOption(seedOption())
    .addOption(deviceOption())
    .addOption(libtorchOption())
    .addHelpText(
      'after',
      `
Examples:
  ltrp reconstruct cat.jpg
  ltrp reconstruct photos/ --mask-ratio 0.9 --seed 7 --out reconstructed
${exitCodesHelp}`,
    )
    .action(async (patterns: string[], settings: ReconstructSettings) => {
      process.exitCode = await reconstruct(patterns, settings);
    });
}

async function reconstruct(
  patterns: readonly string[],
  settings: ReconstructSettings,
): Promise<number> {
  const out = new OutputFolder(settings.out);
  const mae = await MaskedAutoencoder.load(settings.model, loadOptions(settings));
  try {
    return await showResults<ReconstructResult>(patterns, {
      label: 'Reconstructing',
      json: settings.json === true,
      out,
      header: ['image', 'patches', 'squared error', 'picture'],
      row: ({ image, grid, meanSquaredError, picture }) => [
        shortPath(image),
        gridCell(grid),
        meanSquaredError.toPrecision(3),
        shortPath(picture),
      ],
      run: eachImage(3, async (task) => ({
        result: await reconstructOne(mae, task, settings, out),
      })),
    });
  } finally {
    mae.dispose();
  }
}

async function reconstructOne(
  mae: MaskedAutoencoder,
  { file, outputName, signal }: ImageTask,
  settings: ReconstructSettings,
  out: OutputFolder,
): Promise<ReconstructResult> {
  const picture = await readWholePicture(file, mae.config, settings, signal);
  const { images, grid, width, height } = picture;
  const { maskRatio, seed } = settings;
  const { patches, visible } = await mae.reconstruct(images, { maskRatio, seed, signal });
  const { patchSize, mean, std, normalizedTarget } = mae.config;
  const { png, error } = await reconstructionPicture(
    { pixels: images.data, patches, visible, grid, patchSize, mean, std, normalizedTarget },
    { width, height },
  );
  signal.throwIfAborted();
  return {
    image: file,
    width,
    height,
    model: settings.model,
    grid,
    maskRatio,
    seed,
    visible: Array.from(visible),
    meanSquaredError: error,
    picture: await out.write(`${outputName}-reconstruction.png`, png),
  };
}
