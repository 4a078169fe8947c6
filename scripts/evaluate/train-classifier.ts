/** Fine-tunes the classifiers of the evaluation into the user's cache. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../../bench/command-line.js';
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
  const program = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url));
  const { status } = spawnSync(
    process.execPath,
    ['--import=tsx', program, ...command, '--out', folder, '--resume', '--export-type', 'float32'],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (status !== 0) throw new UsageError(`training the classifier ended with ${String(status)}`);
  return { folder, command: `ltrp ${command.join(' ')}` };
}
