/** The command's messages name its options: what the library and the core call otherwise is translated in one place. */
import type { Command, Option } from 'commander';
import test from 'ava';
import { inOptions, useOptionsOf } from '../lib/cli/option-names.js';
import { buildProgram } from '../lib/cli/program.js';
import { ltrp } from './support/command.js';
import { temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';
import { join } from 'node:path';

const leaves = (command: Command): Command[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
const commands = leaves(buildProgram());
const command = (name: string): Command => {
  const found = commands.find((each) => each.name() === name);
  if (found === undefined) throw new Error(`no command ${name}`);
  return found;
};

test.serial(
  'every option of every command: its argument of the library becomes the option',
  (t) => {
    let count = 0;
    for (const each of commands) {
      useOptionsOf(each);
      for (const option of each.options as Option[]) {
        const { long } = option;
        if (long == null || option.negate) continue;
        const name = option.attributeName();
        t.is(
          inOptions(`${name} must be right, not 7.`),
          `${long} must be right, not 7.`,
          each.name(),
        );
        t.is(inOptions(`options.${name} must be right.`), `${long} must be right.`, each.name());
        if (/[A-Z]/.test(name)) {
          t.is(inOptions(`Lower ${name}, or give less.`), `Lower ${long}, or give less.`);
          t.is(
            inOptions(`There is no image a/${name}/b.jpg.`),
            `There is no image a/${name}/b.jpg.`,
          );
          t.is(inOptions(`There is no image '${name}'.`), `There is no image '${name}'.`);
          t.is(inOptions(`There is no image ${name}.jpg.`), `There is no image ${name}.jpg.`);
        }
        count++;
      }
    }
    t.true(count > 100, String(count));
  },
);

test.serial('names that are not derived, and only where there is such an option', (t) => {
  useOptionsOf(command('pretrain'));
  for (const [said, becomes] of [
    [
      'image_height must be a multiple of the patch size 16, not 225.',
      'the height in --image-size must be a multiple of the patch size 16, not 225.',
    ],
    [
      'options.model.imageWidth must be in [1, 65536]; got 0.',
      'the width in --image-size must be in [1, 65536]; got 0.',
    ],
    ['encoder.dim must be a multiple of 4.', '--dim must be a multiple of 4.'],
    ['options.model.encoder.mlpDim must be 1.', '--mlp-dim must be 1.'],
    ['decoder.heads must be 1.', '--decoder-heads must be 1.'],
    [
      'microBatchSize must be in [1, 64]; got 65.',
      '--micro-batch-size must be in [1, 64]; got 65.',
    ],
    ['warmupSteps must be in [0, 9]; got 10.', '--warmup must be in [0, 9]; got 10.'],
    [
      'The model has 3 heads; steps and data are fine.',
      'The model has 3 heads; steps and data are fine.',
    ],
    ['keepRatio must be in (0, 1].', 'keepRatio must be in (0, 1].'],
  ] as const) {
    t.is(inOptions(said), becomes);
  }
  useOptionsOf(command('rank'));
  for (const [said, becomes] of [
    ['keepRatio must be in (0, 1].', '--keep must be in (0, 1].'],
    ['patches and grid are not for this ranker.', '--patches and --grid are not for this ranker.'],
    ["device 'cuda' is not available: none.", "--device 'cuda' is not available: none."],
    ['The libtorch option does not lead to one.', '--libtorch does not lead to one.'],
    ['keep must not exceed 4.', '--keep must not exceed 4.'],
    ['memoryBudget must be positive.', 'memoryBudget must be positive.'],
    [
      'Files of a model are large; device memory is not.',
      'Files of a model are large; device memory is not.',
    ],
  ] as const) {
    t.is(inOptions(said), becomes);
  }
  useOptionsOf(command('convert'));
  t.is(
    inOptions('x exists already; choose another name, or replace it with overwrite: true.'),
    'x exists already; choose another name, or replace it with --force.',
  );
});

/** Words of the API and the core that no message of the command may have. */
const leaks = /\b(?:[a-z]+[A-Z]\w*|[a-z]+_[a-z_]+|options\.\w+)\b/;

test('refusals that only the library and the core know name options that exist', async (t) => {
  const folder = await temporaryFolder(t);
  const image = join(folder, 'a.png');
  await picture(64, 64).png().toFile(image);
  const once = ['--steps', '1', '--batch-size', '1'];
  const pretrain = ['pretrain', '--data', image, '--out', join(folder, 'run'), ...once];
  for (const [args, why] of [
    [[...pretrain, '--image-size', '225'], /^ltrp: the height in --image-size must be a multiple/],
    [[...pretrain, '--image-size', '224x100'], /^ltrp: the width in --image-size must be/],
    [[...pretrain, '--dim', '50', '--heads', '1'], /^ltrp: --dim must be a multiple of 4/],
    [[...pretrain, '--decoder-heads', '7'], /^ltrp: --decoder-dim must be a multiple/],
    [[...pretrain, '--depth', '5000'], /^ltrp: --depth must be/],
    [[...pretrain, '--beta1', '1'], /^ltrp: --beta1 must be in \[0, 1\)/],
    [['rank', image, '--device', 'tpu', '--json'], /^ltrp: --device must be one of/],
    [
      ['rank', image, '--libtorch', join(folder, 'none'), '--json'],
      /^ltrp: --libtorch does not lead/,
    ],
  ] as const) {
    const { code, stderr } = await ltrp(args);
    const line = stderr.trim().split('\n').at(-1) ?? '';
    t.regex(line, why);
    t.is(code, args[0] === 'rank' && args[2] === '--libtorch' ? 1 : 2);
    t.notRegex(line.replaceAll(folder, ''), leaks);
    const known = new Set(command(args[0]).options.map(({ long }) => long));
    for (const [option] of line.matchAll(/--[a-z][a-z0-9-]*/g)) t.true(known.has(option), option);
  }
});
