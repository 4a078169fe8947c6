/** `ltrp score`: the teacher's opinion of every patch. */
import { Option, type Command } from 'commander';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import type { Drop, LoadOptions, Metric } from '../types.js';
import { exitCodesHelp } from './exit-codes.js';
import { shortPath } from './image-arguments.js';
import { eachImage, type ImageTask } from './image-command.js';
import { jsonNumbers } from './numbers.js';
import {
  deviceOption,
  precisionOption,
  gridOption,
  libtorchOption,
  parseInteger,
  parseShare,
  patchesOption,
  seedOption,
} from './options.js';
import type { OutputFolder } from './output-folder.js';
import { patchBoxes, type Box, type PatchGrid } from '../patch-grid.js';
import { heatMapPicture, pageImage, readForDisplay } from './report/pictures.js';
import { commonCells, loadOptions, resultFolder, showResults, type Shown } from './results.js';
import { readWholePicture, type GridWish } from '../whole-picture.js';

interface ScoreSettings extends GridWish {
  rounds: number;
  maskRatio: number;
  drop: Drop;
  metric: Metric;
  model: string;
  out?: string;
  json?: true;
  seed: number;
  device: NonNullable<LoadOptions['device']>;
  precision: NonNullable<LoadOptions['precision']>;
  libtorch?: string;
}

/** One line of the command's JSON. */
export interface ScoreResult {
  image: string;
  /** Pixels of the source, after its EXIF rotation; so are the boxes. */
  width: number;
  height: number;
  model: string;
  grid: PatchGrid;
  rounds: number;
  maskRatio: number;
  drop: Drop;
  metric: Metric;
  seed: number;
  /** Mean scores in raster order, larger is denser. */
  scores: (number | null)[];
  /** Of the means; null where a patch was visible in one mask only. */
  standardErrors: (number | null)[];
  /** Rectangles of all patches in raster order: left, top, width, height. */
  boxes: Box[];
}

export function register(program: Command): void {
  program
    .command('score')
    .summary("map what each patch is worth to the teacher's reconstruction")
    .description(
      `Scores every patch of pictures with a masked autoencoder: how much its reconstruction of hidden patches changes when a
visible one is taken away, averaged over random masks, with the standard error of that mean.

The whole picture is covered, as with ltrp rank. This costs hundreds of times what ranking costs; it is what rankers
are trained with, and how one is checked.`,
    )
    .argument('<images...>', 'files, folders (searched recursively) or globs (in quotes)')
    .addOption(
      new Option('--rounds <count>', 'every patch is visible in at least this many masks')
        .argParser(parseInteger(1, 1_000_000))
        .default(4),
    )
    .addOption(
      new Option('--mask-ratio <share>', 'share of the patches that is hidden')
        .argParser(parseShare('(0, 1)'))
        .default(0.9),
    )
    .addOption(
      new Option('--drop <part>', 'where the patch is taken away')
        .choices(['decoder', 'encoder', 'both'])
        .default('decoder'),
    )
    .addOption(
      new Option(
        '--metric <metric>',
        'how reconstructions are compared; psnr and ssim are rescaled within each image',
      )
        .choices(['l1', 'l2', 'psnr', 'ssim'])
        .default('l1'),
    )
    .option(
      '--model <model>',
      "'tiny' (embedded), a .safetensors or .pth file, or a Hugging Face folder",
      'tiny',
    )
    .option(
      '--out <folder>',
      'where JSON, heat maps and the page go (default: ltrp-out; with --json: nowhere)',
    )
    .option('--json', 'print one JSON object per image on standard output, and nothing else')
    .addOption(gridOption())
    .addOption(patchesOption())
    .addOption(seedOption())
    .addOption(precisionOption())
    .addOption(deviceOption())
    .addOption(libtorchOption())
    .addHelpText(
      'after',
      `
Written to the folder: score.jsonl (what --json prints), NAME-score.png (a heat map), and index.html.

Examples:
  ltrp score cat.jpg                          a quick look, 4 rounds
  ltrp score photos/ --rounds 16 --out maps   smaller standard errors
  ltrp score cat.jpg --mask-ratio 0.75        more context for each reconstruction
  ltrp score cat.jpg --json | jq '.scores'    for programs
${exitCodesHelp}`,
    )
    .action(async (patterns: string[], settings: ScoreSettings) => {
      process.exitCode = await score(patterns, settings);
    });
}

async function score(patterns: readonly string[], settings: ScoreSettings): Promise<number> {
  const { json = false, model } = settings;
  const out = resultFolder(settings);
  const mae = await MaskedAutoencoder.load(model, loadOptions(settings));
  try {
    return await showResults<ScoreResult>(patterns, {
      label: 'Scoring',
      json,
      out,
      lines: 'score.jsonl',
      page: {
        title: 'Scored patches',
        description:
          `What each patch is worth to the reconstruction of the masked autoencoder “${model}”, averaged over random ` +
          `masks in which it was visible at least ${String(settings.rounds)} times.`,
        keepRatio: 0.5,
      },
      header: ['image', 'pixels', 'patches', 'mean score', 'mean standard error'],
      row: ({ image, width, height, grid, scores, standardErrors }) => [
        ...commonCells(image, width, height, grid),
        mean(scores),
        mean(standardErrors),
      ],
      run: eachImage(2, (task) => scoreOne(mae, task, settings, out)),
    });
  } finally {
    mae.dispose();
  }
}

function mean(values: readonly (number | null)[]): string {
  const finite = values.filter((value) => value !== null);
  if (finite.length === 0) return '-';
  return (finite.reduce((sum, value) => sum + value, 0) / finite.length).toPrecision(3);
}

async function scoreOne(
  mae: MaskedAutoencoder,
  { file, outputName, signal, onProgress }: ImageTask,
  settings: ScoreSettings,
  out: OutputFolder | undefined,
): Promise<Shown<ScoreResult>> {
  const picture = await readWholePicture(file, mae.config, settings, signal);
  const { images, grid, width, height } = picture;
  const { rounds, maskRatio, drop, metric, seed } = settings;
  const map = await mae.scoreMap(images, {
    rounds,
    maskRatio,
    drop,
    metric,
    seed,
    signal,
    onProgress: ({ done, total }) => {
      onProgress(done / total);
    },
  });
  const result: ScoreResult = {
    image: file,
    width,
    height,
    model: settings.model,
    grid,
    rounds,
    maskRatio,
    drop,
    metric,
    seed,
    scores: jsonNumbers(map.mean),
    standardErrors: jsonNumbers(map.standardError),
    boxes: patchBoxes(grid, width, height),
  };
  if (out === undefined) return { result };
  const shown = await readForDisplay(file);
  const [heat, source] = await Promise.all([
    heatMapPicture(shown, grid, map.mean),
    pageImage(shown),
  ]);
  signal.throwIfAborted();
  await out.write(`${outputName}-score.png`, heat);
  const { mean: scores, standardError: standardErrors } = map;
  const shownMap = { label: 'Teacher', ...grid, scores, standardErrors };
  return { result, image: { name: shortPath(file), width, height, source, maps: [shownMap] } };
}
