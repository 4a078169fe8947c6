/**
 * `npm run evaluate -- --classify --photographs FOLDER`: one classifier, trained on patches chosen at random, sees what each selector
 * keeps. Trains it first where none is given.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  MaskedAutoencoder,
  PatchRanker,
  selectors,
  VisionTransformer,
  type PixelBatch,
  type SelectorName,
} from '../../lib/index.js';
import { modelDigest } from '../../lib/file-digest.js';
import { selectorNames } from '../../lib/selectors.js';
import { shareOf } from '../../lib/share.js';
import {
  allModels,
  needKeep,
  classifyMarkdown,
  type ClassifyResults,
  type Spent,
} from './classify-table.js';
import { curvePage } from './curve-page.js';
import { UsageError } from './options.js';
import { parts, photographsOf, sample, type Part } from './parts.js';
import { readPicture } from './pictures.js';
import { descending } from './recall.js';
import { Table } from './table.js';
import { evaluateCache } from './teacher-maps.js';
import { trainClassifier } from './train-classifier.js';

const help = `npm run evaluate -- --classify --photographs FOLDER [options]

How often a classifier that receives only the patches that a selector keeps is right, on imagenette/val, for every selector and
share. The classifier is fine-tuned from the embedded masked autoencoder on imagenette/train, on patches chosen at random, a share
of 10 to 100% that is drawn for each step. Writes classify.json, classify.md and classify.html; the table also goes to standard output.

  --fine-tuned         the paper's protocol: a classifier of its own for each selector and share, fine-tuned on what it keeps; the one
                       above is then what supervised selectors ask. Default --selectors ranker,random,variance,cls-attention
                       and --keep 25%,50%,100%, nine trainings
  --classifier <file>  a classifier that is there already, for the one above
  --epochs <n>         of its training (default 30)
  --seed <n>           of its training and of the selectors (default 0)
  --image-size <n>     pixels a side (default 224)
  --ranker <file>      default 'tiny'
  --mae <file>         of the selectors mae-attention, rollout and teacher, and what training begins from; default 'tiny'
  --selectors <list>   default: all
  --keep <list>        shares of the patches (default 10%,25%,50%,75%,100%)
  --pictures <n>       at most (default: all of the part)
  --part <name>        test (default; for published figures), validation (for choosing anything)
  --out <folder>       default: evaluate/classify in the user's cache
`;

interface Options {
  photographs: string;
  classifier: string | undefined;
  fineTuned: boolean;
  epochs: number;
  seed: number;
  size: number;
  ranker: string;
  mae: string;
  selectors: SelectorName[];
  keeps: number[];
  pictures: number;
  part: Part;
  out: string;
}

/** One classifier for all selectors. */
const randomShares = ['--keep', '50%', '--keep-random', '10%,100%', '--selector', 'random'];

const ownKey = (name: SelectorName, keep: number): string =>
  keep === 1 ? 'all' : `${name} ${keep}`;

const args = process.argv.slice(2);
if (args.includes('--help')) {
  process.stdout.write(help);
} else {
  try {
    await main(readOptions(args));
  } catch (error) {
    if (!(error instanceof UsageError) && (error as Error).name !== 'LtrpError') throw error;
    process.stderr.write(`evaluate: ${(error as Error).message}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}

async function main(options: Options): Promise<void> {
  const { photographs, seed } = options;
  const paths = sample(
    photographsOf(photographs, 'imagenette/val', options.part),
    options.pictures,
    'classify',
  );
  if (paths.length === 0) throw new UsageError(`${photographs} has no imagenette/val`);
  const { folder: source, command: training } =
    options.classifier === undefined
      ? trained(options, randomShares)
      : { folder: options.classifier, command: null };
  await using classifier = await VisionTransformer.load(source);
  await using ranker = await PatchRanker.load(options.ranker);
  await using mae = await MaskedAutoencoder.load(options.mae);
  const classes = classesOf(photographs);
  if (classifier.config.classes !== classes.length)
    throw new UsageError(
      `the classifier has ${classifier.config.classes} classes, the pictures have ${classes.length}`,
    );

  const own = options.fineTuned ? await fineTuned(options, source) : undefined;
  const { patchSize } = classifier.config;
  const table = new Table('imagenette');
  const calls: Record<string, number> = {};
  const spent: Spent = { classifier: {}, selectors: {} };
  const batchSize = 16;
  for (let first = 0; first < paths.length; first += batchSize) {
    const some = paths.slice(first, first + batchSize);
    const images = await batchOf(some, options.size, patchSize);
    const labels = some.map((path) => classes.indexOf(basename(dirname(path))));
    const patches = (options.size / patchSize) ** 2;
    for (const name of options.selectors) {
      const model = { none: undefined, mae, ranker, classifier }[allModels[name]];
      let scores: Float32Array | undefined;
      for (const keep of options.keeps) {
        const count = Math.max(1, Math.round(keep * patches));
        const begin = performance.now();
        if (scores === undefined || needKeep.has(name)) {
          const asked = { model: model ?? classifier, keep: count, seed: seed + first };
          ({ scores } = await selectors[name].score(images, asked));
          add(calls, name, some.length);
          add(spent.selectors, name, performance.now() - begin);
        }
        const of = scores;
        const middle = performance.now();
        const kept = Int32Array.from(
          some.flatMap((_, i) =>
            descending(of.subarray(i * patches, (i + 1) * patches)).slice(0, count),
          ),
        );
        const judge = own?.get(ownKey(name, keep)) ?? classifier;
        const { top } = await judge.classify(images, { keep: kept, topK: 1 });
        add(
          spent.classifier,
          String(keep),
          (performance.now() - middle) / paths.length / options.selectors.length,
        );
        for (const [i, label] of labels.entries()) {
          const cell = { measure: 'accuracy', selector: 'top-k', keep, row: name };
          table.add(cell, { value: top?.[i] === label ? 1 : 0, weight: 1 });
        }
      }
    }
    process.stderr.write(
      `evaluate: ${Math.min(first + batchSize, paths.length)} of ${paths.length} pictures\n`,
    );
  }
  for (const name of options.selectors)
    spent.selectors[name] = (spent.selectors[name] ?? NaN) / (calls[name] ?? NaN);
  const results: ClassifyResults = {
    command: `npm run evaluate -- ${args.join(' ')}`,
    date: new Date().toISOString().slice(0, 10),
    processor: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores`,
    part: options.part,
    pictures: paths.map((path) => basename(path)),
    training,
    fineTuned: options.fineTuned,
    classifier: { digest: await modelDigest(source), config: classifier.config },
    keeps: options.keeps,
    spent,
    figures: table.figures(),
    differences: table.differences(['ranker']),
  };
  mkdirSync(options.out, { recursive: true });
  const text = classifyMarkdown(results);
  writeFileSync(join(options.out, 'classify.json'), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(options.out, 'classify.md'), text);
  writeFileSync(join(options.out, 'classify.html'), curvePage(results));
  process.stdout.write(text);
}

function add(sums: Record<string, number>, key: string, value: number): void {
  sums[key] = (sums[key] ?? 0) + value;
}

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
      const model = { none, mae, ranker, classifier }[allModels[name]];
      const { folder } = trained(options, [
        ...['--keep', String(keep), '--selector', keep === 1 ? 'random' : name],
        ...(model === undefined || keep === 1 ? [] : ['--selector-model', model]),
      ]);
      found.set(ownKey(name, keep), await VisionTransformer.load(folder));
    }
  }
  return found;
}

/** Trains a classifier, or goes on where that stopped. */
function trained(
  { photographs, epochs, seed, size, mae }: Options,
  keep: readonly string[],
): { folder: string; command: string } {
  return trainClassifier(
    ['--data', join(photographs, 'imagenette', 'train')],
    [
      ...['--init', mae, '--image-size', String(size), '--epochs', String(epochs)],
      ...['--seed', String(seed), '--batch-size', '64', '--learning-rate', '1e-3'],
      ...keep,
    ],
  );
}

/** Names of the folders, in the order of the logits. */
function classesOf(photographs: string): string[] {
  const paths = photographsOf(photographs, 'imagenette/train', 'training');
  return [...new Set(paths.map((path) => basename(dirname(path))))].sort();
}

async function batchOf(paths: readonly string[], size: number, patch: number): Promise<PixelBatch> {
  const pictures = await Promise.all(
    paths.map((path) => readPicture(path, { size, patch, fit: 'stretch' })),
  );
  const data = new Uint8Array(paths.length * size * size * 3);
  for (const [i, { pixels }] of pictures.entries()) data.set(pixels, i * size * size * 3);
  return { data, shape: [paths.length, size, size, 3] };
}

function readOptions(given: readonly string[]): Options {
  const { values } = parse(given);
  if (values.photographs === undefined) throw new UsageError('--photographs needs a folder');
  const number = (name: string, text: string, least: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least)
      throw new UsageError(`--${name} must be an integer from ${least}, not ${text}`);
    return value;
  };
  const part = parts.find((each) => each === (values.part ?? 'test'));
  if (part === undefined || part === 'training')
    throw new UsageError(`--part must be test or validation, not ${values.part ?? ''}`);
  const own = values['fine-tuned'] ?? false;
  const names =
    values.selectors?.split(',') ??
    (own ? ['ranker', 'random', 'variance', 'cls-attention'] : [...selectorNames]);
  const unknown = names.find((name) => !(selectorNames as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new UsageError(`--selectors has ${unknown}; there are ${selectorNames.join(', ')}`);
  const shares = values.keep ?? (own ? '25%,50%,100%' : '10%,25%,50%,75%,100%');
  const keeps = shares.split(',').map(shareOf);
  if (!keeps.every((keep) => keep > 0 && keep <= 1))
    throw new UsageError(`--keep must be shares such as 25%,50%; not ${shares}`);
  return {
    photographs: values.photographs,
    classifier: values.classifier,
    fineTuned: own,
    epochs: number('epochs', values.epochs ?? '30', 1),
    seed: number('seed', values.seed ?? '0', 0),
    size: number('image-size', values['image-size'] ?? '224', 16),
    ranker: values.ranker ?? 'tiny',
    mae: values.mae ?? 'tiny',
    selectors: names as SelectorName[],
    keeps,
    pictures: values.pictures === undefined ? Infinity : number('pictures', values.pictures, 1),
    part,
    out: values.out ?? join(evaluateCache(), 'classify'),
  };
}

function parse(given: readonly string[]) {
  try {
    return parseArgs({
      args: [...given],
      options: {
        classify: { type: 'boolean' },
        photographs: { type: 'string' },
        classifier: { type: 'string' },
        'fine-tuned': { type: 'boolean' },
        epochs: { type: 'string' },
        seed: { type: 'string' },
        'image-size': { type: 'string' },
        ranker: { type: 'string' },
        mae: { type: 'string' },
        selectors: { type: 'string' },
        keep: { type: 'string' },
        pictures: { type: 'string' },
        part: { type: 'string' },
        out: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
