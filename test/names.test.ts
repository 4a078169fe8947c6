/** The words of every enumeration have one table in the core: types, choices of the command and documents are compared with it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import test from 'ava';
import { buildProgram } from '../lib/cli/program.js';
import {
  labelKinds,
  modelKinds,
  poolings,
  rankerInputs,
  rankerStarts,
  rankerTargets,
  reductions,
  schedules,
  trainingPrecisions,
} from '../lib/native/binding.js';
import { loadCore } from '../lib/native/loader.js';
import { selectorNames } from '../lib/selectors.js';
import {
  cropRoundings,
  drops,
  heads,
  lossNames,
  metrics,
  precisions,
  priors,
  squeezeFills,
  squeezeFormats,
  storedTypes,
} from '../lib/types.js';
import { repository } from './support/paths.js';

/** What the types are checked against by the compiler. */
const typed: Record<string, readonly string[]> = {
  precision: precisions,
  drop: drops,
  metric: metrics,
  loss: lossNames,
  head: heads,
  mode: ['default', 'compat'],
  prior: priors,
  type: storedTypes,
  rounding: cropRoundings,
  kind: modelKinds,
  pooling: poolings,
  labels: labelKinds,
  selector: selectorNames,
  trainingPrecision: trainingPrecisions,
  schedule: schedules,
  input: rankerInputs,
  start: rankerStarts,
  targets: rankerTargets,
  reduction: reductions,
};

/** Choices of options of the command that are called otherwise, or that have other words in one command. */
const named: Record<string, string> = {
  exportType: 'type',
  'train precision': 'trainingPrecision',
};
named['pretrain precision'] = 'trainingPrecision';
named['finetune precision'] = 'trainingPrecision';

test('types have the words that the core has', async (t) => {
  const { names } = (await loadCore({})).info();
  t.deepEqual(names, typed);
});

test('so have the choices of the command', (t) => {
  const leaves = (command: Command): Command[] =>
    command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
  const all: typeof typed = { ...typed, fill: squeezeFills };
  let compared = 0;
  for (const command of leaves(buildProgram())) {
    for (const option of command.options) {
      const name = option.attributeName();
      const words = all[named[`${command.name()} ${name}`] ?? named[name] ?? name];
      if (words === undefined || option.argChoices === undefined) continue;
      t.deepEqual(option.argChoices, words, `${command.name()} ${name}`);
      compared++;
    }
  }
  t.true(compared >= 14, String(compared));
});

test('the method names every loss, metric and place of removal', async (t) => {
  const text = await readFile(join(repository, 'docs', 'method.md'), 'utf8');
  for (const word of [...drops, ...metrics, ...lossNames, ...priors, ...selectorNames])
    t.true(text.includes(`\`${word}\``), word);
});

test('docs/serve.md has the defaults of the command', async (t) => {
  const text = await readFile(join(repository, 'docs', 'serve.md'), 'utf8');
  const serve = buildProgram().commands.find((command) => command.name() === 'serve')!;
  const found = [...text.matchAll(/`(--[\w-]+)`[a-z ]*\((\d+)/g)];
  t.true(found.length >= 6, String(found.length));
  for (const [, flag, value] of found) {
    const option = serve.options.find(({ long }) => long === flag);
    t.is(option?.defaultValue, Number(value), flag);
  }
});

test('squeezing names its fills and formats', async (t) => {
  const text = await readFile(join(repository, 'docs', 'squeeze.md'), 'utf8');
  for (const word of squeezeFills) t.true(text.includes(`\`${word}\``), word);
  for (const word of squeezeFormats) t.true(text.toLowerCase().includes(word), word);
});
