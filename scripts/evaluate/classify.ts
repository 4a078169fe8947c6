/**
 * `npm run evaluate -- --classify --photographs FOLDER`: one classifier, trained on patches chosen at random, sees what each selector
 * keeps. Trains it first where none is given.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { integer, parse, program, UsageError } from '../../bench/command-line.js';
import {
  MaskedAutoencoder,
  PatchRanker,
  VisionTransformer,
  type PixelBatch,
  type SelectorName,
} from '../../lib/index.js';
import { Dataset } from '../../lib/data/dataset.js';
import { foldersAsLabels } from '../../lib/data/labels.js';
import { askedModels } from '../../lib/evaluation/asked.js';
import { curvePage } from '../../lib/evaluation/curve-page.js';
import { SelectorStudy } from '../../lib/evaluation/study.js';
import { modelDigest } from '../../lib/file-digest.js';
import { resolveModel } from '../../lib/models.js';
import { selectorNames } from '../../lib/selectors.js';
import { shareOf } from '../../lib/share.js';
import { classifyMarkdown, type ClassifyResults } from './classify-table.js';
import {
  checkPatchSizes,
  choice,
  listed,
  provenance,
  sample,
  say,
  writeResults,
} from './command.js';
import { photographsOf } from './parts.js';
import { readPicture } from './pictures.js';
import { evaluateCache } from './teacher-maps.js';
import { allPatches, randomShares, smallRecipe, trainClassifier } from './trainings.js';

const help = `npm run evaluate -- --classify --photographs FOLDER [options]

How often a classifier that receives only the patches that a selector keeps is right, on imagenette/val, for every selector and
share. The classifier is fine-tuned from the embedded masked autoencoder on imagenette/train, on patches chosen at random, a share
of 10 to 100% that is drawn for each step. Writes classify.json, classify.md and classify.html; the table also goes to standard output.

  --fine-tuned         the paper's protocol: a classifier of its own for each selector and share, fine-tuned on what it keeps;
                       supervised selectors ask the one of all patches. Default --selectors ranker,random,variance,cls-attention
                       and --keep 25%,50%,100%, nine trainings
  --classifier <file>  a classifier that is there already, for all selectors or, with --fine-tuned, for supervised ones to ask
  --data <folder>      in place of --photographs, with --val: a folder of pictures for each class, as ImageNet has it, to train on
  --val <folder>       the same for the pictures that are classified
  --training <options> of ltrp finetune (default: a recipe for small models that were pre-trained for minutes)
  --epochs <n>         of its training (default 30)
  --seed <n>           of its training and of the selectors (default 0)
  --image-size <n>     pixels a side (default 128)
  --ranker <file>      default 'tiny'
  --mae <file>         of the selectors mae-attention, rollout and teacher, and what training begins from; default 'tiny'
  --init <file>        what training begins from instead, such as a classifier for smaller pictures
  --selectors <list>   default: all
  --keep <list>        shares of the patches (default 10%,25%,50%,75%,100%)
  --pictures <n>       at most (default: all of the part)
  --part <name>        test (default; for published figures), validation (for choosing anything)
  --out <folder>       default: evaluate/classify in the user's cache
`;

const ownKey = (name: SelectorName, keep: number): string =>
  keep === 1 ? 'all' : `${name} ${keep}`;

await program('evaluate', help, async (args) => {
  const asked = readOptions(args);
  const options = { ...asked, pictures: await picturesOf(asked) };
  const { pictures, seed } = options;
  const paths = sample([...pictures.labels.keys()], options.most, 'classify');
  if (paths.length === 0) throw new UsageError(`${pictures.name} has no pictures`);
  // Before hours of training: models that will not do are refused now.
  await using ranker = await PatchRanker.load(options.ranker);
  await using mae = await MaskedAutoencoder.load(options.mae);
  const { patchSize } = mae.config;
  checkPatchSizes(patchSize, { '--ranker': ranker });
  const { folder: source, command: training } =
    options.classifier === undefined
      ? trained(options, options.fineTuned ? allPatches : randomShares)
      : { folder: options.classifier, command: null };
  await using classifier = await VisionTransformer.load(source);
  checkPatchSizes(patchSize, { '--classifier': classifier });
  const { classes } = pictures;
  if (classifier.config.classes !== classes.length)
    throw new UsageError(
      `the classifier has ${classifier.config.classes} classes, the pictures have ${classes.length}`,
    );

  const own = options.fineTuned ? await fineTuned(options, source) : undefined;
  const { selectors, keeps } = options;
  const study = new SelectorStudy({
    ...{ classifier, ranker, mae, selectors, keeps, seed },
    ...{ reference: 'ranker', many: false, unseen: [], curveSteps: 0 },
    classifierOf: (name, keep) => own?.get(ownKey(name, keep)) ?? classifier,
  });
  const { size, photographs } = options;
  // Imagenette's are squares already.
  const fit = photographs === undefined ? 'crop' : 'stretch';
  const batchSize = 16;
  for (let first = 0; first < paths.length; first += batchSize) {
    const some = paths.slice(first, first + batchSize);
    const images = await batchOf(some, { size, patch: patchSize, fit });
    await study.add(
      images,
      some.map((path) => pictures.labels.get(path) as number),
    );
    say(`${study.pictures} of ${paths.length} pictures`);
  }
  const results: ClassifyResults = {
    ...provenance(args),
    of: pictures.name,
    pictures: paths.map((path) => basename(path)),
    training,
    fineTuned: options.fineTuned,
    classifier: { source, digest: await modelDigest(source), config: classifier.config },
    keeps,
    ...(await study.results()),
  };
  const { command, processor, date } = results;
  writeResults(options.out, 'classify', results, classifyMarkdown(results), {
    'classify.html': curvePage({
      ...{ results, keeps, reference: 'ranker' },
      about: `${paths.length} pictures of ${pictures.name}`,
      source: `${command}, ${processor}, ${date}.`,
    }),
  });
});

type Asked = ReturnType<typeof readOptions>;
type Options = Asked & { pictures: Pictures };

/** A classifier for each selector and share; with all patches there is nothing to select. */
async function fineTuned(
  options: Options,
  classifier: string,
): Promise<Map<string, VisionTransformer>> {
  const found = new Map<string, VisionTransformer>();
  for (const keep of options.keeps) {
    for (const name of options.selectors) {
      if (found.has(ownKey(name, keep))) continue;
      const { none, mae, ranker } = { none: undefined, ...options };
      const model = { none, mae, ranker, classifier }[askedModels[name]];
      const { folder } = trained(options, [
        ...(keep === 1 ? allPatches : ['--keep', String(keep), '--selector', name]),
        ...(model === undefined || keep === 1 ? [] : ['--selector-model', model]),
      ]);
      found.set(ownKey(name, keep), await VisionTransformer.load(folder));
    }
  }
  return found;
}

/** Trains a classifier, or goes on where that stopped. */
function trained(
  { pictures, epochs, seed, size, init, training }: Options,
  keep: readonly string[],
): { folder: string; command: string } {
  return trainClassifier(
    ['--data', pictures.training],
    [
      ...['--init', init, '--image-size', String(size), '--epochs', String(epochs)],
      ...['--seed', String(seed), ...training.split(/\s+/).filter((word) => word !== '')],
      ...keep,
    ],
    pictures.about,
  );
}

/** Folders of classes to train on, and the labelled pictures that are classified. */
interface Pictures {
  /** For people. */
  name: string;
  /** What tells trainings apart whose other arguments are the same. */
  about: string;
  training: string;
  /** Names, in the order of the logits. */
  classes: readonly string[];
  /** The class of each picture, by its path. */
  labels: ReadonlyMap<string, number>;
}

async function picturesOf({
  photographs,
  data = '',
  val = '',
  part,
  init,
}: Asked): Promise<Pictures> {
  const training = photographs === undefined ? data : join(photographs, 'imagenette', 'train');
  for (const folder of photographs === undefined ? [data, val] : [training])
    if (!existsSync(folder)) throw new UsageError(`there is no folder ${folder}`);
  const dataset = await Dataset.open([training]);
  const { classes } = await foldersAsLabels(dataset);
  const about = `${dataset.digest} ${await modelDigest(resolveModel(init, 'mae'))}`;
  if (photographs !== undefined) {
    const all = photographsOf(photographs, 'imagenette/val', part);
    const labels = new Map(all.map((path) => [path, classes.indexOf(basename(dirname(path)))]));
    return { name: `imagenette, ${part} part`, about, training, classes, labels };
  }
  const shown = await Dataset.open([val]);
  const { ofFiles } = await foldersAsLabels(shown, classes);
  const labels = new Map(shown.files.map((path, i) => [path, ofFiles[i]?.label ?? -1]));
  return { name: basename(val), about, training, classes, labels };
}

async function batchOf(
  paths: readonly string[],
  as: Parameters<typeof readPicture>[1],
): Promise<PixelBatch> {
  const { size } = as;
  const pictures = await Promise.all(paths.map((path) => readPicture(path, as)));
  const data = Buffer.concat(pictures.map(({ pixels }) => pixels));
  return { data, shape: [paths.length, size, size, 3] };
}

function readOptions(args: readonly string[]) {
  const values = parse(args, {
    classify: { type: 'boolean' },
    photographs: { type: 'string' },
    data: { type: 'string' },
    val: { type: 'string' },
    training: { type: 'string', default: smallRecipe.join(' ') },
    classifier: { type: 'string' },
    'fine-tuned': { type: 'boolean', default: false },
    epochs: { type: 'string', default: '30' },
    seed: { type: 'string', default: '0' },
    'image-size': { type: 'string', default: '128' },
    ranker: { type: 'string', default: 'tiny' },
    mae: { type: 'string', default: 'tiny' },
    init: { type: 'string' },
    selectors: { type: 'string' },
    keep: { type: 'string' },
    pictures: { type: 'string' },
    part: { type: 'string', default: 'test' },
    out: { type: 'string', default: join(evaluateCache(), 'classify') },
  });
  const { photographs, data, val, classifier, 'fine-tuned': fineTuned } = values;
  const { training, ranker, mae, pictures, out } = values;
  const { init = mae } = values;
  const part = choice('part', values.part, ['test', 'validation'] as const);
  const isLayout = photographs !== undefined;
  if ([data, val].some((folder) => (folder === undefined) !== isLayout))
    throw new UsageError('--photographs needs a folder, or --data and --val one each');
  const chosen =
    values.selectors ?? (fineTuned ? 'ranker,random,variance,cls-attention' : selectorNames.join());
  const shares = values.keep ?? (fineTuned ? '25%,50%,100%' : '10%,25%,50%,75%,100%');
  const keeps = listed(shares, shareOf);
  if (!keeps.every((keep) => keep > 0 && keep <= 1))
    throw new UsageError(`--keep must be shares such as 25%,50%; not ${shares}`);
  return {
    ...{ photographs, data, val, part, classifier, fineTuned, training },
    ...{ ranker, mae, init, keeps, out },
    epochs: integer('epochs', values.epochs, 1),
    seed: integer('seed', values.seed, 0),
    size: integer('image-size', values['image-size'], 16),
    selectors: listed(chosen, (name) => choice('selectors', name, selectorNames)),
    most: pictures === undefined ? Infinity : integer('pictures', pictures, 1),
  };
}
