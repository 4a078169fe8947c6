/** Fine-tunes the classifiers of the evaluation into the user's cache. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ltrp } from './ltrp.js';
import { evaluateCache } from './teacher-maps.js';

/** For classifiers that begin from a small encoder: milder than MAE's, which is for encoders that were pre-trained for long. */
export const smallRecipe = [
  ...['--batch-size', '64', '--learning-rate', '1e-3', '--layer-decay', '1', '--drop-path', '0'],
  ...['--rand-augment', '0', '--erase', '0', '--crop-scale', '0.35,1', '--precision', 'bfloat16'],
];

/** One classifier for all selectors. */
export const randomShares = ['--keep', '50%', '--keep-random', '10%,100%', '--selector', 'random'];

/**
 * `ltrp finetune` with these arguments; goes on where it stopped, and does nothing once it is done.
 *
 * @param data - where the pictures are, which does not tell runs apart; `about` them does.
 * @returns the run's folder, and what was called.
 */
export function trainClassifier(
  data: readonly string[],
  settings: readonly string[],
  about = '',
): { folder: string; command: string } {
  const digest = createHash('sha256')
    .update([...settings, about].join(' '))
    .digest('hex')
    .slice(0, 12);
  const folder = join(evaluateCache(), `classifier-${digest}`);
  const command = ['finetune', ...data, ...settings];
  ltrp([...command, '--out', folder, '--resume', '--export-type', 'float32']);
  return { folder, command: `ltrp ${command.join(' ')}` };
}
