/**
 * Training through the command: pre-training reduces its loss, the ranker learns its teacher's order, and a run that was
 * killed and resumed has the curve of one that was not.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import sharp from 'sharp';
import { built, ltrp, run, startLtrp as start } from './support/command.js';
import { sharedFolder } from './support/paths.js';
import { readLog, until } from './support/runs.js';

/** What must be the same bit for bit; times may differ. */
const curve = (folder: string): unknown[] =>
  readLog(folder).map(({ step, loss, learningRate, gradientNorm, validation }) => ({
    step,
    loss,
    learningRate,
    gradientNorm,
    validation,
  }));

const losses = (folder: string): number[] =>
  readLog(folder).flatMap(({ loss }) => (typeof loss === 'number' ? [loss] : []));
const validations = (folder: string) =>
  readLog(folder).flatMap(({ step, validation }) => (validation ? [{ step, ...validation }] : []));
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Numbers in [0, 1) from a seed (a linear congruential generator is random enough for pictures). */
function numbers(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

/** A background of soft noise with bright shapes on it: something to reconstruct and something that matters. */
async function generate(path: string, seed: number): Promise<void> {
  const random = numbers(seed);
  const cells = Buffer.from(Array.from({ length: 8 * 8 * 3 }, () => 90 + 60 * random()));
  const background = sharp(cells, { raw: { width: 8, height: 8, channels: 3 } }).resize(96, 96, {
    kernel: 'cubic',
  });
  const shapes = Array.from({ length: 3 }, (_, i) => {
    const [x, y, r] = [16 + 64 * random(), 16 + 64 * random(), 8 + 10 * random()];
    const colour = `hsl(${Math.floor(360 * random())},90%,${30 + 40 * random()}%)`;
    return i % 2 === 0
      ? `<circle cx="${x}" cy="${y}" r="${r}" fill="${colour}"/>`
      : `<rect x="${x - r}" y="${y - r}" width="${2 * r}" height="${1.5 * r}" fill="${colour}"/>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="96" height="96">${shapes.join('')}</svg>`;
  await background
    .composite([{ input: Buffer.from(svg) }])
    .png()
    .toFile(path);
}

const root = sharedFolder();
const [photos, heldOut] = [join(root, 'photos'), join(root, 'held-out')];

test.before(async () => {
  await mkdir(photos);
  await mkdir(heldOut);
  for (let i = 0; i < 64; i++) await generate(join(photos, `${i}.png`), i);
  for (let i = 0; i < 16; i++) await generate(join(heldOut, `${i}.png`), 1000 + i);
  // One unreadable picture of 65: skipped with its name.
  await writeFile(join(photos, 'broken.jpg'), 'no picture');
});

// One thread: the operators are too small to share, and waiting for each other is slow on a busy machine.
const geometry = ['--threads', '1', '--dim', '48', '--depth', '3', '--heads', '3'];
const pretrainOptions = (out: string, steps: number): string[] => [
  ...['pretrain', '--data', photos, '--val', heldOut, '--out', out, '--steps', String(steps)],
  ...[...geometry, '--decoder-dim', '48', '--decoder-depth', '2', '--decoder-heads', '3'],
  ...['--image-size', '64', '--patch-size', '8', '--batch-size', '16', '--micro-batch-size', '8'],
  ...['--learning-rate', '2e-3', '--seed', '7', '--max-unreadable', '0.02', '--val-every', '20'],
];

const PRETRAIN_STEPS = 60;

test.serial('pre-training reduces loss and held-out error, logs, and exports', async (t) => {
  t.timeout(180_000);
  const out = join(root, 'teacher');
  const { code, stdout, stderr } = await ltrp([...pretrainOptions(out, PRETRAIN_STEPS), '--json']);
  t.is(code, 0, stderr);
  const result = JSON.parse(stdout) as {
    status: string;
    step: number;
    dataWait: number;
    model: string;
  };
  t.is(result.status, 'finished');
  t.is(result.step, PRETRAIN_STEPS);
  t.true(result.dataWait >= 0 && result.dataWait < 1);
  t.true(existsSync(result.model));
  t.is(stderr.split('\n').filter((line) => line.includes('broken.jpg')).length, 1);

  const all = losses(out);
  t.is(all.length, PRETRAIN_STEPS);
  t.true(mean(all.slice(-20)) < 0.75 * mean(all.slice(0, 3)), all.join(' '));
  const held = validations(out);
  t.deepEqual(
    held.map(({ step }) => step),
    [0, 20, 40, 60],
  );
  const errors = held.map(({ reconstructionError }) => reconstructionError ?? NaN);
  t.true((errors.at(-1) ?? NaN) < 0.7 * (errors[0] ?? NaN), errors.join(' '));
  t.is(readdirSync(out).filter((name) => name.startsWith('checkpoint-')).length, 1);
  t.log(
    `loss ${mean(all.slice(0, 3)).toFixed(3)} to ${mean(all.slice(-20)).toFixed(3)}, held-out error ${errors.map((e) => e.toFixed(3)).join(' ')}`,
  );
});

test.serial(
  'killed and resumed, stopped and resumed: the same curve and the same model',
  async (t) => {
    t.timeout(240_000);
    const out = join(root, 'killed');
    const args = [...pretrainOptions(out, PRETRAIN_STEPS), '--checkpoint-every', '10'];

    const first = start(args);
    await until(() => readLog(out).some(({ step }) => step >= 17), 120);
    first.child.kill('SIGKILL');
    t.is((await first.outcome).code, null);
    t.true(readLog(out).every(({ step }) => step < PRETRAIN_STEPS));

    const resumed = start(['pretrain', '--out', out, '--resume', '--threads', '1']);
    await until(() => readLog(out).some(({ step }) => step >= 38), 120);
    resumed.child.kill('SIGINT');
    const stopped = await resumed.outcome;
    t.is(stopped.code, 130, stopped.stderr);
    t.regex(stopped.stderr, /continuing after step (10|20)/);
    const stoppedAt = Math.max(...readLog(out).map(({ step }) => step));
    t.true(stoppedAt < PRETRAIN_STEPS);
    t.true(
      existsSync(join(out, `checkpoint-${String(stoppedAt).padStart(9, '0')}.safetensors`)),
      'the interrupted step is saved',
    );

    const last = await ltrp([...args, '--resume']);
    t.is(last.code, 0, last.stderr);
    t.regex(last.stderr, new RegExp(`continuing after step ${stoppedAt}`));
    t.deepEqual(curve(out), curve(join(root, 'teacher')));
    const model = (folder: string): Buffer => readFileSync(join(root, folder, 'model.safetensors'));
    t.true(model('killed').equals(model('teacher')), 'the exported models are the same bytes');
    t.is(readdirSync(out).filter((name) => name.startsWith('checkpoint-')).length, 2);
  },
);

test.serial(
  'SIGTERM while a run is prepared and while it trains: in order, with 143',
  async (t) => {
    t.timeout(120_000);
    for (const kind of ['pretrain', 'train']) {
      const out = join(root, `early-${kind}`);
      const more = kind === 'train' ? ['--teacher', 'tiny'] : [];
      const early = start([kind, '--data', photos, '--out', out, '--resume', ...more]);
      // The first thing that it says, before LibTorch is loaded.
      await new Promise((resolve) => early.child.stderr?.once('data', resolve));
      early.child.kill('SIGTERM');
      const { code, stdout, stderr } = await early.outcome;
      t.is(code, 143, stderr);
      t.is(stdout, '');
      t.is(
        stderr,
        `${out} holds no run yet; a new one begins.\n` +
          'Terminated before a step was done; the same command with --resume starts or continues.\n',
      );
    }
    const out = join(root, 'terminated');
    const running = start([...pretrainOptions(out, 100_000), '--checkpoint-every', '1h']);
    await until(() => readLog(out).some(({ step }) => step >= 3), 60);
    running.child.kill('SIGTERM');
    const { code, stdout, stderr } = await running.outcome;
    t.is(code, 143, stderr);
    t.regex(stderr, /stopping after this step/);
    const step = Math.max(...readLog(out).map((entry) => entry.step));
    t.regex(stdout, new RegExp(`stopped after step ${step}; continue with --resume`));
    t.true(existsSync(join(out, `checkpoint-${String(step).padStart(9, '0')}.safetensors`)));
  },
);

test.serial(
  'a run is not overwritten, and does not resume under other options or data',
  async (t) => {
    const out = join(root, 'teacher');
    const before = readFileSync(join(out, 'log.jsonl'));
    const refused = async (pattern: RegExp, ...args: string[]): Promise<void> => {
      const { code, stderr } = await ltrp(args);
      t.not(code, 0);
      t.regex(stderr, pattern);
    };
    await refused(/holds a run already.*--resume/, ...pretrainOptions(out, PRETRAIN_STEPS));
    await refused(
      /--depth \(9; in the run it is 3\), because the weights have that shape; --seed \(8; in the run it is 7\)/,
      ...['pretrain', '--out', out, '--resume', '--seed', '8', '--depth', '9'],
    );
    const elsewhere = ['--device', 'cuda:99'];
    const unavailable = /device 'cuda:99' is not available/;
    await refused(unavailable, ...pretrainOptions(join(root, 'gpu'), 5), ...elsewhere);
    t.false(existsSync(join(root, 'gpu')));
    await refused(unavailable, 'pretrain', '--out', out, '--resume', ...elsewhere);
    await refused(/begun with ltrp pretrain/, 'train', '--out', out, '--resume');
    await refused(/--data/, 'pretrain', '--out', join(root, 'nothing'));
    await refused(
      /cannot be read, more than the allowed share/,
      ...['pretrain', '--data', photos, '--out', join(root, 'strict'), '--steps', '20'],
      ...['--max-unreadable', '0'],
      ...geometry,
    );
    t.deepEqual(readFileSync(join(out, 'log.jsonl')), before);
    const done = await ltrp(['pretrain', '--out', out, '--resume', '--json', '--device', 'cpu']);
    t.is(done.code, 0, done.stderr);
    t.is((JSON.parse(done.stdout) as { steps: number }).steps, 0);
  },
);

test.serial(
  'a full disk while a checkpoint is written is named, and the one before stays',
  async (t) => {
    t.timeout(120_000);
    const out = join(root, 'full');
    const first = start([...pretrainOptions(out, 21), '--checkpoint-every', '10']);
    await until(() => readLog(out).some(({ step }) => step >= 12), 60);
    first.child.kill('SIGKILL');
    await first.outcome;
    const checkpoint = join(out, 'checkpoint-000000010.safetensors');
    const before = readFileSync(checkpoint);

    // A limit on the size of files stands in for a full disk: writes fail half-way through the checkpoint.
    const limited = `ulimit -f ${Math.floor(before.length / 2 / 1024)}; exec "$@"`;
    const resume = [built, 'pretrain', '--out', out, '--resume', '--threads', '1'];
    const program = [limited, 'bash', process.execPath, ...resume];
    const { code: exit, signal, stderr } = await run('bash', ['-c', ...program]);
    t.is(exit ?? signal, 1, stderr);
    t.regex(stderr, /checkpoint-000000020\.safetensors was not written/);
    t.true(stderr.includes(checkpoint), stderr);
    t.true(readFileSync(checkpoint).equals(before));
    t.deepEqual(
      readdirSync(out).filter((name) => name.includes('checkpoint-')),
      ['checkpoint-000000010.safetensors'],
    );

    const { code, stderr: rest } = await ltrp(['pretrain', '--out', out, '--resume']);
    t.is(code, 0, rest);
  },
);

test.serial("the ranker's agreement with its teacher rises on held-out pictures", async (t) => {
  t.timeout(240_000);
  const out = join(root, 'ranker');
  const { code, stderr } = await ltrp([
    ...['train', '--data', photos, '--val', heldOut, '--out', out, '--steps', '50'],
    ...['--teacher', join(root, 'teacher', 'model.safetensors'), ...geometry],
    ...['--batch-size', '16', '--learning-rate', '2e-3', '--seed', '7', '--max-unreadable', '0.02'],
    ...['--val-every', '25', '--export-type', 'float32'],
  ]);
  t.is(code, 0, stderr);
  const all = losses(out);
  t.true(mean(all.slice(-10)) < mean(all.slice(0, 5)), all.join(' '));
  const held = validations(out);
  const taus = held.map(({ kendallTau }) => kendallTau ?? NaN);
  const gains = held.map(({ ndcg }) => ndcg ?? NaN);
  t.true((taus.at(-1) ?? NaN) > (taus[0] ?? NaN) + 0.15, taus.join(' '));
  t.true((gains.at(-1) ?? NaN) > (gains[0] ?? NaN), gains.join(' '));
  t.true(existsSync(join(out, 'model.safetensors')));
  t.log(`tau ${taus.map((tau) => tau.toFixed(3)).join(' ')}`);
});
