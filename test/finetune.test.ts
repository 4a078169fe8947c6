/** `ltrp finetune`: it learns the classes of folders, resumes on the same curve, and refuses what has no classes. */
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import sharp from 'sharp';
import { readImages, Trainer, VisionTransformer, type FinetuneOptions } from '../lib/index.js';
import { ltrp } from './support/command.js';
import { temporaryFolder } from './support/paths.js';
import { readLog } from './support/runs.js';

/** Classes that colours tell apart, with noise. */
async function writeClasses(folder: string, count: number, first: number): Promise<string> {
  const colours = { amber: [200, 140, 40], blue: [40, 60, 200], cyan: [40, 190, 190] };
  for (const [name, colour] of Object.entries(colours)) {
    await mkdir(join(folder, name, 'deep'), { recursive: true });
    for (let i = 0; i < count; i++) {
      const data = Buffer.alloc(48 * 40 * 3);
      for (let j = 0; j < data.length; j++)
        data[j] = (colour[j % 3] as number) + (((j + first) * (7919 + i)) % 47) - 20;
      await sharp(data, { raw: { width: 48, height: 40, channels: 3 } })
        .png()
        .toFile(join(folder, name, i % 2 === 0 ? 'deep' : '', `${i}.png`));
    }
  }
  return folder;
}

const small =
  '--batch-size 6 --dim 24 --depth 2 --heads 3 --image-size 32 --patch-size 8 --threads 1 --learning-rate 3e-3'.split(
    ' ',
  );

test.serial('it learns, logs, writes the classes, and goes on where it stopped', async (t) => {
  t.timeout(180_000);
  const folder = await temporaryFolder(t);
  const data = await writeClasses(join(folder, 'train'), 6, 1);
  const val = await writeClasses(join(folder, 'val'), 3, 500);
  const begin = (out: string, steps: number, ...more: string[]) =>
    ltrp([
      ...['finetune', '--data', data, '--val', val, '--out', join(folder, out)],
      ...[...small, '--steps', String(steps), '--warmup', '5', '--val-every', '20'],
      ...['--keep', '50%', '--keep-random', '30%,100%', '--mixup', '0.8', '--cutmix', '1'],
      ...['--export-type', 'float32', ...more],
    ]);
  const whole = await begin('whole', 60);
  t.is(whole.code, 0, whole.stderr);
  t.is(await readFile(join(folder, 'whole', 'classes.txt'), 'utf8'), 'amber\nblue\ncyan\n');
  const log = readLog(join(folder, 'whole')) as unknown as Record<string, unknown>[];
  const figures = log.flatMap(({ validation }) =>
    validation === undefined ? [] : [validation as { accuracy: number; loss: number }],
  );
  t.is(figures.length, 4);
  t.true((figures.at(-1)?.accuracy ?? 0) > 0.9, JSON.stringify(figures));
  t.true((figures.at(-1)?.loss ?? 9) < (figures[0]?.loss ?? 0));
  for (const key of ['step', 'loss', 'gradientNorm', 'epoch'] as const)
    t.true(
      log.every((entry) => 'validation' in entry || typeof entry[key] === 'number'),
      key,
    );

  // The same run in micro-batches: the same curve but for rounding.
  t.is((await begin('pieces', 60, '--micro-batch-size', '2')).code, 0);
  const losses = (out: string): number[] =>
    readLog(join(folder, out)).flatMap(({ loss }) => (typeof loss === 'number' ? [loss] : []));
  for (const [i, loss] of losses('pieces').entries())
    t.true(Math.abs(loss - (losses('whole')[i] ?? NaN)) < 1e-3, `step ${i}: ${loss}`);

  // A shorter run, made longer: the schedule is that of the new length at once, and so is a whole one resumed.
  t.is((await begin('parts', 60, '--checkpoint-every', '20')).code, 0);
  await rm(join(folder, 'parts', 'checkpoint-000000060.safetensors'));
  const parts = ['finetune', '--out', join(folder, 'parts'), '--resume'];
  const resumed = await ltrp([...parts, '--threads', '1']);
  t.is(resumed.code, 0, resumed.stderr);
  t.regex(resumed.stderr, /continuing after step 40/);
  t.deepEqual(losses('parts'), losses('whole'));

  await using vit = await VisionTransformer.load(join(folder, 'whole'), { device: 'cpu' });
  t.like(vit.config, { classes: 3, pooling: 'cls', imageHeight: 32 });
  const images = await readImages([join(val, 'cyan', '1.png')], { size: 32 });
  t.deepEqual(Array.from((await vit.classify(images, { topK: 1 })).top ?? []), [2]);

  // The embedded models have patches of 16 pixels: what asks them is left out, unless it is named.
  const evaluated = ['evaluate', '--model', join(folder, 'whole'), '--data', val, '--keep', '50%'];
  const measured = await ltrp([...evaluated, '--json']);
  t.is(measured.code, 0, measured.stderr);
  const { figures: found } = JSON.parse(measured.stdout) as { figures: { selector: string }[] };
  const asked = new Set(found.map(({ selector }) => selector));
  t.true(asked.has('cls-attention') && !asked.has('ranker') && !asked.has('mae-attention'));
  const named = await ltrp([...evaluated, '--selectors', 'ranker']);
  t.regex(named.stderr, /model of --ranker has patches of 16 pixels, and the classifier of 8/);

  const wider = ['--init', join(folder, 'whole'), '--dim', '48', '--steps', '1'];
  const again = await ltrp(['finetune', '--data', data, '--out', join(folder, 'wide'), ...wider]);
  t.is(again.code, 2);
  t.regex(again.stderr, /--dim must be 24, as in the weights of --init/);
  // Held-out pictures that will not do, and labels of another kind, leave the run as it is.
  const before = await readFile(join(folder, 'parts', 'run.json'), 'utf8');
  await mkdir(join(folder, 'other', 'zebra'), { recursive: true });
  await sharp(join(data, 'blue', '1.png')).toFile(join(folder, 'other', 'zebra', 'a.png'));
  for (const [args, why] of [
    [['--steps', '80', '--val', join(folder, 'other')], /class 'zebra' is none of the 3/],
    [['--labels', join(folder, 'labels.tsv')], /keeps --labels .*ERR_LTRP_RUN_CONFLICT/s],
  ] as const) {
    const refused = await ltrp([...parts, ...args]);
    t.not(refused.code, 0);
    t.regex(refused.stderr, why);
    t.is(await readFile(join(folder, 'parts', 'run.json'), 'utf8'), before);
  }
  // A finished run's figures of other pictures are measured anew.
  await mkdir(join(folder, 'swapped'));
  for (const [name, as] of [
    ['amber', 'blue'],
    ['blue', 'cyan'],
    ['cyan', 'amber'],
  ] as const)
    await cp(join(val, name), join(folder, 'swapped', as), { recursive: true });
  const swapped = await ltrp([...parts, '--val', join(folder, 'swapped'), '--json']);
  const { validation } = JSON.parse(swapped.stdout) as { validation: { accuracy: number } };
  t.true(validation.accuracy < 0.1, JSON.stringify(validation));
  await mkdir(join(data, 'dusk'));
  await sharp(join(data, 'blue', '1.png')).toFile(join(data, 'dusk', 'a.png'));
  const other = await ltrp([...parts, '--data', data]);
  t.regex(other.stderr, /classes are not those .*ERR_LTRP_RUN_CONFLICT/s);
});

test.serial('what cannot be learned is one clear sentence', async (t) => {
  t.timeout(120_000);
  const folder = await temporaryFolder(t);
  const data = await writeClasses(join(folder, 'train'), 1, 1);
  const refused = async (code: number, why: RegExp, args: string): Promise<void> => {
    const usual = ['finetune', '--out', join(folder, 'run'), ...small, '--steps', '1'];
    const { code: got, stderr } = await ltrp([...usual, ...args.split(' ')]);
    const last = stderr.trim().split('\n').at(-1) ?? '';
    t.regex(last, why);
    t.is(got, code, last);
  };
  await refused(2, /least two classes.*only 'deep'/, `--data ${join(data, 'blue')}`);
  const flat = join(folder, 'flat');
  await mkdir(flat);
  await sharp(join(data, 'blue', 'deep', '0.png')).toFile(join(flat, 'a.png'));
  await refused(
    2,
    /must lie in a folder named after its class below .*flat; .*a\.png does not/,
    `--data ${flat}`,
  );
  await mkdir(join(data, 'empty'));
  await writeFile(join(data, 'empty', 'notes.txt'), '');
  await refused(1, /class folder .*empty has no pictures.*ERR_LTRP_DATA_EMPTY/, `--data ${data}`);
  await rm(join(data, 'empty'), { recursive: true });
  const val = await writeClasses(join(folder, 'val'), 1, 9);
  await mkdir(join(val, 'zebra'));
  await sharp(join(val, 'blue', 'deep', '0.png')).toFile(join(val, 'zebra', 'a.png'));
  await refused(
    2,
    /class 'zebra' is none of the 3 that are trained: amber, blue, cyan/,
    `--data ${data} --val ${val}`,
  );
  await refused(
    2,
    /--patch-size must be the model's 16 for the selector 'ranker'; got 8/,
    `--data ${data} --keep 50% --selector ranker --selector-model tiny`,
  );
  t.false(existsSync(join(folder, 'run')));
  // Files that no run made are not written over, nor taken for a run's.
  for (const file of ['model.safetensors', 'classes.txt', 'checkpoint-000000900.safetensors']) {
    await mkdir(join(folder, 'run'));
    await writeFile(join(folder, 'run', file), 'mine');
    await refused(1, new RegExp(`has a ${file}, but no run\\.json`), `--data ${data}`);
    t.is(await readFile(join(folder, 'run', file), 'utf8'), 'mine');
    await rm(join(folder, 'run'), { recursive: true });
  }
  // Linux refuses folders there as if those above were not there.
  const nowhere = ['finetune', '--data', data, '--out', '/proc/none/run', ...small];
  const unwritable = await ltrp([...nowhere, '--steps', '1']);
  t.regex(unwritable.stderr, /\/proc\/none\/run.*ERR_LTRP_FILE_WRITE/);
  await refused(
    2,
    /--keep must keep at least one of the 16 patches; got 0.01/,
    `--data ${data} --keep 1%`,
  );
  await refused(
    2,
    /--micro-batch-size must be even with mixup/,
    `--data ${data} --mixup 1 --micro-batch-size 3`,
  );
  await refused(2, /--selector-model must name the model/, `--data ${data} --selector ranker`);
  await refused(2, /--dim must be 192, as in the weights of --init/, `--data ${data} --init tiny`);
});

test('the class Trainer: labels of pictures, an embedded ranker, and what is refused', async (t) => {
  const options: FinetuneOptions = {
    kind: 'finetune',
    model: {
      imageHeight: 32,
      imageWidth: 32,
      patchSize: 16,
      encoder: { dim: 24, depth: 1, heads: 3, mlpDim: 48 },
      layerNormEps: 1e-6,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
      classes: 3,
      pooling: 'mean',
      queries: 0,
      queryDim: 0,
    },
    ...{ batchSize: 2, microBatchSize: 2, steps: 3, warmupSteps: 0, learningRate: 1e-3 },
    ...{
      weightDecay: 0.05,
      beta1: 0.9,
      beta2: 0.999,
      clipGradientNorm: null,
      precision: 'float32',
    },
    ...{ seed: 1, cropScale: [0.5, 1], flip: true, minLearningRate: 0, layerDecay: 0.75 },
    ...{
      dropPath: 0.1,
      labelSmoothing: 0.1,
      mixup: 0,
      cutmix: 0,
      randAugment: 9,
      erase: 0.25,
      keepRatio: 0.5,
    },
    ...{ keepRandom: null, selector: 'ranker', selectorModel: 'tiny' },
  };
  await using trainer = await Trainer.create(options);
  t.like(trainer.options, { kind: 'finetune', selector: 'ranker', keepRandom: null });
  const picture = (label?: number) => ({
    pixels: Uint8Array.from({ length: 40 * 40 * 3 }, (_, i) => (i * 7) % 256),
    height: 40,
    width: 40,
    label,
  });
  const { loss, applied } = await trainer.trainStep([picture(0), picture(2)]);
  t.true(applied && loss > 0);
  const { accuracy, kendallTau } = await trainer.evaluate([picture(1)]);
  t.true(accuracy === 0 || accuracy === 1);
  t.is(kendallTau, null);
  await t.throwsAsync(trainer.trainStep([picture(0), picture()]), {
    message: /pictures\[1\]\.label must say which of the 3 classes/,
  });
  await t.throwsAsync(trainer.trainStep([picture(0), picture(3)]), {
    message: /pictures\[1\]\.label must be in \[0, 3\); got 3/,
  });
  await t.throwsAsync(trainer.trainStep([picture(0.5), picture(1)]), {
    message: /pictures\[0\]\.label must be an integer/,
  });
  const refused = async (change: object, message: RegExp): Promise<void> => {
    await t.throwsAsync(Trainer.create({ ...options, ...change }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  };
  await refused({ keepRandom: [0.9, 0.2] }, /keepRandom must be \[least, most\]/);
  await refused({ selector: 'best' }, /selector must be one of/);
  await refused({ maskRatio: 0.5 }, /options has no "maskRatio"/);
  await refused({ model: { ...options.model, classes: 1 } }, /model.classes must be in \[2/);
});
