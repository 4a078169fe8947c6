/** `ltrp rank`: which patches of pictures matter. */
import type { Command } from 'commander';
import { PatchRanker } from '../patch-ranker.js';
import type { ImageTask } from './image-command.js';
import { withNotes } from './notes.js';
import { jsonNumbers } from '../json-numbers.js';
import {
  addOptions,
  option,
  addImageOptions,
  parseName,
  parseShare,
  type ImageSettings,
} from './options.js';
import { addPartOptions, storeResults, type PartSettings } from './result-store.js';
import { outputSuffixes } from '../output-mark.js';
import type { OutputFolder } from './output-folder.js';
import { patchBoxes, type Box, type PatchGrid } from '../patch-grid.js';
import { heatMapPicture, keptPicture, type ShownPicture } from './report/pictures.js';
import {
  commonCells,
  drawn,
  loadOptions,
  resultFolder,
  shardsOf,
  showResults,
  type Shown,
} from './results.js';
import { mapOrdered, settled } from '../stream/ordered.js';
import { priors, type Prior } from '../types.js';
import { invalid } from '../validation.js';
import { rankFiles, type RankFilesResult } from '../stream/rank-files.js';

interface RankSettings extends ImageSettings, PartSettings {
  keep: number;
  scoreShare: number;
  prior: Prior;
  store?: string;
}

/** One line of the command's JSON. */
export interface RankResult {
  image: string;
  /** Pixels of the source, after its EXIF rotation; so are the boxes. */
  width: number;
  height: number;
  model: string;
  grid: PatchGrid;
  /** Logits in raster order, larger ranks higher; with a prior, combined scores. */
  scores: (number | null)[];
  prior: Prior;
  keepRatio: number;
  /** Ids of the kept patches (by score, and a share for diversity), ascending. */
  kept: number[];
  /** Rectangles of all patches in raster order: left, top, width, height. */
  boxes: Box[];
}

export function register(program: Command): void {
  const command = program
    .command('rank')
    .summary('rank the patches of pictures and choose which to keep')
    .description(
      `Ranks the patches of pictures with a trained ranker and chooses which to keep.

The whole picture is covered. It is cut into about as many patches as the model was made for, in the grid that distorts \
them least. A ranker with a CLS head has one grid: the picture is stretched to it, and --grid and --patches are refused. \
Boxes are in pixels of the original, after its EXIF rotation.`,
    );
  addOptions(command, [
    option('--keep <share>', 'share of the patches to keep, for example 0.5 or 50%')
      .argParser(parseShare('(0, 1]'))
      .default(0.5),
    option(
      '--score-share <share>',
      'share of the kept patches chosen by score alone; the rest adds diversity',
    )
      .argParser(parseShare('[0, 1]'))
      .default(1),
    option(
      '--prior <prior>',
      "'centre' adds the rank by nearness to the picture's centre to the ranking",
    )
      .choices(priors)
      .default('none'),
    option(
      '--store <folder>',
      'write Parquet files in parts, for many pictures and processes, instead of showing results',
    )
      .argParser(parseName)
      .conflicts(['out']),
  ]);
  command.action(async (patterns: string[], settings: RankSettings) => {
    const { store, part, parts } = settings;
    if (store !== undefined) process.exitCode = await rankToStore(patterns, { ...settings, store });
    else if (part !== undefined || parts !== undefined) {
      throw invalid(
        `${part === undefined ? 'parts' : 'part'} is for results that are kept with --store.`,
      );
    } else process.exitCode = await rank(patterns, settings);
  });
  addPartOptions(command);
  addImageOptions(command, {
    model: 'or a .safetensors or .pth file',
    out: 'where JSON, pictures and the page go (default: ltrp-out; with --json: nowhere)',
    precision: true,
    help: `
Files in the folder: rank.jsonl (what --json prints), NAME-heat.png, NAME-kept.png, and index.html, an offline
page with a slider for the share kept. Earlier results stay; ranking a picture again replaces its result.
With --store, images that cannot be read are named on standard error and do not fail the command.

Examples:
  ltrp rank cat.jpg                           rank one picture, look at ltrp-out/index.html
  ltrp rank photos/ --keep 0.25 --out ranked  a folder, a quarter of the patches kept
  ltrp rank 'photos/**/*.png' --patches 400   finer patches
  ltrp rank cat.jpg --json | jq .kept         for programs
  ltrp rank shards/ --store ranks             Parquet files (docs/data-at-size.md); the same command continues
                                              after any end, and may run several times at once`,
  });
}

/** The columns are documented in docs/data-at-size.md. */
async function rankToStore(
  patterns: readonly string[],
  settings: RankSettings & { store: string },
): Promise<number> {
  const { keep: keepRatio, scoreShare, prior, seed, grid, patches, precision } = settings;
  const { imageColumn } = settings;
  return storeResults(patterns, settings, {
    kind: 'rank',
    modelKind: 'ranker',
    options: { keepRatio, scoreShare, prior, seed, grid, patches, precision, imageColumn },
    load: async () => {
      const ranker = await withNotes(PatchRanker.load(settings.model, loadOptions(settings)));
      const wish = { ranker, grid, patches, keepRatio, scoreShare, prior, seed };
      return {
        run: async function* (files, signal) {
          for await (const result of rankFiles(files, { ...wish, signal })) {
            if (!result.ok) yield result.error;
            else {
              const { width, height, grid: cells, logits, kept } = result;
              yield { width, height, ...cells, logits: [...logits], kept: [...kept] };
            }
          }
        },
        dispose: () => ranker.dispose(),
      };
    },
  });
}

async function rank(patterns: readonly string[], settings: RankSettings): Promise<number> {
  const { json = false, model } = settings;
  const out = resultFolder(settings);
  return showResults<RankResult, PatchRanker>(patterns, {
    label: 'Ranking',
    shards: shardsOf(settings),
    json,
    out,
    suffixes: [outputSuffixes.heat, outputSuffixes.kept],
    lines: 'rank.jsonl',
    page: {
      title: 'Ranked patches',
      description: `Every patch was given a place by the ranker “${model}”, without labels.`,
      keepRatio: settings.keep,
    },
    header: ['image', 'pixels', 'patches', 'kept'],
    row: ({ image, width, height, grid, scores, kept }) => [
      ...commonCells(image, width, height, grid),
      `${kept.length} of ${scores.length}`,
    ],
    load: () => withNotes(PatchRanker.load(model, loadOptions(settings))),
    run: (ranker) => (tasks, signal) => rankAll(ranker, tasks, settings, out, signal),
  });
}

/** A task as {@link rankFiles} takes it. */
interface NamedTask {
  picture: string;
  task: ImageTask;
}

/** Pictures for the page are large: so many are drawn at a time, while the next ones are ranked. */
const drawnAhead = 8;

function rankAll(
  ranker: PatchRanker,
  tasks: readonly ImageTask[],
  settings: RankSettings,
  out: OutputFolder | undefined,
  signal: AbortSignal,
): AsyncIterable<PromiseSettledResult<Shown<RankResult>>> {
  const { keep: keepRatio, scoreShare, prior, seed, grid, patches } = settings;
  const ranked = rankFiles(
    tasks.map((task): NamedTask => ({ picture: task.file, task })),
    { ranker, grid, patches, keepRatio, scoreShare, prior, seed, signal },
  );
  return mapOrdered(
    ranked,
    { ahead: drawnAhead, signal },
    settled((result) => write(result, settings, out)),
  );
}

async function write(
  ranked: RankFilesResult<NamedTask>,
  settings: RankSettings,
  out: OutputFolder | undefined,
): Promise<Shown<RankResult>> {
  if (!ranked.ok) throw ranked.error;
  const { source: from, width, height, grid, logits, kept: indices } = ranked;
  const { file } = from.task;
  const result: RankResult = {
    image: file,
    width,
    height,
    model: settings.model,
    grid,
    scores: jsonNumbers(logits),
    prior: settings.prior,
    keepRatio: settings.keep,
    kept: Array.from(indices),
    boxes: patchBoxes(grid, width, height),
  };
  if (out === undefined) return { result };
  const pictures = {
    [outputSuffixes.heat]: (shown: ShownPicture) => heatMapPicture(shown, grid, logits),
    [outputSuffixes.kept]: (shown: ShownPicture) => keptPicture(shown, grid, indices),
  };
  const map = { label: 'Ranker', ...grid, scores: logits, selected: indices };
  return { result, image: await drawn(from.task, result, out, pictures, map) };
}
