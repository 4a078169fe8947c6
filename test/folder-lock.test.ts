/** The lock that one process at a time holds while it fetches LibTorch: who may take it over, after how long, and who notices. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type ExecutionContext } from 'ava';
import { withLock } from '../lib/folder-lock.js';
import { test } from './support/folder.js';

const run = promisify(execFile);

const nothing = (): Promise<void> => Promise.resolve();
const years = 365 * 86_400_000;
const dates = [0, Date.now() - 20_000, Date.now() + 50 * years];

/** A process that holds `file` until it is killed. */
async function holder(t: ExecutionContext, file: string): Promise<ChildProcess> {
  const script = `
    import { withLock } from ${JSON.stringify(new URL('../dist/folder-lock.js', import.meta.url).href)};
    await withLock(process.argv[1], () => new Promise((resolve) => {
      console.log('held');
      setTimeout(resolve, 60_000);
    }));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, file]);
  t.teardown(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}

/** What a lock of this process says. */
async function ownText(folder: string): Promise<string> {
  const file = path.join(folder, 'own');
  return withLock(file, () => readFile(file, 'utf8'));
}

/** Four at once, of whom one after the other gets in. Returns milliseconds. */
async function takeInTurns(t: ExecutionContext, file: string, silence?: number): Promise<number> {
  const start = performance.now();
  let inside = 0;
  let most = 0;
  let turns = 0;
  const work = async (): Promise<void> => {
    inside += 1;
    most = Math.max(most, inside);
    turns += 1;
    await sleep(10);
    inside -= 1;
  };
  await Promise.all(Array.from({ length: 4 }, () => withLock(file, work, { silence })));
  t.deepEqual([most, turns], [1, 4]);
  t.false(existsSync(file));
  return performance.now() - start;
}

const onLinux = process.platform === 'linux' ? test : test.skip;

onLinux('a process that is dead loses its lock at once, whatever the date', async (t) => {
  const file = path.join(t.context.folder, 'x.lock');
  await killed(await holder(t, file));
  const text = await readFile(file, 'utf8');
  for (const date of dates) {
    await writeFile(file, text);
    await utimes(file, date / 1000, date / 1000);
    t.true((await takeInTurns(t, file)) < 10_000, String(date));
  }
  // It died while it took over the lock of another that was dead.
  await writeFile(file, text);
  await writeFile(`${file}.takeover`, text);
  t.true((await takeInTurns(t, file)) < 10_000);
  t.deepEqual(await readdir(t.context.folder), []);
});

onLinux(
  'of processes that find the lock of a dead one together, one at a time gets in',
  async (t) => {
    const { folder } = t.context;
    const file = path.join(folder, 'x.lock');
    const log = path.join(folder, 'log');
    await killed(await holder(t, file));
    const script = `
    import { appendFileSync } from 'node:fs';
    import { withLock } from ${JSON.stringify(new URL('../dist/folder-lock.js', import.meta.url).href)};
    const [file, log] = process.argv.slice(1);
    await withLock(file, async (check) => {
      await check();
      appendFileSync(log, 'in ');
      await new Promise((resolve) => setTimeout(resolve, 50));
      await check();
      appendFileSync(log, 'out ');
    });`;
    const args = ['--input-type=module', '-e', script, file, log];
    await Promise.all([1, 2, 3].map(() => run(process.execPath, args)));
    t.is(await readFile(log, 'utf8'), 'in out '.repeat(3));
    t.deepEqual(await readdir(folder), ['log']);
  },
);

onLinux('a number that is another process by now, or a zombie, is no holder', async (t) => {
  const { folder } = t.context;
  const file = path.join(folder, 'x.lock');
  const own = JSON.parse(await ownText(folder)) as Record<string, unknown>;
  const zombie = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 30']);
  t.teardown(() => zombie.kill());
  const pid = Number(await new Promise((resolve) => zombie.stdout.once('data', resolve)));
  const { stdout } = await run('sh', ['-c', `sleep 0.5; cut -d" " -f3 /proc/${String(pid)}/stat`]);
  t.is(stdout.trim(), 'Z');
  for (const changes of [{ start: '1' }, { pid, start: null }, { pid: 2 ** 22 + 1 }]) {
    await writeFile(file, JSON.stringify({ ...own, ...changes, token: 'other' }));
    t.true((await takeInTurns(t, file)) < 10_000, JSON.stringify(changes));
  }
});

test('who cannot be asked is given up after a time without a sign of life, counted by who waits', async (t) => {
  const { folder } = t.context;
  const own = JSON.parse(await ownText(folder)) as Record<string, unknown>;
  const gone = 2 ** 22 + 1;
  const texts = [
    '',
    'garbage',
    'null',
    '[]',
    '{"pid":-1,"host":"x"}',
    'x'.repeat(10_000),
    JSON.stringify({ pid: 1, host: 'elsewhere' }),
    JSON.stringify({ pid: gone, host: os.hostname() }), // as older versions wrote it
    JSON.stringify({ ...own, system: 'another boot', token: 'other' }),
    JSON.stringify({ ...own, pid: gone, system: null, token: 'other' }),
    JSON.stringify({ ...own, token: 'other' }), // ours: of a worker that was terminated, say
  ];
  const files = texts.map((_, i) => path.join(folder, `text-${String(i)}`));
  for (const [i, file] of files.entries()) {
    const date = (dates[i % dates.length] ?? 0) / 1000;
    await writeFile(file, texts[i] ?? '');
    await utimes(file, date, date);
  }
  const odd = ['folder', 'link', 'fifo', 'takeover'].map((name) => path.join(folder, name));
  const [asFolder = '', link = '', fifo = '', half = ''] = odd;
  await mkdir(path.join(asFolder, 'inside'), { recursive: true });
  await symlink('nowhere', link);
  await run('mkfifo', [fifo]);
  await writeFile(half, '');
  await writeFile(`${half}.takeover`, ''); // it died between making the file and writing it
  const times = await Promise.all(
    [...files, ...odd].map((file) => takeInTurns(t, file, file === half ? 500 : 1000)),
  );
  for (const [i, time] of times.entries())
    t.true(time > 900 && time < 12_000, `${String(i)}: ${String(time)}`);
  t.deepEqual(await readdir(folder), []);
});

test('who gives signs of life is waited for, also with dates of a wrong clock; or refuses at once', async (t) => {
  const file = path.join(t.context.folder, 'x.lock');
  await writeFile(file, JSON.stringify({ pid: 1, host: 'elsewhere' }));
  let date = Date.now() + years;
  const touching = setInterval(() => {
    date -= 3_600_000; // a clock that is set back
    void utimes(file, date / 1000, date / 1000);
  }, 100);
  t.teardown(() => {
    clearInterval(touching);
  });
  const names: string[] = [];
  const waiting = withLock(file, nothing, {
    silence: 800,
    signal: AbortSignal.timeout(2500),
    onWait: (name) => names.push(name),
  });
  const refusing = withLock(file, nothing, {
    silence: 800,
    refuse: (name) => new RangeError(`held by ${name}`),
  });
  await t.throwsAsync(refusing, {
    instanceOf: RangeError,
    message: 'held by process 1 on elsewhere',
  });
  await t.throwsAsync(waiting, { code: 'ABORT_ERR' });
  t.deepEqual(names, ['process 1 on elsewhere']);
  t.true(existsSync(file));
});

test('of processes that start together one holds the lock, the others are refused; after its death the next gets it', async (t) => {
  const file = path.join(t.context.folder, 'run', 'x.lock');
  const child = await holder(t, file);
  const refuse = (name: string): Error => new RangeError(name);
  const start = performance.now();
  const refused = await Promise.allSettled([1, 2].map(() => withLock(file, nothing, { refuse })));
  t.true(performance.now() - start < 10_000);
  for (const { status, reason } of refused as PromiseRejectedResult[]) {
    t.is(status, 'rejected');
    t.is((reason as Error).message, `process ${String(child.pid)} on ${os.hostname()}`);
  }
  await killed(child);
  t.is(await withLock(file, () => Promise.resolve(5), { refuse }), 5);
});

test('errors of the disk are not waited for', async (t) => {
  const file = path.join(t.context.folder, 'file');
  await writeFile(file, '');
  await t.throwsAsync(withLock(path.join(file, 'x.lock'), nothing), { code: 'EEXIST' });
  const long = path.join(t.context.folder, 'x'.repeat(300));
  await t.throwsAsync(withLock(long, nothing), { code: 'ENAMETOOLONG' });
});

test('a holder that was stopped for long notices that it lost its lock, and leaves that of the other alone', async (t) => {
  const file = path.join(t.context.folder, 'x.lock');
  const working = withLock(file, async (check) => {
    await check();
    // Stopped, given up by somebody else, resumed.
    await rm(file);
    await writeFile(file, JSON.stringify({ pid: 1, host: 'elsewhere', token: 'other' }));
    await utimes(file, 5, 5);
    await sleep(2500);
    await check();
  });
  await t.throwsAsync(working, { code: 'ERR_LTRP_FILE_WRITE', message: /took over .*x\.lock/ });
  t.regex(await readFile(file, 'utf8'), /elsewhere/);
  t.is((await stat(file)).mtimeMs, 5000, 'not touched');
});
