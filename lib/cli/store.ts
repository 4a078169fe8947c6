/** `ltrp store verify`: whether the results of `--store` are whole. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ResultStore } from '../store/manifest.js';
import { exitCodes } from './exit-codes.js';
import { printable, shortPath } from './image-arguments.js';
import { complain } from './image-command.js';
import { interruptSignal } from './interrupt.js';
import { option, parseName } from './options.js';

export function register(program: Command): void {
  program
    .command('store')
    .description('check or merge the results that ltrp rank --store and ltrp score --parts write')
    .command('verify')
    .description(
      'Reads every part and checks that it is present, complete, of this store, and has each picture once.',
    )
    .argument('<folder>', 'the folder of --store', parseName)
    .addOption(
      option(
        '--merge <file>',
        'if all parts are good, write all rows to one Parquet file',
      ).argParser(parseName),
    )
    .option('--json', 'print the verdict as JSON on standard output')
    .addHelpText(
      'after',
      `
Exit codes:
  0    all parts are there and good
  1    parts are missing or damaged (standard error names each), or the folder cannot be read
  2    the command line is wrong

Examples:
  ltrp store verify ranks
  ltrp store verify ranks --merge ranks.parquet`,
    )
    .action(async (folder: string, { merge, json }: { merge?: string; json?: true }) => {
      process.exitCode = await verify(folder, merge, json === true);
    });
}

async function verify(folder: string, merge: string | undefined, json: boolean): Promise<number> {
  const { mergeStore, verifyStore } = await import('../store/verify.js');
  const store = await ResultStore.open(resolve(folder));
  const signal = interruptSignal();
  const verdict = await (merge === undefined
    ? verifyStore(store, signal)
    : mergeStore(store, resolve(merge), signal));
  const { parts, images, unreadable, missing, damaged } = verdict;
  for (const file of missing) complain(printable(`${file} is missing`));
  for (const { file, why } of damaged) {
    complain(printable(`${file} is damaged: ${why}; remove it and write that part again`));
  }
  const good = parts - missing.length - damaged.length;
  if (json) process.stdout.write(`${JSON.stringify({ store: store.path, ...verdict })}\n`);
  else {
    const problems = unreadable > 0 ? `, ${unreadable} of them unreadable` : '';
    process.stdout.write(`${good} of ${parts} parts are good: ${images} images${problems}\n`);
    if (good === parts && merge !== undefined)
      process.stdout.write(`merged: ${shortPath(merge)}\n`);
  }
  return good === parts ? exitCodes.ok : exitCodes.failed;
}
