/** `ltrp rank`: which patches of pictures matter. */
import { InvalidArgumentError, Option, type Command } from 'commander';
import { PatchRanker } from '../patch-ranker.js';
import { exitCodesHelp } from './exit-codes.js';
import { shortPath } from './image-arguments.js';
import type { ImageTask } from './image-command.js';
import { jsonNumbers } from './numbers.js';
import {
  deviceOption,
  precisionOption,
  gridOption,
  libtorchOption,
  parseShare,
  patchesOption,
  seedOption,
} from './options.js';
import type { OutputFolder } from './output-folder.js';
import { patchBoxes, type Box, type PatchGrid } from '../patch-grid.js';
import { heatMapPicture, keptPicture, pageImage, readForDisplay } from './report/pictures.js';
import { commonCells, loadOptions, resultFolder, showResults, type Shown } from './results.js';
import { mapOrdered } from '../stream/ordered.js';
import { rankFiles, type RankedFile, type RankFilesResult } from '../stream/rank-files.js';
import type { LoadOptions } from '../types.js';
import type { GridWish } from '../whole-picture.js';

interface RankSettings extends GridWish {
  keep: number;
  scoreShare: number;
  model: string;
  out?: string;
  json?: true;
  seed: number;
  device: NonNullable<LoadOptions['device']>;
  precision: NonNullable<LoadOptions['precision']>;
  libtorch?: string;
}

/** One line of the command's JSON. */
export interface RankResult {
  image: string;
  /** Pixels of the source, after its EXIF rotation; so are the boxes. */
  width: number;
  height: number;
  model: string;
  grid: PatchGrid;
  /** Logits in raster order, larger ranks higher. */
  scores: (number | null)[];
  keepRatio: number;
  /** Ids of the kept patches (by score, and a share for diversity), ascending. */
  kept: number[];
  /** Rectangles of all patches in raster order: left, top, width, height. */
  boxes: Box[];
}

/** A share in [0, 1]. */
function parseScoreShare(text: string): number {
  const value = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError('It must be a number from 0 to 1.');
  }
  return value;
}

export function register(program: Command): void {
  program
    .command('rank')
    .summary('rank the patches of pictures and choose which to keep')
    .description(
      `Ranks the patches of pictures with a trained ranker and chooses which to keep.

The whole picture is covered, whatever its size and aspect: it is cut into about as many patches as the model was made
for, in the arrangement that distorts them least (rankers with a CLS head have one grid, to which it is stretched; they
take neither --grid nor --patches).
Boxes are in pixels of the original, after its EXIF rotation.`,
    )
    .argument('<images...>', 'files, folders (searched recursively) or globs (in quotes)')
    .addOption(
      new Option('--keep <share>', 'share of the patches to keep, for example 0.5 or 50%')
        .argParser(parseShare('(0, 1]'))
        .default(0.5),
    )
    .addOption(
      new Option(
        '--score-share <share>',
        'of the kept patches, the share that goes by score alone; the rest is for diversity',
      )
        .argParser(parseScoreShare)
        .default(0.7),
    )
    .option('--model <model>', "'tiny' (embedded), or a .safetensors or .pth file", 'tiny')
    .option(
      '--out <folder>',
      'where JSON, pictures and the page go (default: ltrp-out; with --json: nowhere)',
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
Written to the folder: rank.jsonl (what --json prints), NAME-heat.png, NAME-kept.png, and index.html, a page
with a slider for the share kept that works offline.

Examples:
  ltrp rank cat.jpg                           rank one picture, look at ltrp-out/index.html
  ltrp rank photos/ --keep 0.25 --out ranked  a folder, a quarter of the patches kept
  ltrp rank 'photos/**/*.png' --patches 400   finer patches
  ltrp rank cat.jpg --json | jq .kept         for programs
${exitCodesHelp}`,
    )
    .action(async (patterns: string[], settings: RankSettings) => {
      process.exitCode = await rank(patterns, settings);
    });
}

async function rank(patterns: readonly string[], settings: RankSettings): Promise<number> {
  const { json = false, model } = settings;
  const out = resultFolder(settings);
  const ranker = await PatchRanker.load(model, loadOptions(settings));
  try {
    return await showResults<RankResult>(patterns, {
      label: 'Ranking',
      json,
      out,
      lines: 'rank.jsonl',
      page: {
        title: 'Ranked patches',
        description: `Every patch was given a place by the ranker “${model}”, without labels.`,
        keepRatio: settings.keep,
      },
      header: ['image', 'pixels', 'patches', 'kept'],
      row: ({ image, width, height, grid, scores, kept }) => [
        ...commonCells(image, width, height, grid),
        `${String(kept.length)} of ${String(scores.length)}`,
      ],
      run: (tasks, signal) => rankAll(ranker, tasks, settings, out, signal),
    });
  } finally {
    ranker.dispose();
  }
}

type Ranked = RankedFile<NamedTask>;

/** A task as {@link rankFiles} takes it. */
interface NamedTask {
  picture: string;
  task: ImageTask;
}

/** Pictures for the page are large: so many are drawn at a time, while the next ones are ranked. */
const drawn = 8;

function rankAll(
  ranker: PatchRanker,
  tasks: readonly ImageTask[],
  settings: RankSettings,
  out: OutputFolder | undefined,
  signal: AbortSignal,
): AsyncIterable<PromiseSettledResult<Shown<RankResult>>> {
  const { keep: keepRatio, scoreShare, seed, grid, patches } = settings;
  const ranked = rankFiles(
    tasks.map((task): NamedTask => ({ picture: task.file, task })),
    { ranker, grid, patches, keepRatio, scoreShare, seed, signal },
  );
  return mapOrdered(ranked, { ahead: drawn, signal }, (result) => outcomeOf(result, settings, out));
}

async function outcomeOf(
  result: RankFilesResult<NamedTask>,
  settings: RankSettings,
  out: OutputFolder | undefined,
): Promise<PromiseSettledResult<Shown<RankResult>>> {
  if (!result.ok) return { status: 'rejected', reason: result.error };
  try {
    return { status: 'fulfilled', value: await write(result, settings, out) };
  } catch (reason) {
    return { status: 'rejected', reason };
  }
}

async function write(
  { source: from, width, height, grid, logits, kept: indices }: Ranked,
  settings: RankSettings,
  out: OutputFolder | undefined,
): Promise<Shown<RankResult>> {
  const { file, outputName, signal } = from.task;
  const result: RankResult = {
    image: file,
    width,
    height,
    model: settings.model,
    grid,
    scores: jsonNumbers(logits),
    keepRatio: settings.keep,
    kept: Array.from(indices),
    boxes: patchBoxes(grid, width, height),
  };
  if (out === undefined) return { result };
  const shown = await readForDisplay(file);
  const [heat, kept, source] = await Promise.all([
    heatMapPicture(shown, grid, logits),
    keptPicture(shown, grid, indices),
    pageImage(shown),
  ]);
  signal.throwIfAborted();
  await out.write(`${outputName}-heat.png`, heat);
  await out.write(`${outputName}-kept.png`, kept);
  const map = { label: 'Ranker', ...grid, scores: logits, selected: indices };
  return { result, image: { name: shortPath(file), width, height, source, maps: [map] } };
}
