/**
 * `npm run evaluate -- --everything --photographs FOLDER`: the paper's whole argument at the size of a small machine, one program of
 * this folder after the other. Trainings and maps are kept in the user's cache, so the same command goes on where it ended.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { integer, parse, program, UsageError } from '../../bench/command-line.js';
import type { ClassifyResults } from './classify-table.js';
import { say } from './command.js';
import { evaluateCache } from './teacher-maps.js';
import { trainStart } from './trainings.js';

const help = `npm run evaluate -- --everything --photographs FOLDER [options]

Trains an encoder and every classifier and prints every table of docs/evidence.md, one after the other: accuracy on kept patches with
one classifier for all selectors (--classify), with one for each (--fine-tuned), labels that stay (--retention), objects that nobody
labelled (--unlabelled, after npm run photos), and the maps themselves (--photographs). Takes hours on two cores; the same command
goes on after any end.

  --seed <n>        of the trainings and of the selectors (default 0)
  --list            prints the commands and runs none
  --out <folder>    default: evaluate/everything in the user's cache
`;

await program('evaluate', help, async (args) => {
  const { photographs, seed, list, out } = readOptions(args);
  const run = list ? printCommand : runProgram;
  const folder = (name: string): string => join(out, name);
  const start = list
    ? { encoder: 'ENCODER', classifier: 'START' }
    : await trainStart(photographs, seed);
  const classify = [
    ...['--classify', '--photographs', photographs, '--seed', seed],
    ...['--mae', start.encoder, '--init', start.classifier, '--image-size', '224', '--epochs', '3'],
  ];
  run('classify', [...classify, '--out', folder('classify')]);
  run('classify', [...classify, '--fine-tuned', '--out', folder('fine-tuned')]);
  const classifier = list ? 'CLASSIFIER' : classifierOf(folder('classify'));
  run('retention', [
    ...['--retention', '--photographs', photographs, '--classifier', classifier],
    ...['--seed', seed, '--out', folder('retention')],
  ]);
  run('unlabelled', ['--unlabelled', '--seed', seed, '--out', folder('unlabelled')]);
  run('photographs', [
    ...['--photographs', photographs, '--metric', 'reach', '--surprise'],
    ...['--rounds', '2,4', '--judge-rounds', '2', '--out', folder('maps')],
  ]);
  if (!list) say(`all of it is in ${out}`);
});

function runProgram(name: string, words: readonly string[]): void {
  say(`${name}: ${words.join(' ')}`);
  const file = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const { status, signal } = spawnSync(process.execPath, ['--import=tsx', file, ...words], {
    stdio: 'inherit',
  });
  if (status !== 0)
    throw new UsageError(`${name} ended with ${signal ?? status}; the same command goes on`);
}

function printCommand(_: string, words: readonly string[]): void {
  process.stdout.write(`npm run evaluate -- ${words.join(' ')}\n`);
}

/** The one that `--classify` trained. */
function classifierOf(folder: string): string {
  const text = readFileSync(join(folder, 'classify.json'), 'utf8');
  return (JSON.parse(text) as ClassifyResults).classifier.source;
}

function readOptions(args: readonly string[]) {
  const values = parse(args, {
    everything: { type: 'boolean' },
    photographs: { type: 'string' },
    seed: { type: 'string', default: '0' },
    list: { type: 'boolean', default: false },
    out: { type: 'string', default: join(evaluateCache(), 'everything') },
  });
  const { photographs, list } = values;
  if (photographs === undefined) throw new UsageError('--photographs needs a folder');
  if (!existsSync(photographs)) throw new UsageError(`there is no folder ${photographs}`);
  return {
    ...{ photographs: resolve(photographs), list, out: resolve(values.out) },
    seed: String(integer('seed', values.seed, 0)),
  };
}
