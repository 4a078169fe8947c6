/** `ltrp reconstruct`: what the masked autoencoder makes of hidden patches. */
import type { Command } from 'commander';
import { normalizePixels } from '../images.js';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import { shortPath } from './image-arguments.js';
import { eachImage, type ImageTask } from './image-command.js';
import { withNotes } from './notes.js';
import { maskRatioOption, addImageOptions, type ImageSettings } from './options.js';
import { markPng, outputSuffixes } from '../output-mark.js';
import { OutputFolder } from './output-folder.js';
import type { PatchGrid } from '../patch-grid.js';
import { reconstructionPicture } from './report/pictures.js';
import { gridCell, loadOptions, shardsOf, showResults } from './results.js';
import { readWholePicture } from '../whole-picture.js';

interface ReconstructSettings extends ImageSettings {
  maskRatio: number;
  out: string;
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
  const command = program
    .command('reconstruct')
    .summary('show what the teacher makes of hidden patches')
    .description(
      `Hides most patches of pictures and lets a masked autoencoder fill them in. NAME-reconstruction.png shows three panels: \
what the model saw, its reconstruction (visible patches unchanged), the original.`,
    );
  command.addOption(maskRatioOption(0.75));
  command.action(async (patterns: string[], settings: ReconstructSettings) => {
    process.exitCode = await reconstruct(patterns, settings);
  });
  addImageOptions(command, {
    model: 'a .safetensors or .pth file, or a Hugging Face folder',
    out: 'where the pictures go',
    defaultOut: 'ltrp-out',
    precision: false,
    help: `
Examples:
  ltrp reconstruct cat.jpg
  ltrp reconstruct photos/ --mask-ratio 0.9 --seed 7 --out reconstructed`,
  });
}

async function reconstruct(
  patterns: readonly string[],
  settings: ReconstructSettings,
): Promise<number> {
  const out = new OutputFolder(settings.out);
  return showResults<ReconstructResult, MaskedAutoencoder>(patterns, {
    label: 'Reconstructing',
    shards: shardsOf(settings),
    json: settings.json === true,
    out,
    suffixes: [outputSuffixes.reconstruction],
    header: ['image', 'patches', 'squared error', 'picture'],
    row: ({ image, grid, meanSquaredError, picture }) => [
      shortPath(image),
      gridCell(grid),
      meanSquaredError.toPrecision(3),
      shortPath(picture),
    ],
    load: () => withNotes(MaskedAutoencoder.load(settings.model, loadOptions(settings))),
    run: (mae) =>
      eachImage(3, async (task) => ({ result: await reconstructOne(mae, task, settings, out) })),
  });
}

async function reconstructOne(
  mae: MaskedAutoencoder,
  { file, output, signal }: ImageTask,
  settings: ReconstructSettings,
  out: OutputFolder,
): Promise<ReconstructResult> {
  const picture = await readWholePicture(file, mae.config, settings, signal);
  const { images, grid, width, height } = picture;
  const { maskRatio, seed } = settings;
  const { patches, visible } = await mae.reconstruct(images, { maskRatio, seed, signal });
  const { patchSize, mean, std, normalizedTarget } = mae.config;
  const { data: pixels } = await normalizePixels(images, mae.config, signal);
  const { png, error } = await reconstructionPicture(
    { pixels, patches, visible, grid, patchSize, mean, std, normalizedTarget },
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
    picture: await out.write(
      `${output.name}${outputSuffixes.reconstruction}`,
      markPng(png, output.id),
    ),
  };
}
