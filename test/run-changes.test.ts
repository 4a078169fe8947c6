/** Runs that go on in another place, longer, or otherwise; and runs that begin from given weights. */
import { cp, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MaskedAutoencoder, PatchRanker, Trainer } from '../lib/index.js';
import { ltrp } from './support/command.js';
import { oneStep } from './support/lifecycle-models.js';
import { smallMae, writeRanker } from './support/models.js';
import { temporaryFolder } from './support/paths.js';
import {
  checkpoint,
  curve,
  photosFor,
  pretrain,
  range,
  readLog,
  resume,
  runJson,
  smallRanker,
  steps,
  writePictures,
} from './support/runs.js';

test.serial(
  'pictures that have moved, by the same names: the curve of a run that stayed',
  async (t) => {
    t.timeout(120_000);
    const { folder, data, out } = await photosFor(t);
    const stayed = join(folder, 'stayed');
    t.is((await pretrain(data, stayed, '--steps', '9')).code, 0);
    t.is((await pretrain(data, out, '--steps', '9', '--checkpoint-every', '4')).code, 0);
    await rm(checkpoint(out, 9), { force: true });
    const away = join(folder, 'away');
    await rename(data, away);
    const lost = await resume(out);
    t.is(lost.code, 1);
    t.regex(lost.stderr, /photos.* name their new place with --data.*ERR_LTRP_FILE_NOT_FOUND/);
    const { code, stderr } = await resume(out, '--data', away);
    t.is(code, 0, stderr);
    t.notRegex(stderr, /Other pictures/);
    t.deepEqual(curve(out), curve(stayed));
    t.deepEqual(runJson(out).changes, [
      { step: 8, changed: { '--data': { from: [data], to: [away] } } },
    ]);
    t.is((await resume(out)).code, 0, 'the new place is remembered');
    await rename(out, join(folder, 'run-moved'));
    t.is((await resume(join(folder, 'run-moved'))).code, 0, 'a run may move as well');
  },
);

test.serial('other pictures are taken when they are named, and said', async (t) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t);
  t.is((await pretrain(data, out, '--steps', '4')).code, 0);
  await writePictures(data, 3, 100);
  const silent = await resume(out, '--steps', '6');
  t.is(silent.code, 1);
  t.regex(silent.stderr, /8 then, 11 now.*naming them again with --data.*ERR_LTRP_RUN_CONFLICT/);
  const { code, stderr } = await resume(out, '--steps', '6', '--data', data);
  t.is(code, 0, stderr);
  t.regex(stderr, /Other pictures from step 4 on: 8 before, 11 now/);
  const changed = runJson(out).changes?.[0];
  t.is(changed?.step, 4);
  t.deepEqual(changed?.changed['--steps'], { from: 4, to: 6 });
  t.like(changed?.changed['pictures'], { from: { images: 8 }, to: { images: 11 } });
  t.is((await resume(out)).code, 0, 'they are the run’s from now on');
});

test.serial(
  'more steps, epochs, another rate, warm-up and clipping; fewer steps than are done are refused',
  async (t) => {
    t.timeout(240_000);
    const { data, out } = await photosFor(t);
    t.is((await pretrain(data, out, '--steps', '4', '--learning-rate', '1e-3')).code, 0);
    const longer = await resume(out, '--steps', '8', '--learning-rate', '5e-4', '--warmup', '0');
    t.is(longer.code, 0, longer.stderr);
    t.deepEqual(steps(out), range(1, 8));
    const rate = readLog(out).find(({ step }) => step === 5)?.learningRate ?? NaN;
    t.is(rate, 5e-4 * 0.5 * (1 + Math.cos((Math.PI * 4) / 8)), 'the schedule of the new length');
    // 8 pictures, batches of 2: an epoch has 4 steps.
    const milder = ['--clip-gradient-norm', '0.5', '--weight-decay', '0'];
    const epochs = await resume(out, '--epochs', '3', ...milder);
    t.is(epochs.code, 0, epochs.stderr);
    t.deepEqual(steps(out), range(1, 12));
    t.deepEqual(runJson(out).changes, [
      {
        step: 4,
        changed: {
          '--steps': { from: 4, to: 8 },
          '--learning-rate': { from: 0.001, to: 0.0005 },
          '--warmup': { from: 1, to: 0 },
        },
      },
      {
        step: 8,
        changed: {
          '--steps': { from: 8, to: null },
          '--epochs': { from: null, to: 3 },
          '--weight-decay': { from: 0.05, to: 0 },
          '--clip-gradient-norm': { from: null, to: 0.5 },
        },
      },
    ]);
    const fewer = await resume(out, '--steps', '11');
    t.is(fewer.code, 2);
    t.regex(fewer.stderr, /--steps must be at least the 12 steps that are done; got 11/);
    const wrong = await resume(out, '--steps', '20', '--learning-rate', '1e9');
    t.is(wrong.code, 2);
    t.regex(wrong.stderr, /--learning-rate must be/);
    t.notRegex(wrong.stderr, /options\./);
    const same = await resume(out, '--steps', '12');
    t.is(same.code, 0, same.stderr);
    t.is(runJson(out).options.steps, 12);
  },
);

test.serial('warm-up, stable, decay: prolonged at will, and a model of any point', async (t) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t);
  const stable = ['--schedule', 'wsd', '--decay', '0', '--warmup', '2'];
  const whole = join(folder, 'whole');
  t.is((await pretrain(data, whole, '--steps', '9', ...stable)).code, 0);
  t.is((await pretrain(data, out, '--steps', '5', ...stable)).code, 0);
  const copy = join(folder, 'copy');
  await cp(out, copy, { recursive: true });
  t.is((await resume(out, '--steps', '9')).code, 0);
  t.deepEqual(curve(out), curve(whole));
  t.deepEqual(await readFile(checkpoint(out, 9)), await readFile(checkpoint(whole, 9)));

  const { code, stderr } = await resume(copy, '--steps', '9', '--decay', '4');
  t.is(code, 0, stderr);
  const rates = readLog(copy).flatMap(({ learningRate }) => learningRate ?? []);
  const peak = 1e-3;
  t.deepEqual(rates.slice(0, 6), [peak / 2, ...Array<number>(5).fill(peak)]);
  const falling = [1, 2, 3].map((done) => peak * (1 - Math.sqrt(done / 4)));
  for (const [i, rate] of falling.entries()) t.true(Math.abs((rates[6 + i] ?? NaN) - rate) < 1e-15);
  t.is(rates.length, 9);

  const cosine = await resume(copy, '--steps', '10', '--schedule', 'cosine');
  t.is(cosine.code, 0, cosine.stderr);
  t.like(runJson(copy).options, { schedule: 'cosine', decaySteps: 0 });
  const refused = await resume(copy, '--decay', '2');
  t.is(refused.code, 2);
  t.regex(refused.stderr, /--decay is for --schedule wsd/);

  const again = await resume(copy, '--steps', '20', '--schedule', 'wsd');
  t.is(again.code, 0, again.stderr);
  t.like(runJson(copy).options, { schedule: 'wsd', decaySteps: 2 });
  const prolonged = await resume(copy, '--steps', '40');
  t.is(prolonged.code, 0, prolonged.stderr);
  t.is(runJson(copy).options.decaySteps, 2, 'it stays, however long the run is');
  // Of an earlier schedule the run had 4, too.
  t.is((await resume(copy, '--decay', '4')).code, 0);
  t.is(runJson(copy).options.decaySteps, 4);
});

test.serial('what a run keeps is refused with the reason, and the way out works', async (t) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t);
  t.is((await pretrain(data, out, '--steps', '2')).code, 0);
  for (const [option, value, reason] of [
    ['--depth', '9', /--depth \(9; in the run it is 1\), because the weights have that shape/],
    ['--batch-size', '4', /--batch-size \(4; in the run it is 2\), because its place in the data/],
    ['--seed', '7', /--seed \(7; in the run it is 0\), because the order of the pictures/],
    ['--init', data, /--init .*because it counts when a run begins/],
    ['--mask-ratio', '0.5', /--mask-ratio .*because it says what is learned.*--init/],
  ] as const) {
    const { code, stderr } = await resume(out, option, value);
    t.is(code, 1, stderr);
    t.regex(stderr, reason);
    t.regex(stderr, /ERR_LTRP_RUN_CONFLICT/);
  }
  const next = join(folder, 'next');
  const { code, stderr } = await ltrp([
    ...['pretrain', '--data', data, '--out', next, '--init', out, '--mask-ratio', '0.5'],
    ...['--steps', '2', '--batch-size', '2'],
  ]);
  t.is(code, 0, stderr);
});

test.serial(
  'a run begins from given weights: a file, a folder of Hugging Face, a run, an embedded model',
  async (t) => {
    t.timeout(240_000);
    const { folder, data, out } = await photosFor(t);
    t.is((await pretrain(data, out, '--steps', '3', '--export-type', 'float32')).code, 0);
    const model = join(out, 'model.safetensors');
    const begin = (name: string, init: string, ...more: string[]) =>
      ltrp([
        ...['pretrain', '--data', data, '--out', join(folder, name), '--init', init],
        ...['--steps', '1', '--batch-size', '2', '--export-type', 'float32', ...more],
      ]);
    // A step that moves nothing shows what it began with.
    const still = ['--learning-rate', '1e-30', '--weight-decay', '0'];
    for (const [name, init] of [
      ['file', model],
      ['of-run', out],
    ] as const) {
      const { code, stderr } = await begin(name, init, ...still);
      t.is(code, 0, stderr);
      t.deepEqual(await readFile(join(folder, name, 'model.safetensors')), await readFile(model));
    }
    for (const [name, init] of [
      ['folder', smallMae],
      ['embedded', 'tiny'],
    ] as const) {
      const { code, stderr } = await begin(name, init);
      t.is(code, 0, stderr);
      const [given, made] = await Promise.all([
        MaskedAutoencoder.load(init, { device: 'cpu' }),
        MaskedAutoencoder.load(join(folder, name, 'model.safetensors'), { device: 'cpu' }),
      ]);
      t.deepEqual(made.config, given.config);
      given.dispose();
      made.dispose();
    }
    const other = await begin('other', model, '--depth', '3');
    t.is(other.code, 2);
    t.regex(other.stderr, /--depth must be 1, as in the weights of --init, or be left out; got 3/);
    t.is((await begin('larger', model, '--image-size', '64')).code, 0);
    const wrong = await begin(
      'wrong',
      await writeRanker(join(folder, 'ranker.safetensors'), 'token'),
    );
    t.is(wrong.code, 1);
    t.notRegex(wrong.stderr, /\n {4}at /);
    await mkdir(join(folder, 'empty'));
    t.is((await begin('none', join(folder, 'absent'))).code, 1);
  },
);

test.serial('a ranker begins from a ranker, and its teacher may move', async (t) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t);
  const given = await writeRanker(join(folder, 'given.safetensors'), 'cls');
  t.is((await pretrain(data, join(folder, 'teacher'), '--steps', '1')).code, 0);
  const args = ['train', '--data', data, '--out', out, '--steps', '2'];
  const two = ['--batch-size', '2'];
  const teacher = ['--teacher', smallMae, '--device', 'cpu'];
  const { code, stderr } = await ltrp([...args, ...teacher, ...two, '--init', given]);
  t.is(code, 0, stderr);
  const ranker = await PatchRanker.load(join(out, 'model.safetensors'), { device: 'cpu' });
  t.is(ranker.config.head, 'cls');
  ranker.dispose();
  const refused = await ltrp([
    ...args.with(4, join(folder, 'token')),
    ...teacher,
    '--init',
    given,
    '--head',
    'token',
  ]);
  t.is(refused.code, 2);
  t.regex(refused.stderr, /--head must be cls, as in the weights of --init/);

  const file = join(folder, 'teacher', 'model.safetensors');
  const run = join(folder, 'of-file');
  const begun = await ltrp([...args.with(4, run), '--teacher', file, ...smallRanker]);
  t.is(begun.code, 0, begun.stderr);
  const moved = join(folder, 'moved.safetensors');
  await rename(file, moved);
  const lost = await ltrp(['train', '--out', run, '--resume', '--steps', '3']);
  t.is(lost.code, 1);
  t.regex(lost.stderr, /teacher/);
  const found = await ltrp(['train', '--out', run, '--resume', '--steps', '3', '--teacher', moved]);
  t.is(found.code, 0, found.stderr);
  const other = await ltrp(['train', '--out', run, '--resume', '--teacher', given]);
  t.is(other.code, 1);
  t.regex(other.stderr, /teacher is not the one that the run .* had/);
});

test('the API: changes of a resumed trainer, and weights to begin from', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'state');
  const ranker = await writeRanker(join(folder, 'ranker.safetensors'), 'token');
  const first = await Trainer.create({
    kind: 'pretrain',
    model: {
      imageHeight: 32,
      imageWidth: 32,
      patchSize: 16,
      encoder: { dim: 16, depth: 1, heads: 1, mlpDim: 16 },
      decoder: { dim: 16, depth: 1, heads: 1, mlpDim: 16 },
      layerNormEps: 1e-6,
      normalizedTarget: false,
      mean: [0, 0, 0],
      std: [1, 1, 1],
    },
    ...{ ...oneStep, steps: 5, maskRatio: 0.5 },
  });
  await first.save(path);
  const changes = {
    steps: 9,
    learningRate: 2e-3,
    clipGradientNorm: 1,
    precision: 'bfloat16',
  } as const;
  const resumed = await Trainer.resume(path, { changes });
  t.like(resumed.options, { ...changes, batchSize: 1, seed: 1 });
  for (const wrong of [
    { steps: 0 },
    { learningRate: -1 },
    { clipGradientNorm: 0 },
    { batchSize: 2 },
  ]) {
    const error = await t.throwsAsync(Trainer.resume(path, { changes: wrong }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
    });
    t.true(error.message.includes(Object.keys(wrong)[0]!), error.message);
  }
  await t.throwsAsync(Trainer.create({ ...first.options, init: ranker }), {
    code: 'ERR_LTRP_CHECKPOINT_CONTENT',
  });
  const model = join(folder, 'model.safetensors');
  await first.exportModel(model);
  const second = await Trainer.create({ ...first.options, seed: 2, init: model });
  await second.exportModel(join(folder, 'second.safetensors'));
  t.deepEqual(await readFile(join(folder, 'second.safetensors')), await readFile(model));
  for (const trainer of [first, resumed, second]) trainer.dispose();
});
