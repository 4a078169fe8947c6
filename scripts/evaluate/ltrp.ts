/** The command line, from its sources. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../../bench/command-line.js';
import { say } from './command.js';

/** Prints and runs `ltrp` with these arguments; what it says goes to the terminal. */
export function ltrp(args: readonly string[]): void {
  const program = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url));
  say(`ltrp ${args.map(quoted).join(' ')}`);
  const { status, signal } = spawnSync(process.execPath, ['--import=tsx', program, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new UsageError(`ltrp ${args[0] ?? ''} ended with ${signal ?? status}`);
}

/** For a shell. */
const quoted = (word: string): string =>
  /^[\w./,:%=@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
