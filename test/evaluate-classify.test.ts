/** `npm run evaluate -- --classify`, `--unlabelled` and `--retention`: what a classifier makes of the patches that selectors keep. */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import sharp from 'sharp';
import { classifyMarkdown, type ClassifyResults } from '../scripts/evaluate/classify-table.js';
import type { StudyFigure } from '../lib/evaluation/figures.js';
import type { SelectorName } from '../lib/index.js';
import { partOf } from '../scripts/evaluate/parts.js';
import { unlabelledMarkdown } from '../scripts/evaluate/unlabelled-table.js';
import { selectorNames } from '../lib/selectors.js';
import { ltrp } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';

const program = (name: string, ...args: string[]) =>
  promisify(execFile)(process.execPath, [
    ...['--import=tsx', join(repository, 'scripts', 'evaluate', `${name}.ts`), `--${name}`],
    ...args,
  ]);
const evaluate = (...args: string[]) => program('classify', ...args);

/** Dark and bright pictures, so that any patch tells the class. */
async function writePhotographs(folder: string, split: string, count: number): Promise<string[]> {
  const names: string[] = [];
  for (const [k, name] of ['bright', 'dark'].entries()) {
    const of = join(folder, 'imagenette', split, name);
    mkdirSync(of, { recursive: true });
    for (let i = 0; i < count; i++) {
      const data = Uint8Array.from(
        { length: 48 * 48 * 3 },
        (_, j) => 210 - 170 * k + ((j * (7919 + i)) % 29),
      );
      await sharp(data, { raw: { width: 48, height: 48, channels: 3 } })
        .jpeg()
        .toFile(join(of, `${split}-${name}-${i}.jpg`));
      names.push(`${split}-${name}-${i}.jpg`);
    }
  }
  return names;
}

test('every selector and share of a classifier that is there: accuracy, differences, a table', async (t) => {
  t.timeout(180_000);
  const folder = await temporaryFolder(t);
  await writePhotographs(folder, 'train', 6);
  const names = await writePhotographs(folder, 'val', 12);
  const trained = await ltrp([
    ...['finetune', '--data', join(folder, 'imagenette', 'train'), '--out', join(folder, 'run')],
    ...'--dim 24 --depth 3 --heads 3 --image-size 64 --batch-size 6 --steps 40 --warmup 4'.split(
      ' ',
    ),
    ...'--rand-augment 0 --threads 1 --learning-rate 3e-3'.split(' '),
  ]);
  t.is(trained.code, 0, trained.stderr);
  const given = ['--photographs', folder, '--classifier', join(folder, 'run')];
  const small = ['--image-size', '64', '--keep', '25%,100%', '--out', join(folder, 'out')];
  const { stdout } = await evaluate(...given, ...small);
  t.is(readFileSync(join(folder, 'out', 'classify.md'), 'utf8'), stdout);
  const page = readFileSync(join(folder, 'out', 'classify.html'), 'utf8');
  t.is(page.split('<polyline').length - 1, selectorNames.length);
  t.true(page.includes('<title>evit, 25% kept: 100% [100%, 100%]</title>'));
  t.false(/https?:/.test(page));
  const results = JSON.parse(
    readFileSync(join(folder, 'out', 'classify.json'), 'utf8'),
  ) as ClassifyResults;
  const expected = names.filter((name) => partOf('imagenette/val', name) === 'test');
  t.deepEqual([...results.pictures].sort(), expected.sort());
  t.is(results.figures.length, 2 * selectorNames.length);
  t.deepEqual([...new Set(results.figures.map(({ selector }) => selector))].sort(), [
    ...selectorNames,
  ]);
  for (const { selector, value, more } of results.figures) {
    t.is(value, 1, selector);
    t.is(more?.value ?? 0, 0, selector);
  }
  t.true(Object.values(results.milliseconds.selectors).every((ms) => ms >= 0));
  t.is(results.training, null);

  const classes = ['train', 'val'].map((split) => join(folder, 'imagenette', split));
  const [data = '', val = ''] = classes;
  // However deep a picture lies, the folder right below is its class.
  mkdirSync(join(val, 'bright', 'deep'));
  const moved = names.find((name) => name.includes('bright')) as string;
  renameSync(join(val, 'bright', moved), join(val, 'bright', 'deep', moved));
  await evaluate(
    ...['--data', data, '--val', val, '--classifier', join(folder, 'run'), ...small],
    ...['--selectors', 'ranker', '--training', '--batch-size 2 --learning-rate 1e-3'],
  );
  const layout = JSON.parse(
    readFileSync(join(folder, 'out', 'classify.json'), 'utf8'),
  ) as ClassifyResults;
  t.is(layout.of, 'val');
  t.deepEqual([...layout.pictures].sort(), [...names].sort());
  t.true(layout.figures.every(({ value }) => value === 1));

  for (const [args, why] of [
    [[...given, '--selectors', 'best'], /--selectors must be one of .*, not best/],
    [[...given, '--keep', '0%'], /--keep must be shares/],
    [[...given, '--part', 'training'], /--part must be one of test, validation, not training/],
    [['--photographs', join(folder, 'none')], /there is no folder .*train/],
    [['--data', join(folder, 'imagenette', 'train')], /or --data and --val one each/],
    [['--data', join(folder, 'imagenette', 'train'), '--val', join(folder, 'none')], /no folder/],
    [[...given, '--val', join(folder, 'imagenette', 'val')], /or --data and --val one each/],
  ] as const) {
    const error = await t.throwsAsync<Error & { code: number; stderr: string }>(evaluate(...args));
    t.is(error.code, 2);
    t.regex(error.stderr, why);
  }
});

test('everything: each program once, and the next ones ask the classifier that the first trains', async (t) => {
  const folder = await temporaryFolder(t);
  const { stdout } = await program('everything', '--photographs', folder, '--seed', '2', '--list');
  const lines = stdout.trim().split('\n');
  t.deepEqual(
    lines.map((line) => /--(classify|retention|unlabelled|photographs)/.exec(line)?.[1]),
    ['classify', 'classify', 'retention', 'unlabelled', 'photographs'],
  );
  t.true(lines[1]?.includes('--fine-tuned'));
  for (const line of lines.slice(0, 2)) t.true(line.includes('--mae ENCODER --init START'));
  t.true(lines[2]?.includes('--classifier CLASSIFIER'));
  t.is(lines.filter((line) => line.includes('--seed 2 ')).length, 4);
  const error = await t.throwsAsync<Error & { stderr: string }>(
    program('everything', '--photographs', join(folder, 'none')),
  );
  t.regex(error.stderr, /there is no folder/);
});

test('the table: the best at the smallest share first, and what each has more than the ranker', (t) => {
  const interval = (value: number) => ({ value, low: value - 0.1, high: value + 0.1 });
  const figure = (
    selector: SelectorName,
    keep: number,
    value: number,
    more: number | null = null,
    change: number | null = null,
  ): StudyFigure => ({
    ...{ measure: 'accuracy', selector, keep, ...interval(value) },
    more: more === null ? null : interval(more),
    change: change === null ? null : interval(change),
  });
  const text = classifyMarkdown({
    ...{ command: 'c', date: 'd', processor: 'p', of: 'val', pictures: ['a', 'b'] },
    training: null,
    fineTuned: true,
    classifier: { source: 's', digest: 'f00', config: {} },
    keeps: [0.1, 1],
    curves: [],
    precision: null,
    teacher: null,
    gigaflops: {
      classifier: { '0.1': 0.09, '1': 0.75 },
      selectors: { ranker: { '0.1': 0.26, '1': 0.26 } },
    },
    milliseconds: { classifier: { '0.1': 1, '1': 4 }, selectors: { ranker: 0.5, evit: 2 } },
    figures: [
      ...[figure('evit', 0.1, 0.4, -0.1, -0.5), figure('evit', 1, 0.9, 0)],
      ...[figure('ranker', 0.1, 0.5, null, -0.4), figure('ranker', 1, 0.9)],
    ],
  });
  t.true(
    text.includes('| selector | labels | 10% | 100% | ms a picture | GFLOP | with classifier |'),
  );
  const [first, second, ...changes] = text.split('\n').filter((line) => line.startsWith('| `'));
  t.is(first, '| `ranker` | no | 50.0 | 90.0 | 0.5 | 0.26 | 0.35 / 1.01 |');
  t.is(
    second,
    '| `evit` | yes | 40.0 (-10.0 [-20.0, 0.0]) | 90.0 (0.0 [-10.0, +10.0]) | 2.0 |  |  |',
  );
  t.deepEqual(changes, [
    '| `ranker` | -40.0 [-50.0, -30.0] |',
    '| `evit` | -50.0 [-60.0, -40.0] |',
  ]);
  t.regex(text, /minus that with all patches[^]*\| selector \| 10% \|/);
  t.regex(text, /Each selector and share has a classifier of its own/);
  t.regex(
    text,
    /takes the classifier 1\.0 ms and 0\.09 GFLOP at 10%, 4\.0 ms and 0\.75 GFLOP at 100%\./,
  );
});

test('objects that nobody labelled: the best for them first, and what they cost against the labelled', async (t) => {
  const figure = (row: string, measure: string, value: number) => ({
    ...{ set: 'scenes', selector: 'top-k', keep: 0.25, row, measure, value },
    ...{ low: value - 0.1, high: value + 0.1 },
  });
  const interval = (value: number) => ({ value, low: value - 0.1, high: value + 0.1 });
  const minus = { row: 'ranker', selector: 'top-k' };
  const text = unlabelledMarkdown({
    ...{ command: 'c', date: 'd', processor: 'p', training: null, scenes: 2, size: 64, patch: 16 },
    precision: 0.5,
    ...{ keep: 0.25, hidden: ['fish'], supervised: ['evit'] },
    figures: [
      ...[figure('evit', 'labelled', 0.6), figure('evit', 'hidden', 0.3)],
      ...[figure('ranker', 'labelled', 0.5), figure('ranker', 'hidden', 0.5)],
    ],
    differences: [
      { ...figure('evit', 'labelled', 0.1), minus },
      { ...figure('evit', 'hidden', -0.2), minus },
    ],
    gaps: {
      ranker: { own: interval(0), more: interval(0) },
      evit: { own: interval(-0.3), more: interval(-0.3) },
    },
  });
  t.regex(text, /mean average precision on the test scenes: 50\.0%/);
  t.deepEqual(
    text.split('\n').filter((line) => /^\| (ranker|evit)/.test(line)),
    [
      '| ranker | no | 50.0 | 50.0 | 0.0 [-10.0, +10.0] |',
      '| evit | yes | 60.0 (+10.0 [0.0, +20.0]) | 30.0 (-20.0 [-30.0, -10.0]) | -30.0 [-40.0, -20.0] (-30.0 [-40.0, -20.0]) |',
    ],
  );
  const error = await t.throwsAsync<Error & { code: number; stderr: string }>(
    program('unlabelled', '--keep', '0%'),
  );
  t.is(error.code, 2);
  t.regex(error.stderr, /--keep must be a share/);
});

test('labels that stay: those under the kept patches, and what supervised selectors need', async (t) => {
  t.timeout(120_000);
  const folder = await temporaryFolder(t);
  const images = join(folder, 'coco', 'images');
  mkdirSync(images, { recursive: true });
  // Noise in two squares of 64 px of a grey picture, each a label; a quarter of the patches has room for both.
  const corners = [
    [16, 32],
    [144, 128],
  ] as const;
  const inside = (x: number, y: number): boolean =>
    corners.some(([left, top]) => x >= left && x < left + 64 && y >= top && y < top + 64);
  const data = Uint8Array.from({ length: 224 * 224 * 3 }, (_, j) => {
    const [x, y] = [Math.floor(j / 3) % 224, Math.floor(j / (3 * 224))];
    return inside(x, y) ? (j * 7919) % 251 : 128;
  });
  const file_name = '000000000025.jpg';
  t.is(partOf('coco/images', file_name), 'test');
  await sharp(data, { raw: { width: 224, height: 224, channels: 3 } })
    .jpeg({ quality: 100 })
    .toFile(join(images, file_name));
  const annotations = corners.map(([x, y], i) => ({
    ...{ image_id: 1, category_id: i + 1, iscrowd: 0 },
    segmentation: [[x, y, x + 64, y, x + 64, y + 64, x, y + 64]],
  }));
  writeFileSync(
    join(folder, 'coco', 'instances.json'),
    JSON.stringify({ images: [{ id: 1, file_name, width: 224, height: 224 }], annotations }),
  );
  const out = join(folder, 'out');
  const given = ['--photographs', folder, '--out', out];
  const { stdout } = await program(
    'retention',
    // What is named twice is measured once: twice as many pictures would make intervals narrower.
    ...[...given, '--selectors', 'variance,grid,evit,variance', '--keep', '25%,100%,1,0.25'],
  );
  t.is(readFileSync(join(out, 'retention.md'), 'utf8'), stdout);
  t.regex(stdout, /No classifier was given, so selectors that ask one are left out/);
  t.deepEqual(
    stdout.split('\n').filter((line) => line.startsWith('| `')),
    [
      '| `variance` | no | 100.0 | 100.0 | 100.0 / 100.0 | 100.0 / 100.0 |',
      '| `grid` | no | 0.0 | 100.0 | 0.0 / 100.0 | 0.0 / 100.0 |',
    ],
  );
  for (const [args, why] of [
    [['--photographs', join(folder, 'none')], /has no pictures of coco/],
    [[...given, '--keep', '120%'], /--keep must be shares/],
    [[], /--photographs needs a folder/],
  ] as const) {
    const error = await t.throwsAsync<Error & { code: number; stderr: string }>(
      program('retention', ...args),
    );
    t.is(error.code, 2);
    t.regex(error.stderr, why);
  }
});
