/** Fine-tunes the classifiers of the evaluation into the user's cache. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ltrp } from './ltrp.js';
import { evaluateCache } from './teacher-maps.js';

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
