/** Training runs that meet trouble: what is kept stays good, what is said can be done, and a run has one owner. */
import { open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Trainer } from '../lib/index.js';
import { lockRun } from '../lib/training/run-lock.js';
import { built, ltrp, run } from './support/command.js';
import { smallMae } from './support/models.js';
import { temporaryFolder } from './support/paths.js';
import {
  checkpoint,
  checkpoints,
  curve,
  photosFor,
  pretrain,
  range,
  readLog,
  resume,
  runJson,
  small,
  smallRanker,
  startPretrain,
  steps,
  until,
} from './support/runs.js';

/** The options that a message advises: what follows --resume in it. */
const advice = (message: string): string[] =>
  /--resume ((?:--[a-z-]+ [\w.+-]+ ?)+)/.exec(message)?.[1]?.trim().split(' ') ?? [];

for (const [name, ...more] of [
  ['a checkpoint after every step', '--learning-rate', '1e5', '--checkpoint-every', '1'],
  ['a checkpoint after every third step', '--learning-rate', '1e6', '--checkpoint-every', '3'],
  ['a short run', '--learning-rate', '3e5', '--checkpoint-every', '1h'],
] as const) {
  test.serial(
    `a run that diverges says so, keeps nothing of it, and its advice helps: ${name}`,
    async (t) => {
      t.timeout(120_000);
      const { data, out } = await photosFor(t);
      const length = name === 'a short run' ? 4 : 30;
      const asked = ['--warmup', '0', '--steps', String(length), ...more];
      const { code, stderr } = await pretrain(data, out, ...asked);
      t.is(code, 1, stderr);
      t.regex(stderr, /has diverged.*\[ERR_LTRP_DIVERGED\]\n$/);
      t.regex(stderr, /step \d+ is not applied: the (loss|norm of the gradient) is (NaN|Infinity)/);
      const log = readLog(out);
      const skipped = log.filter((entry) => entry.skipped !== undefined);
      t.true(skipped.length >= 2);
      for (const { loss, gradientNorm } of skipped) {
        t.true([loss, gradientNorm].some((value) => value === 'NaN' || value === 'Infinity'));
      }
      t.notRegex(await readFile(join(out, 'log.jsonl'), 'utf8'), /"(loss|gradientNorm)":null/);
      t.is(log.at(-1)?.divergedSince, skipped[0]?.step);
      for (const file of checkpoints(out)) {
        const trainer = await Trainer.resume(join(out, file)); // refuses what is not finite
        t.true(trainer.step < (skipped[0]?.step ?? 0));
        trainer.dispose();
      }
      const again = await resume(out);
      t.is(again.code, 1, 'the same run diverges in the same way');
      const helped = await resume(out, ...advice(stderr));
      t.is(helped.code, 0, helped.stderr);
      t.deepEqual(steps(out), range(1, length));
      t.true(readLog(out).every((entry) => entry.skipped === undefined || entry.step === 1));
      t.is(runJson(out).options.learningRate, Number(advice(stderr)[1]));
    },
  );
}

test.serial('a ranker that diverges is told the same', async (t) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t);
  const args = ['train', '--data', data, '--teacher', smallMae, '--out', out, ...smallRanker];
  const more = ['--steps', '12', '--warmup', '0', '--learning-rate', '1e6'];
  const { code, stderr } = await ltrp([...args, ...more, '--loss', 'pointWise']);
  t.is(code, 1, stderr);
  t.regex(stderr, /ERR_LTRP_DIVERGED/);
  const helped = await ltrp(['train', '--out', out, '--resume', ...advice(stderr)]);
  t.is(helped.code, 0, helped.stderr);
});

/** Overwrites `bytes` of a file with zeros, `from` the middle. */
async function zeroed(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    await file.write(Buffer.alloc(Math.min(bytes, size / 2)), 0, undefined, Math.floor(size / 2));
  } finally {
    await file.close();
  }
}

test.serial(
  'a damaged checkpoint is passed over with the reason, and the one before it serves',
  async (t) => {
    t.timeout(240_000);
    const { folder, data, out } = await photosFor(t);
    const whole = join(folder, 'whole');
    t.is((await pretrain(data, whole, '--steps', '12')).code, 0);
    for (const [what, damage, said] of [
      ['zeros', (path: string) => zeroed(path, 500_000), /damaged/],
      ['one byte', (path: string) => zeroed(path, 1), /damaged/],
      ['cut off', (path: string) => truncate(path, 3000), /truncated|claims/],
      ['text', (path: string) => writeFile(path, 'hello'), /not a valid safetensors/],
    ] as const) {
      await rm(out, { recursive: true, force: true });
      t.is((await pretrain(data, out, '--steps', '12', '--checkpoint-every', '4')).code, 0);
      t.deepEqual(checkpoints(out).length, 2);
      await damage(checkpoint(out, 12));
      const { code, stderr } = await resume(out);
      t.is(code, 0, stderr);
      t.regex(stderr, new RegExp(`passing over ${checkpoint(out, 12)}: .*${said.source}`), what);
      t.regex(stderr, /continuing after step 8/);
      t.deepEqual(curve(out), curve(whole), what);
      const model = (run: string) => readFile(join(run, 'model.safetensors'));
      t.deepEqual(await model(out), await model(whole), what);
    }
    for (const file of checkpoints(out)) await zeroed(join(out, file), 100);
    const none = await resume(out);
    t.is(none.code, 1);
    t.regex(
      none.stderr,
      /No checkpoint in .* can be used: .* Remove them to begin this run again.*ERR_LTRP_RUN_DAMAGED/,
    );
    for (const file of checkpoints(out)) await rm(join(out, file));
    t.is((await resume(out)).code, 0);
    t.deepEqual(curve(out), curve(whole));
  },
);

test.serial(
  'the checkpoint that a run goes on from is never the one that is removed',
  async (t) => {
    t.timeout(120_000);
    const { data, out } = await photosFor(t);
    t.is((await pretrain(data, out, '--steps', '12', '--checkpoint-every', '4')).code, 0);
    await zeroed(checkpoint(out, 12), 100);
    // The damaged one has the highest number, and the next ones have lower ones.
    const { code, stderr } = await resume(out, '--checkpoint-every', '1');
    t.is(code, 0, stderr);
    t.deepEqual(checkpoints(out).length, 2);
    for (const file of checkpoints(out)) (await Trainer.resume(join(out, file))).dispose();
  },
);

test.serial('one process at a time trains in a folder', async (t) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t);
  const runs = range(1, 3).map(() => startPretrain(data, out, '--steps', '400'));
  const outcomes = await Promise.all(runs.map(({ outcome }) => outcome));
  t.deepEqual(
    outcomes.map(({ code }) => code).sort(),
    [0, 1, 1],
    outcomes.map(({ stderr }) => stderr).join('\n'),
  );
  for (const { code, stderr } of outcomes) {
    if (code === 1) t.regex(stderr, /being trained right now by process \d+|holds a run already/);
  }
  t.deepEqual(steps(out), range(1, 400));

  const running = startPretrain(data, join(out, 'other'), '--steps', '100000');
  await until(() => steps(join(out, 'other')).length > 3);
  const second = await resume(join(out, 'other'));
  t.is(second.code, 1);
  t.regex(second.stderr, /being trained right now.*ERR_LTRP_RUN_CONFLICT/);
  running.child.kill('SIGKILL');
  await running.outcome;
  const next = await resume(join(out, 'other'), '--steps', '12');
  t.is(next.code, 0, 'the lock of a dead process is no lock');
});

test('a lock is refused where it cannot be made, with the reason', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'file'), '');
  await t.throwsAsync(lockRun(join(folder, 'file'), new AbortController().signal), {
    code: 'ERR_LTRP_FILE_WRITE',
    message: /cannot be written to/,
  });
});

test.serial(
  'killed at twenty moments: at most an interval is lost, and the curve is that of a run in peace',
  async (t) => {
    t.timeout(300_000);
    const { folder, data, out } = await photosFor(t);
    const peace = join(folder, 'peace');
    const args = ['--steps', '160', '--checkpoint-every', '5', '--seed', '3'];
    t.is((await pretrain(data, peace, ...args)).code, 0);
    let random = 12345;
    const draw = (below: number): number =>
      (random = (Math.imul(random, 1664525) + 1013904223) >>> 0) % below;
    let [kills, known, finished] = [0, 0, false];
    while (kills < 20 && !finished) {
      const run = startPretrain(data, out, ...args, '--resume');
      const done = steps(out).length;
      const aim = done + draw(12);
      let ended = false;
      run.child.once('exit', () => (ended = true));
      await until(() => ended || Math.max(0, ...steps(out)) >= aim);
      await sleep(draw(8));
      run.child.kill('SIGKILL');
      const { code, stderr } = await run.outcome;
      finished = code === 0;
      kills++;
      // It may have been killed before it said so.
      const from = Number(/continuing after step (\d+)/.exec(stderr)?.[1] ?? known);
      t.true(from >= known - 5, `${stderr}\n${String(known)} steps were done`);
      known = Math.max(from, ...steps(out));
    }
    t.true(kills > 10, String(kills));
    const last = await pretrain(data, out, ...args, '--resume');
    t.is(last.code, 0, last.stderr);
    t.deepEqual(curve(out), curve(peace));
    const model = (run: string) => readFile(join(run, 'model.safetensors'));
    t.deepEqual(await model(out), await model(peace));
  },
);

test.serial('training goes on when nobody reads its messages', async (t) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t);
  const run = startPretrain(data, out, '--steps', '300');
  run.child.stderr?.once('data', () => run.child.stderr?.destroy());
  // A picture that is skipped makes sure that there is something to say later on.
  await writeFile(join(data, 'broken.png'), 'no picture');
  await once(run.child, 'exit');
  t.is(run.child.exitCode, 0);
  t.deepEqual(steps(out), range(1, 300));
  t.true(existsSync(join(out, 'model.safetensors')));
});

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test.serial(`${signal} saves the step and the model`, async (t) => {
    t.timeout(60_000);
    const { data, out } = await photosFor(t);
    const run = startPretrain(data, out, '--steps', '100000', '--checkpoint-every', '1h');
    await until(() => steps(out).length > 2);
    run.child.kill(signal);
    const stopped = await run.outcome;
    t.is(stopped.code, code, stopped.stderr);
    t.true(existsSync(checkpoint(out, steps(out).length)));
    t.regex(stopped.stdout, /model so far: .*model\.safetensors/);
    const converted = join(out, 'converted.safetensors');
    const { code: usable, stderr } = await ltrp([
      ...['convert', join(out, 'model.safetensors'), converted, '--kind', 'mae'],
    ]);
    t.is(usable, 0, stderr);
    t.is((await resume(out, '--steps', String(steps(out).length))).code, 0);
  });
}

test.serial('whatever stands in run.json, a resumed run answers with a sentence', async (t) => {
  t.timeout(240_000);
  const { data, out } = await photosFor(t);
  t.is((await pretrain(data, out, '--steps', '2')).code, 0);
  const file = join(out, 'run.json');
  const good = await readFile(file, 'utf8');
  const with_ = (path: string, value: unknown): string => {
    const config = JSON.parse(good) as Record<string, Record<string, unknown>>;
    const [first = '', second = ''] = path.split('.');
    config[first] = second === '' ? (value as never) : { ...config[first], [second]: value };
    return JSON.stringify(config);
  };
  for (const [text, said] of [
    ['null', /is not the description of a run/],
    ['[]', /is not the description of a run/],
    ['"run"', /is not the description of a run/],
    [good.slice(0, 300), /run\.json cannot be read/],
    ['', /run\.json cannot be read/],
    [with_('settings', null), /is not the description of a run/],
    [with_('options', 7), /is not the description of a run/],
    [with_('options.kind', 'ranker'), /is not the description of a run/],
    [with_('settings.decodeThreads', 0), /has 0 for --decode-threads: It must be an integer/],
    [with_('settings.prefetch', 'two'), /has "two" for --prefetch/],
    [with_('settings.data', 'photos'), /has "photos" for --data/],
    [with_('settings.checkpointEvery', {}), /has \{\} for --checkpoint-every/],
    [with_('settings.flip', 'yes'), /has "yes" for --no-flip/],
    [with_('options.learningRate', 'fast'), /cannot be used: .*learning-rate must be/],
  ] as const) {
    await writeFile(file, text);
    const { code, stderr } = await resume(out);
    t.is(code, 1, stderr);
    t.regex(stderr, said);
    t.regex(stderr, /ERR_LTRP_RUN_DAMAGED/);
    t.notRegex(stderr, /\n {4}at /);
  }
  await writeFile(file, good);
  t.is((await resume(out)).code, 0, 'repaired, it goes on');
});

test.serial('lines of the log that are none are left out, and counted', async (t) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t);
  const whole = join(folder, 'whole');
  t.is((await pretrain(data, whole, '--steps', '6')).code, 0);
  t.is((await pretrain(data, out, '--steps', '3')).code, 0);
  const log = join(out, 'log.jsonl');
  const lines = (await readFile(log, 'utf8')).split('\n');
  lines.splice(1, 0, 'null', '[1]', '{"step":"two"}', '17', 'not JSON');
  await writeFile(log, `${lines.join('\n')}{"step":4,"los`);
  const { code, stderr } = await resume(out, '--steps', '6');
  t.is(code, 0, stderr);
  t.regex(stderr, /5 lines of .*log\.jsonl are not log entries; they are skipped/);
  t.deepEqual(steps(out), range(1, 6));
  t.deepEqual(readLog(out).length, 6);
  await rm(log);
  await rename(whole, log); // a folder of that name
  const folderThere = await resume(out, '--steps', '7');
  t.is(folderThere.code, 1);
  t.regex(folderThere.stderr, /log\.jsonl cannot be read: EISDIR.*ERR_LTRP_FILE_READ/);
});

test.serial(
  'pictures that cannot be read are named and passed over; too many end the run with what was trained',
  async (t) => {
    t.timeout(120_000);
    const { data, out, folder } = await photosFor(t, 5);
    for (const name of ['a.jpg', 'b.png', 'c.webp'])
      await writeFile(join(data, name), 'no picture');
    const some = await pretrain(data, out, '--steps', '12');
    t.is(some.code, 0, some.stderr);
    for (const name of ['a.jpg', 'b.png', 'c.webp']) {
      t.is(
        some.stderr.split('\n').filter((line) => line.includes(join(data, name))).length,
        1,
        name,
      );
    }
    t.regex(some.stdout, /3 unreadable images/);

    const late = join(folder, 'late');
    const run = startPretrain(data, late, '--steps', '100000', '--cache-memory', '0');
    await until(() => steps(late).length > 20);
    await rename(data, join(folder, 'elsewhere'));
    const lost = await run.outcome;
    t.is(lost.code, 1);
    t.regex(
      lost.stderr,
      /more than the allowed share of 0\.5.*What was trained is saved.*ERR_LTRP_DATA_UNREADABLE/,
    );
    const done = steps(late).length;
    t.true(existsSync(checkpoint(late, done)));
    const gone = await resume(late, '--steps', String(done + 3));
    t.regex(gone.stderr, /If the pictures have moved, name their new place with --data/);
    const moved = ['--data', join(folder, 'elsewhere'), '--steps', String(done + 3)];
    const found = await resume(late, ...moved);
    t.is(found.code, 0, found.stderr);
    t.deepEqual(steps(late), range(1, done + 3));

    const nothing = await temporaryFolder(t);
    await writeFile(join(nothing, 'a.jpg'), 'no picture');
    await writeFile(join(nothing, 'b.jpg'), 'no picture');
    const refused = await pretrain(nothing, join(folder, 'refused'), '--steps', '3');
    t.is(refused.code, 1);
    t.regex(refused.stderr, /2 of 2 images cannot be read.*ERR_LTRP_DATA_UNREADABLE/);
  },
);

test.serial('a model that does not fit its type is no loss: the advice writes it', async (t) => {
  t.timeout(60_000);
  const { data, out } = await photosFor(t);
  // One step takes every weight by the learning rate, and beyond 65504.
  const args = ['--steps', '1', '--warmup', '0', '--learning-rate', '2e5', '--weight-decay', '0'];
  const { code, stderr } = await pretrain(data, out, ...args);
  t.is(code, 1, stderr);
  t.regex(stderr, /was not written as float16: .*--resume --export-type float32/);
  t.is((await resume(out, ...advice(stderr))).code, 0);
  t.true(existsSync(join(out, 'model.safetensors')));
});

test.serial('the messages of a build without its reader: a closed standard error', async (t) => {
  t.timeout(60_000);
  const { data, out } = await photosFor(t);
  const args = ['pretrain', '--data', data, '--out', out, ...small, '--steps', '20'];
  const closed = ['-c', 'exec "$@" 2>&-', 'bash', process.execPath, built, ...args];
  t.is((await run('bash', closed)).code, 0);
  t.deepEqual(steps(out), range(1, 20));
});
