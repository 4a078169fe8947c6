/** `ltrp score`: the teacher's opinion of every patch. */
import type { Command } from 'commander';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import { drops, metrics } from '../types.js';
import { eachImage, type ImageTask } from './image-command.js';
import { withNotes } from './notes.js';
import { jsonNumbers } from '../json-numbers.js';
import {
  addOptions,
  maskRatioOption,
  option,
  addImageOptions,
  parseInteger,
  parseName,
  parseShare,
  type ImageSettings,
} from './options.js';
import { addPartOptions, storeResults, type PartSettings } from './result-store.js';
import { outputSuffixes } from '../output-mark.js';
import type { OutputFolder } from './output-folder.js';
import { patchBoxes, type Box, type PatchGrid } from '../patch-grid.js';
import { heatMapPicture, type ShownPicture } from './report/pictures.js';
import {
  commonCells,
  drawn,
  loadOptions,
  resultFolder,
  shardsOf,
  showResults,
  type Shown,
} from './results.js';
import { readWholePicture } from '../whole-picture.js';
import { invalid } from '../validation.js';
import { toLtrpError } from '../errors.js';
import { hasManifest } from '../store/manifest.js';
import { mapOrdered } from '../stream/ordered.js';
import { storeCommand, type StoreSettings } from './score-store.js';
import { parseRange } from './training-options.js';

interface ScoreSettings extends ImageSettings, PartSettings, Omit<StoreSettings, 'store'> {
  store?: string;
}

/** Options that count with --store only. */
const ofStore = ['crops', 'cropScale', 'flip', 'shard', 'maxUnreadable'] as const;

/** One line of the command's JSON. */
export interface ScoreResult extends Pick<
  StoreSettings,
  'rounds' | 'maskRatio' | 'drop' | 'metric' | 'surprise' | 'seed'
> {
  image: string;
  /** Pixels of the source, after its EXIF rotation; so are the boxes. */
  width: number;
  height: number;
  model: string;
  grid: PatchGrid;
  /** Mean scores in raster order, larger is denser. */
  scores: (number | null)[];
  /** Of the means; null where a patch was visible in one mask only. */
  standardErrors: (number | null)[];
  /** Rectangles of all patches in raster order: left, top, width, height. */
  boxes: Box[];
}

export function register(program: Command): void {
  const command = program
    .command('score')
    .summary("map what each patch is worth to the teacher's reconstruction")
    .description(
      `Scores every patch of pictures with a masked autoencoder: how much does its reconstruction of hidden patches change \
without this patch? The score is a mean over random masks, with its standard error.

The whole picture is covered, as with ltrp rank. Scoring costs hundreds of times what ranking costs. Rankers learn from \
such scores; for that, --store keeps those of random crops.`,
    );
  addOptions(command, [
    option('--rounds <count>', 'minimum number of masks in which every patch is visible')
      .argParser(parseInteger(1, 1_000_000))
      .default(4),
    maskRatioOption(0.9),
    option('--drop <part>', 'where the patch is removed').choices(drops).default('decoder'),
    option(
      '--metric <metric>',
      'how reconstructions are compared; psnr and ssim are rescaled within each image',
    )
      .choices(metrics)
      .default('l1'),
    option(
      '--surprise',
      'multiply each score by how badly the model predicts the hidden patch; for --metric reach',
    ).default(false),
    option(
      '--store <folder>',
      'store maps of random crops, for ltrp train --scores, or with --part or --parts Parquet files of whole pictures',
    )
      .argParser(parseName)
      .conflicts(['out']),
    option('--crops <count>', 'with --store: random crops of every picture')
      .argParser(parseInteger(1, 2 ** 20))
      .default(1),
    option('--crop-scale <min,max>', "with --store: range of a crop's share of the picture")
      .argParser(parseRange)
      .default([0.2, 1], '0.2,1'),
    option('--no-flip', 'with --store: no random mirroring'),
    option('--shard <pictures>', 'with --store: pictures per file; a killed command loses one file')
      .argParser(parseInteger(1, 2 ** 20))
      .default(64),
    option(
      '--max-unreadable <share>',
      'with --store: share of unreadable pictures above which the command ends; up to it they are named and skipped',
    )
      .argParser(parseShare('[0, 1]'))
      .default(0.5),
  ]);
  command.action(async (patterns: string[], settings: ScoreSettings) => {
    const { store } = settings;
    const kept = keptAs(command, store);
    if (store === undefined || kept === 'files') process.exitCode = await score(patterns, settings);
    else if (kept === 'means')
      process.exitCode = await scoreToStore(patterns, { ...settings, store });
    else process.exitCode = await storeCommand(patterns, { ...settings, store });
  });
  addPartOptions(command);
  addImageOptions(command, {
    model: 'a .safetensors or .pth file, or a Hugging Face folder',
    out: 'where JSON, heat maps and the page go (default: ltrp-out; with --json: nowhere)',
    precision: true,
    help: `
Files in the folder: score.jsonl (what --json prints), NAME-score.png (a heat map), and index.html.
Earlier results stay; scoring a picture again replaces its result.
With --store, images that cannot be read are named on standard error and do not fail the command.

Examples:
  ltrp score cat.jpg                          a quick look, 4 rounds
  ltrp score photos/ --rounds 16 --out maps   smaller standard errors
  ltrp score cat.jpg --mask-ratio 0.75        more context for each reconstruction
  ltrp score cat.jpg --json | jq '.scores'    for programs
  ltrp score photos/ --store maps --crops 4   maps to train a ranker on; the same command continues after
                                              any end, and may run several times at once
  ltrp score shards/ --store means --parts 8  means and errors of whole pictures as Parquet (docs/data-at-size.md)`,
  });
}

/**
 * How the scores are kept: for each image in --out, as Parquet files of means, or as maps of crops to learn from.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for an option that is not for these.
 */
export function keptAs(command: Command, store: string | undefined): 'files' | 'means' | 'maps' {
  const given = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
  const refuse = (names: readonly string[], because: string): void => {
    const found = names.find(given);
    if (found !== undefined) throw invalid(`${found === 'flip' ? '--no-flip' : found} ${because}.`);
  };
  if (store === undefined) {
    refuse(ofStore, 'is for scores that are kept with --store');
    refuse(['part', 'parts'], 'is for results that are kept with --store');
    return 'files';
  }
  if (given('part') || given('parts') || hasManifest(store)) {
    refuse(ofStore, 'is for maps of crops, without --part and --parts');
    return 'means';
  }
  refuse(
    ['json', 'grid', 'patches'],
    'is not for --store without --part or --parts: it keeps maps of crops',
  );
  return 'maps';
}

/** The columns are documented in docs/data-at-size.md. */
async function scoreToStore(
  patterns: readonly string[],
  settings: ScoreSettings & { store: string },
): Promise<number> {
  const { rounds, maskRatio, drop, metric, surprise, seed } = settings;
  const { grid, patches, precision, imageColumn } = settings;
  const how = { rounds, maskRatio, drop, metric, surprise, seed };
  return storeResults(patterns, settings, {
    kind: 'score',
    modelKind: 'mae',
    options: { ...how, grid, patches, precision, imageColumn },
    load: async () => {
      const mae = await withNotes(MaskedAutoencoder.load(settings.model, loadOptions(settings)));
      return {
        run: (files, signal) =>
          mapOrdered(files, { ahead: 2, signal }, async (file, { signal: stop }) => {
            try {
              const picture = await readWholePicture(file, mae.config, settings, stop);
              const { images, grid: cells, width, height } = picture;
              const { mean, standardError } = await mae.scoreMap(images, { ...how, signal: stop });
              return { width, height, ...cells, means: [...mean], errors: [...standardError] };
            } catch (error) {
              stop.throwIfAborted();
              return toLtrpError(error);
            }
          }),
        dispose: () => mae.dispose(),
      };
    },
  });
}

async function score(patterns: readonly string[], settings: ScoreSettings): Promise<number> {
  const { json = false, model } = settings;
  const out = resultFolder(settings);
  return showResults<ScoreResult, MaskedAutoencoder>(patterns, {
    label: 'Scoring',
    shards: shardsOf(settings),
    json,
    out,
    suffixes: [outputSuffixes.score],
    lines: 'score.jsonl',
    page: {
      title: 'Scored patches',
      description:
        `What each patch is worth to the reconstruction of the masked autoencoder “${model}”, averaged over random ` +
        `masks in which it was visible at least ${settings.rounds} times.`,
      keepRatio: 0.5,
    },
    header: ['image', 'pixels', 'patches', 'mean score', 'mean standard error'],
    row: ({ image, width, height, grid, scores, standardErrors }) => [
      ...commonCells(image, width, height, grid),
      mean(scores),
      mean(standardErrors),
    ],
    load: () => withNotes(MaskedAutoencoder.load(model, loadOptions(settings))),
    run: (mae) => eachImage(2, (task) => scoreOne(mae, task, settings, out)),
  });
}

function mean(values: readonly (number | null)[]): string {
  const finite = values.filter((value) => value !== null);
  if (finite.length === 0) return '-';
  return (finite.reduce((sum, value) => sum + value, 0) / finite.length).toPrecision(3);
}

async function scoreOne(
  mae: MaskedAutoencoder,
  task: ImageTask,
  settings: ScoreSettings,
  out: OutputFolder | undefined,
): Promise<Shown<ScoreResult>> {
  const { file, signal, onProgress } = task;
  const picture = await readWholePicture(file, mae.config, settings, signal);
  const { images, grid, width, height } = picture;
  const { rounds, maskRatio, drop, metric, surprise, seed } = settings;
  const map = await mae.scoreMap(images, {
    rounds,
    maskRatio,
    drop,
    metric,
    surprise,
    seed,
    signal,
    onProgress: ({ done, total }) => onProgress(done / total),
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
    surprise,
    seed,
    scores: jsonNumbers(map.mean),
    standardErrors: jsonNumbers(map.standardError),
    boxes: patchBoxes(grid, width, height),
  };
  if (out === undefined) return { result };
  const pictures = {
    [outputSuffixes.score]: (shown: ShownPicture) => heatMapPicture(shown, grid, map.mean),
  };
  const { mean: scores, standardError: standardErrors } = map;
  const shownMap = { label: 'Teacher', ...grid, scores, standardErrors };
  return { result, image: await drawn(task, result, out, pictures, shownMap) };
}
