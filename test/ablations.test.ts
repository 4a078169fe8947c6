/** `npm run ablations`: a finished row is never computed again, and rows differ in what they say alone. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import sharp from 'sharp';
import { readOptions } from '../scripts/ablations/options.js';
import { resultsOf, type Results } from '../scripts/ablations/report.js';
import { mapBase, rankerBase, rows } from '../scripts/ablations/rows.js';
import type { Found } from '../scripts/ablations/study.js';
import { UsageError } from '../bench/command-line.js';
import { partOf } from '../scripts/evaluate/parts.js';
import { drops, lossNames, metrics } from '../lib/types.js';
import { repository, temporaryFolder } from './support/paths.js';

test('rows: every metric, drop and loss, and one thing at a time', (t) => {
  t.is(new Set(rows.map(({ name }) => name)).size, rows.length);
  for (const { name, half, settings, change } of rows) {
    const base = half === 'maps' ? mapBase : rankerBase;
    const changed = Object.keys(base).filter(
      (key) => settings[key as keyof typeof settings] !== base[key as never],
    );
    t.deepEqual(changed.sort(), Object.keys(change).sort(), name);
    // focusedRank has no default k, and the paper's definition is three things.
    const things = { 'ranker/loss-focusedRank': 2, 'maps/paper': 3 }[name] ?? 1;
    t.is(changed.length, name.endsWith('/base') ? 0 : things, name);
  }
  const all = (half: string, key: string) =>
    new Set(
      rows.flatMap((row) => (row.half === half ? [row.settings[key as never] as string] : [])),
    );
  t.deepEqual(all('maps', 'metric'), new Set([mapBase.metric, ...metrics]));
  t.deepEqual(all('maps', 'drop'), new Set(drops));
  t.deepEqual([...all('maps', 'rounds')].sort(), [1, 16, 2, 4, 64] as never);
  t.deepEqual([...all('maps', 'maskRatio')].sort(), [0.5, 0.75, 0.9] as never);
  t.deepEqual(all('ranker', 'loss'), new Set([rankerBase.loss, ...lossNames]));
});

test('the base is what the embedded ranker learned from', (t) => {
  const recipe = readFileSync(join(repository, 'scripts', 'train-embedded.mjs'), 'utf8');
  const { maskRatio, metric, precision } = mapBase;
  const { rounds, loss, smoothing } = rankerBase;
  t.true(
    recipe.includes(
      `--metric ${metric} --surprise --rounds ${rounds} --mask-ratio ${maskRatio} --crop-scale 0.6,1 --seed 1`,
    ),
  );
  t.regex(recipe, new RegExp(`precision: .*default: '${precision}'`));
  t.true(recipe.includes(`--loss ${loss} --smoothing ${smoothing} `));
});

test('options', (t) => {
  const names = (...only: string[]) =>
    readOptions(['--photographs', 'x', ...only.flatMap((name) => ['--only', name])]).rows.map(
      ({ name }) => name,
    );
  t.deepEqual(
    names(),
    rows.map(({ name }) => name),
  );
  t.deepEqual(names('maps/drop'), ['maps/base', 'maps/drop-encoder', 'maps/drop-both']);
  t.deepEqual(names('ranker/rounds-4', 'ranker/base'), ['ranker/base', 'ranker/rounds-4']);
  for (const [wrong, message] of [
    [[], /needs a folder/],
    [['--photographs', 'x', '--only', 'maps/round'], /no row maps\/round;/],
    [['--photographs', 'x', '--part', 'training'], /validation, test/],
    [['--photographs', 'x', '--steps', '1.5'], /must be an integer from 1/],
  ] as const) {
    t.throws(() => readOptions(wrong), { instanceOf: UsageError, message });
  }
});

test('a row of fewer pictures is compared with its base on these', (t) => {
  const found = (name: string, values: number[]): Found => ({
    row: rows.find((row) => row.name === name)!,
    about: {},
    samples: [
      {
        cell: { measure: 'object recall', selector: 'top-k', keep: 0.5, row: name },
        sample: values.map((value) => ({ value, weight: 1 })),
      },
    ],
    judged: [],
    halves: values.map(() => ({ rounds: 2, correlation: 0.5, tau: 0.25 })),
    cost: { secondsPerPicture: 1 },
  });
  const facts = { pictures: {} } as unknown as Results;
  const {
    figures,
    differences,
    rows: listed,
  } = resultsOf([found('maps/base', [0.25, 0.5, 1]), found('maps/rounds-64', [0.5, 0.75])], facts);
  t.deepEqual(
    figures.map(({ row, value }) => [row, value]),
    [
      ['maps/base', 1.75 / 3],
      ['maps/rounds-64', 0.625],
    ],
  );
  t.deepEqual(
    differences.map(({ row, minus, value, low, high }) => [row, minus.row, value, low, high]),
    [['maps/rounds-64', 'maps/base', 0.25, 0.25, 0.25]],
  );
  t.deepEqual(
    listed.map(({ pictures, reliability }) => [pictures, reliability?.whole]),
    [
      [3, 2 / 3],
      [2, 2 / 3],
    ],
  );
});

test('the same command goes on, and trainings differ in what the row says', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'out');
  await writePhotographs(folder);
  const run = async (...only: string[]) => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      ...['--import=tsx', join(repository, 'scripts', 'ablations', 'main.ts')],
      ...['--photographs', folder, '--out', out, '--maps', '2', '--steps', '2'],
      ...only.flatMap((name) => ['--only', name]),
    ]);
    t.is(readFileSync(join(out, 'results.md'), 'utf8'), stdout);
    return { stdout, stderr };
  };
  const made = () =>
    new Map(
      readdirSync(out, { recursive: true, encoding: 'utf8' })
        .filter((name) =>
          /^rows.*json$|\.f32$|model\.safetensors$|scores-\d+\.safetensors$/.test(name),
        )
        .map((name) => [name, statSync(join(out, name)).mtimeMs]),
    );

  const first = await run('ranker/loss-rankNet');
  t.regex(first.stderr, /nothing is judged/);
  t.regex(first.stderr, /2 rows, 0 of them finished/);
  const before = made();
  const second = await run('ranker/loss-rankNet', 'maps/rounds-1', 'maps/mask-ratio-0.5');
  t.regex(second.stderr, /5 rows, 2 of them finished/);
  const after = made();
  for (const [name, time] of before) t.is(after.get(name), time, name);
  const table = await run('ranker/loss-rankNet', 'maps/rounds-1', 'maps/mask-ratio-0.5');
  t.regex(table.stderr, /5 rows, 5 of them finished/);
  t.deepEqual(made(), after);
  const rowsOf = (text: string) => text.split('\n').filter((line) => line.startsWith('| '));
  t.deepEqual(rowsOf(table.stdout), rowsOf(second.stdout), 'read, not computed');

  // What was trained, by what the command itself wrote down.
  const runs = readdirSync(join(out, 'runs')).sort();
  t.is(runs.length, 2);
  const [base, rankNet] = runs.map((name) => {
    const config = JSON.parse(readFileSync(join(out, 'runs', name, 'run.json'), 'utf8')) as {
      options: { loss: string };
      data: object;
    };
    return { options: config.options, data: config.data };
  });
  t.is(rankNet?.options.loss, 'rankNet');
  t.deepEqual({ ...rankNet, options: { ...rankNet?.options, loss: 'listMle' } }, base as never);
  const results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as Results;
  t.is(results.pictures.coco, 2);
  t.is(results.maps, 2);
  const figure = (row: string) =>
    results.figures
      .filter((each) => each.row === row && each.measure === 'object recall')
      .map(({ value }) => value);
  t.deepEqual(figure('maps/base').length, 3);
  t.notDeepEqual(figure('maps/mask-ratio-0.5'), figure('maps/base'));
  const own = results.rows.find(({ row }) => row.name === 'maps/rounds-1');
  t.is(own?.reliability, null);
  t.true((own?.cost as { secondsPerPicture: number }).secondsPerPicture > 0);
});

/** Two pictures with an object, of the validation part, and two to learn from. */
async function writePhotographs(folder: string): Promise<void> {
  for (const of of ['coco', 'food']) mkdirSync(join(folder, of, 'images'), { recursive: true });
  const labelled = Array.from({ length: 99 }, (_, i) => `made-${i}.jpg`)
    .filter((name) => partOf('coco/images', name) === 'validation')
    .slice(0, 2);
  const files = [...labelled.map((name) => ['coco', name]), ['food', 'a.jpg'], ['food', 'b.jpg']];
  for (const [i, [of, name]] of files.entries()) {
    const noise = Uint8Array.from({ length: 60 * 40 * 3 }, (_, k) => (k * (7919 + i)) % 251);
    await sharp(noise, { raw: { width: 60, height: 40, channels: 3 } })
      .jpeg()
      .toFile(join(folder, of!, 'images', name!));
  }
  const instances = {
    images: labelled.map((file_name, id) => ({ id, file_name, width: 60, height: 40 })),
    annotations: labelled.map((_, image_id) => ({
      image_id,
      iscrowd: 0,
      segmentation: [[0, 0, 30, 0, 30, 20, 0, 20]],
    })),
  };
  writeFileSync(join(folder, 'coco', 'instances.json'), JSON.stringify(instances));
}
