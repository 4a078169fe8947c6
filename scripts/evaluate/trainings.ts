/** Trains the encoder and the classifiers of the evaluation into the user's cache. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Dataset } from '../../lib/data/dataset.js';
import { ltrp } from './ltrp.js';
import { evaluateCache } from './teacher-maps.js';

/** Milder than MAE's recipe, which is for encoders that were pre-trained for long. */
const recipe = (dropPath: string, cropScale: string): string[] => [
  ...['--batch-size', '64', '--learning-rate', '1e-3', '--layer-decay', '1'],
  ...['--drop-path', dropPath, '--rand-augment', '0', '--erase', '0', '--crop-scale', cropScale],
  ...['--precision', 'bfloat16'],
];
/** For classifiers that begin from a small encoder, and for few epochs. */
export const smallRecipe = recipe('0', '0.35,1');

/** The same for many epochs, against learning the pictures by heart. */
const longRecipe = [...recipe('0.05', '0.25,1'), '--mixup', '0.2'];

/** One classifier for all selectors. */
export const randomShares = ['--keep', '50%', '--keep-random', '10%,100%', '--selector', 'random'];
/** A classifier of whole pictures. */
export const allPatches = ['--keep', '1', '--selector', 'random'];

/**
 * `ltrp finetune` with these arguments; goes on where it stopped, and does nothing once it is done.
 *
 * @param data - where the pictures are, which does not tell runs apart; `about` them does.
 * @returns the run's folder, and what was called.
 */
export const trainClassifier = (
  data: readonly string[],
  settings: readonly string[],
  about = '',
): Trained => trained('classifier', ['finetune', ...data], settings, about);

/**
 * What the evaluation of its whole protocol begins from: an encoder that saw 1.6 million crops of these pictures, and a classifier of
 * smaller pictures that begins from it.
 */
export async function trainStart(
  photographs: string,
  seed: string,
): Promise<{ encoder: string; classifier: string }> {
  const classes = join(photographs, 'imagenette', 'train');
  const sources = [classes, join(photographs, 'in1k'), join(photographs, 'food')];
  const encoder = trained(
    'encoder',
    ['pretrain', '--data', ...sources],
    [
      ...['--init', 'tiny', '--image-size', '128', '--target', 'normalized', '--seed', seed],
      ...['--steps', '25000', '--schedule', 'wsd', '--decay', '4000', '--warmup', '200'],
      ...['--decode-size', '224', '--micro-batch-size', '64', '--precision', 'bfloat16'],
    ],
    (await Dataset.open(sources)).digest,
  ).folder;
  const classifier = trainClassifier(
    ['--data', classes],
    [
      ...['--init', encoder, '--image-size', '128', '--epochs', '100', '--seed', seed],
      ...longRecipe,
    ],
    (await Dataset.open([classes])).digest,
  ).folder;
  return { encoder, classifier };
}

/** A run's folder, and what was called. */
interface Trained {
  folder: string;
  command: string;
}

function trained(
  kind: string,
  words: readonly string[],
  settings: readonly string[],
  about: string,
): Trained {
  const digest = createHash('sha256')
    .update([...settings, about].join(' '))
    .digest('hex')
    .slice(0, 12);
  const folder = join(evaluateCache(), `${kind}-${digest}`);
  const command = [...words, ...settings];
  ltrp([...command, '--out', folder, '--resume', '--export-type', 'float32']);
  return { folder, command: `ltrp ${command.join(' ')}` };
}
