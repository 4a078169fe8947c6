/**
 * `npm run evaluate -- --unlabelled`: do selectors keep objects of categories that nobody labelled? On composite scenes with nine
 * categories, of which a supervised classifier learns six.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import {
  MaskedAutoencoder,
  meanAveragePrecision,
  PatchRanker,
  selectors,
  VisionTransformer,
  type SelectorName,
} from '../../lib/index.js';
import { askedModels, descending, type AskedModel } from '../../lib/evaluation/asked.js';
import { pixelsPerPatch } from '../../lib/evaluation/masks.js';
import { instanceRecall } from '../../lib/evaluation/recall.js';
import { modelDigest } from '../../lib/file-digest.js';
import { resolveModel } from '../../lib/models.js';
import { selectorNames } from '../../lib/selectors.js';
import { shareOf } from '../../lib/share.js';
import { integer, parse, program, UsageError } from '../../bench/command-line.js';
import { makeScenes, readScenes, type Scene } from '../photos/scenes.mjs';
import { checkPatchSizes, provenance, say, writeResults } from './command.js';
import { Table } from './table.js';
import { evaluateCache } from './teacher-maps.js';
import { trainClassifier } from './trainings.js';
import { measures, unlabelledMarkdown, type UnlabelledResults } from './unlabelled-table.js';

const help = `npm run evaluate -- --unlabelled [options]

Makes composite scenes (after npm run photos), fine-tunes a classifier of many labels on the categories that are not hidden, and
prints the share of each object's pixels that selectors keep: of objects whose category was labelled, and of those that are hidden.
A classifier's own attention is a supervised selector; the ranker and the masked autoencoder have seen no labels at all. Writes
unlabelled.json and unlabelled.md.

  --hidden <list>      categories without labels (default fish,mammal,vehicle: every third)
  --classifier <file>  one that is there already, with pooling 'cls': nothing is trained
  --train <n>          scenes of its training (default 4000)
  --epochs <n>         of its training (default 12)
  --seed <n>           of its training and of the selectors (default 0)
  --image-size <n>     pixels a side (default 160)
  --scenes <n>         of the test (default 600)
  --keep <share>       of the patches (default 25%)
  --ranker <file>      default 'tiny'
  --mae <file>         also what training begins from; default 'tiny'
  --teacher            measures the teacher, too: minutes to hours
  --out <folder>       default: evaluate/unlabelled in the user's cache
`;

/** What is measured: a row's name, the selector and the model that it asks. Some can ask two. */
const rows = selectorNames.flatMap((name): (readonly [string, SelectorName, AskedModel])[] =>
  name === 'rollout' || name === 'tome'
    ? [
        [`${name}, autoencoder`, name, 'mae'],
        [`${name}, classifier`, name, 'classifier'],
      ]
    : [[name, name, askedModels[name]]],
);

type Options = ReturnType<typeof readOptions>;

await program('evaluate', help, async (args) => {
  const options = readOptions(args);
  const { size, seed, keep, hidden } = options;
  const scenes = readScenes(
    await makeScenes({ split: 'test', size, count: options.scenes }),
    options.scenes,
  );
  // Before hours of training: models that will not do are refused now.
  await using ranker = await PatchRanker.load(options.ranker);
  await using mae = await MaskedAutoencoder.load(options.mae);
  const patch = mae.config.patchSize;
  checkPatchSizes(patch, { '--ranker': ranker });
  const training =
    options.classifier === undefined
      ? await trained(options)
      : { folder: options.classifier, command: null };
  await using classifier = await VisionTransformer.load(training.folder);
  const models = { none: classifier, classifier, ranker, mae };
  checkPatchSizes(patch, { '--classifier': classifier });
  const patches = (size / patch) ** 2;
  const count = Math.max(1, Math.round(keep * patches));
  const measured = rows.filter(([name]) => name !== 'teacher' || options.teacher);
  const table = new Table('scenes');
  const classes = classesOf(training.folder);
  const logits: number[] = [];
  const batch = 16;
  for (let first = 0; first < scenes.length; first += batch) {
    const some = scenes.slice(first, first + batch);
    const pixels = some.map(({ image }) => sharp(image).removeAlpha().raw().toBuffer());
    const data = Buffer.concat(await Promise.all(pixels));
    const objects = await Promise.all(some.map((scene) => objectsOf(scene, size, patch)));
    const images = { data, shape: [some.length, size, size, 3] as const };
    logits.push(...(await classifier.classify(images)).logits);
    for (const [row, name, model] of measured) {
      const { scores } = await selectors[name].score(images, {
        ...{ model: models[model], keep: count, seed: seed + first },
      });
      for (const [i, each] of objects.entries()) {
        const kept = descending(scores.subarray(i * patches, (i + 1) * patches)).slice(0, count);
        for (const measure of measures) {
          const of = each.filter(
            ({ category }) => hidden.includes(category) === (measure === 'hidden'),
          );
          const counts = of.map(({ pixels }) => pixels);
          const cell = { measure, selector: 'top-k', keep, row };
          table.add(cell, instanceRecall({ each: counts }, kept));
        }
      }
    }
    say(`${first + some.length} of ${scenes.length} scenes`);
  }
  const results: UnlabelledResults = {
    ...provenance(args),
    training: training.command,
    precision: await precisionOf(logits, scenes, classes),
    scenes: scenes.length,
    ...{ size, patch, keep, hidden },
    supervised: measured.flatMap(([row, , model]) => (model === 'classifier' ? [row] : [])),
    figures: table.figures(),
    differences: table.differences(['ranker']),
    gaps: Object.fromEntries(
      measured.map(([row]) => {
        const terms = (of: string, sign: number) =>
          (['hidden', 'labelled'] as const).map((measure) => ({
            cell: { measure, selector: 'top-k', keep, row: of },
            factor: measure === 'hidden' ? sign : -sign,
          }));
        const own = table.sum(terms(row, 1));
        return [row, { own, more: table.sum([...terms(row, 1), ...terms('ranker', -1)]) }];
      }),
    ),
  };
  writeResults(options.out, 'unlabelled', results, unlabelledMarkdown(results));
});

/** Names of the logits; none where a file alone was given. */
function classesOf(run: string): string[] {
  const file = join(run, 'classes.txt');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
}

/** The classifier's own mean average precision; null where nobody knows what its logits are of. */
async function precisionOf(
  logits: readonly number[],
  scenes: readonly Scene[],
  classes: readonly string[],
): Promise<number | null> {
  if (classes.length === 0) return null;
  const targets = scenes.flatMap(({ categories }) =>
    classes.map((name) => (categories.includes(name) ? 1 : 0)),
  );
  const shape = [scenes.length, classes.length] as const;
  const found = await meanAveragePrecision(
    Float32Array.from(logits),
    Float32Array.from(targets),
    shape,
  );
  return found.mean;
}

/** Pixels of each object in each patch; of those that are to be seen. */
async function objectsOf(
  { mask, categories }: Scene,
  size: number,
  patch: number,
): Promise<{ category: string; pixels: Float64Array }[]> {
  const values = await sharp(mask).extractChannel(0).raw().toBuffer();
  return categories
    .map((category, k) => ({
      category,
      pixels: pixelsPerPatch(
        Uint8Array.from(values, (value) => (value === k + 1 ? 1 : 0)),
        size,
        patch,
      ),
    }))
    .filter(({ pixels }) => pixels.some((value) => value > 0));
}

/** A classifier with a CLS head, whose attention selectors can read. */
async function trained(options: Options): Promise<{ folder: string; command: string }> {
  const { size, train, epochs, seed, mae, hidden } = options;
  const folder = await makeScenes({ split: 'train', size, count: train });
  const scenes = readScenes(folder, train);
  const all = [...new Set(scenes.flatMap(({ categories }) => categories))].sort();
  const unknown = hidden.find((name) => !all.includes(name));
  if (unknown !== undefined)
    throw new UsageError(`--hidden has ${unknown}; there are ${all.join(', ')}`);
  const labels = join(evaluateCache(), 'unlabelled');
  mkdirSync(labels, { recursive: true });
  const lines = scenes.map(({ image, categories }) => [image, ...categories].join('\t'));
  writeFileSync(join(labels, 'scenes.tsv'), `${lines.join('\n')}\n`);
  const labelled = all.filter((name) => !hidden.includes(name));
  writeFileSync(join(labels, 'labelled.txt'), `${labelled.join('\n')}\n`);
  writeFileSync(join(labels, 'scenes.txt'), `${scenes.map(({ image }) => image).join('\n')}\n`);
  return trainClassifier(
    [
      ...['--data', join(labels, 'scenes.txt'), '--labels', join(labels, 'scenes.tsv')],
      ...['--categories', join(labels, 'labelled.txt')],
    ],
    [
      ...['--init', mae, '--pooling', 'cls', '--image-size', String(size), '--seed', String(seed)],
      ...['--epochs', String(epochs), '--batch-size', '64', '--learning-rate', '1e-3'],
      ...['--rand-augment', '0', '--erase', '0'],
    ],
    `${train} ${labelled.join()} ${await modelDigest(resolveModel(mae, 'mae'))}`,
  );
}

function readOptions(args: readonly string[]) {
  const values = parse(args, {
    unlabelled: { type: 'boolean' },
    hidden: { type: 'string', default: 'fish,mammal,vehicle' },
    classifier: { type: 'string' },
    train: { type: 'string', default: '4000' },
    epochs: { type: 'string', default: '12' },
    seed: { type: 'string', default: '0' },
    'image-size': { type: 'string', default: '160' },
    scenes: { type: 'string', default: '600' },
    keep: { type: 'string', default: '25%' },
    ranker: { type: 'string', default: 'tiny' },
    mae: { type: 'string', default: 'tiny' },
    teacher: { type: 'boolean', default: false },
    out: { type: 'string', default: join(evaluateCache(), 'unlabelled') },
  });
  const { classifier, ranker, mae, teacher, out } = values;
  const keep = shareOf(values.keep);
  if (!(keep > 0 && keep <= 1))
    throw new UsageError(`--keep must be a share such as 25%; not ${values.keep}`);
  return {
    ...{ classifier, keep, ranker, mae, teacher, out },
    hidden: values.hidden.split(','),
    train: integer('train', values.train, 0),
    epochs: integer('epochs', values.epochs, 0),
    seed: integer('seed', values.seed, 0),
    size: integer('image-size', values['image-size'], 0),
    scenes: integer('scenes', values.scenes, 0),
  };
}
