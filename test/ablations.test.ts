/** `npm run ablations`: a finished row is never computed again, and rows differ in what they say alone. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';
import { trainAndRank, type Task } from '../scripts/ablations/convolutional.js';
import { readOptions } from '../scripts/ablations/options.js';
import { resultsOf, type Results } from '../scripts/ablations/report.js';
import { mapBase, rankerBase, rows } from '../scripts/ablations/rows.js';
import type { Found, RankerCost } from '../scripts/ablations/study.js';
import { UsageError } from '../bench/command-line.js';
import { pythonTorch } from '../bench/machine.js';
import { agreementWith } from '../scripts/evaluate/agreement.js';
import { partOf } from '../scripts/evaluate/parts.js';
import { rankerFlops } from '../lib/plan/flops.js';
import { drops, lossNames, metrics } from '../lib/types.js';
import { repository, temporaryFolder } from './support/paths.js';

const hasTorch = pythonTorch() !== null;
const withTorch = hasTorch ? test : test.skip;
const why = hasTorch ? '' : ' (python3 has no torch)';

test('rows: every metric, drop and loss, and one thing at a time', (t) => {
  t.is(new Set(rows.map(({ name }) => name)).size, rows.length);
  for (const { name, half, settings, change } of rows) {
    const base = half === 'maps' ? mapBase : rankerBase;
    const changed = Object.keys(settings).filter(
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
  const [main, ranker] = ['main.mjs', 'ranker.mjs'].map((name) =>
    readFileSync(join(repository, 'scripts', 'train-embedded', name), 'utf8'),
  ) as [string, string];
  const { maskRatio, metric, precision } = mapBase;
  const { rounds, loss, smoothing } = rankerBase;
  const scoring = `--metric ${metric} --surprise --rounds ${rounds} --mask-ratio ${maskRatio}`;
  t.true(main.includes(`scoring: { type: 'string', default: '${scoring}' }`));
  t.true(ranker.includes('--crop-scale 0.6,1 --seed 1'));
  t.regex(main, new RegExp(`precision: .*default: '${precision}'`));
  t.true(ranker.includes(`--loss ${loss} --smoothing ${smoothing} `));
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
  const convolutional = ['ranker/base', 'ranker/vit-pytorch', 'ranker/convolutional'];
  t.deepEqual(names('ranker/convolutional'), convolutional);
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
  const run = (...only: string[]) => ablations(t, folder, only);
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
  const more = ['ranker/loss-rankNet', 'maps/rounds-1', 'maps/mask-ratio-0.5'];
  const noPython = { ...process.env, PATH: folder };
  const second = await ablations(t, folder, [...more, 'ranker/convolutional'], noPython);
  t.regex(
    second.stderr,
    /no torch here; ranker\/vit-pytorch and ranker\/convolutional are skipped/,
  );
  t.regex(second.stderr, /5 rows, 2 of them finished/);
  const after = made();
  for (const [name, time] of before) t.is(after.get(name), time, name);
  const table = await run(...more);
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

for (const network of ['ViT', 'ResNet'] as const) {
  withTorch(`convolutional.py: the ${network} learns what maps say${why}`, async (t) => {
    const folder = await temporaryFolder(t);
    const vit = { dim: 48, depth: 2, heads: 3, mlpDim: 96 };
    const [side, patch, cells, crops, pictures, steps, batch] = [64, 16, 4, 24, 4, 40, 8];
    // Every patch has one grey; the brighter, the denser.
    const grey = (picture: number, id: number) => (7919 * (16 * picture + id)) % 251;
    const drawn = (picture: number, [rows, columns, top, left, , , mirrored]: number[]) =>
      Uint8Array.from({ length: rows! * columns! * 3 }, (_, i) => {
        const pixel = Math.floor(i / 3);
        const [y, x] = [Math.floor(pixel / columns!) - top!, (pixel % columns!) - left!];
        if (Math.min(x, y) < 0 || Math.max(x, y) >= side) return 0;
        const column = mirrored ? side - 1 - x : x;
        return grey(picture, cells * Math.floor(y / patch) + Math.floor(column / patch));
      });
    const map = (picture: number) =>
      Float64Array.from({ length: 16 }, (_, id) => grey(picture, id));
    const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);
    const [crop, whole] = [
      [72, 96, 8, 32, side, side, 1],
      [side, side, 0, 0, side, side, 0],
    ] as const;
    const pixels = numbers(crops).map((i) => drawn(i, [...crop]));
    writeFileSync(join(folder, 'pixels.u8'), Buffer.concat(pixels));
    writeFileSync(join(folder, 'crops.i32'), Int32Array.from(pixels.flatMap(() => [...crop])));
    const seen = numbers(pictures).map((i) => drawn(crops + i, [...whole]));
    writeFileSync(join(folder, 'pictures.u8'), Buffer.concat(seen));
    const maps = Float32Array.from(numbers(crops).flatMap((i) => [...map(i)]));
    writeFileSync(join(folder, 'maps.f32'), maps);
    const order = Int32Array.from(numbers(steps * batch), (i) => i % crops);
    writeFileSync(join(folder, 'order.i32'), order);
    const { logits, figures } = trainAndRank(folder, {
      ...{ network, vit, side, patch, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
      ...{ crops, pictures, steps, batch, learningRate: 0.001, warmup: 3, weightDecay: 0.06 },
      ...{ smoothing: 0, seed: 0 },
    });
    t.is(logits.length, 16 * pictures);
    for (const picture of numbers(pictures)) {
      const found = Float64Array.from(logits.subarray(16 * picture, 16 * (picture + 1)));
      const [agreement] = await agreementWith(new Map([['', found]]), map(crops + picture));
      t.true((agreement?.tau ?? 0) > 0.8, `tau ${agreement?.tau}`);
    }
    if (network === 'ViT') {
      const flops = rankerFlops({ encoder: vit, patchSize: patch }, 16);
      t.is(Math.round(figures.gigaflops * 1e9), flops);
    }
  });
}

withTorch(`rows of PyTorch: the base's recipe, and as much work${why}`, async (t) => {
  const folder = await temporaryFolder(t);
  await writePhotographs(folder);
  const { stdout } = await ablations(t, folder, ['ranker/convolutional']);
  t.regex(stdout, /^\| vit-pytorch \| pytorch ViT \|/m);
  t.regex(stdout, /^\| convolutional \| pytorch ResNet \|/m);
  t.regex(stdout, /^\| convolutional minus vit-pytorch \| \S/m);
  const out = join(folder, 'out');
  const results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as Results;
  const [base, vit, resNet] = results.rows.map(({ cost }) => cost as RankerCost);
  t.true(Math.abs(vit!.gigaflops - base!.gigaflops) < 1e-9);
  t.true(Math.abs(resNet!.gigaflops / base!.gigaflops - 1) < 0.005);

  const [run = ''] = readdirSync(join(out, 'runs'));
  const { options } = JSON.parse(readFileSync(join(out, 'runs', run, 'run.json'), 'utf8')) as {
    options: Record<string, unknown>;
  };
  const task = JSON.parse(readFileSync(join(out, 'pytorch', 'task.json'), 'utf8')) as Task;
  const { steps, batch, learningRate, warmup, weightDecay, smoothing, seed } = task;
  const { side, patch, mean, std, vit: encoder } = task;
  t.like(options, {
    ...{ steps, batchSize: batch, learningRate, warmupSteps: warmup, weightDecay, smoothing, seed },
    ...{ beta1: 0.9, beta2: 0.95, loss: 'listMle', schedule: 'cosine', precision: 'bfloat16' },
    model: { imageHeight: side, patchSize: patch, mean, std, encoder, layerNormEps: 1e-5 },
  });
  t.is(task.crops, 2);
});

/** Runs the command on what {@link writePhotographs} wrote. */
async function ablations(
  t: ExecutionContext,
  folder: string,
  only: readonly string[],
  env = process.env,
): Promise<{ stdout: string; stderr: string }> {
  const out = join(folder, 'out');
  const args = [
    ...['--import=tsx', join(repository, 'scripts', 'ablations', 'main.ts')],
    ...['--photographs', folder, '--out', out, '--maps', '2', '--steps', '2'],
    ...only.flatMap((name) => ['--only', name]),
  ];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { env });
  t.is(readFileSync(join(out, 'results.md'), 'utf8'), stdout);
  return { stdout, stderr };
}

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
