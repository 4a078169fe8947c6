/** The lock that one process at a time holds while it fetches LibTorch: who may take it over, and who notices. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type TestFn } from 'ava';
import { withLock } from '../lib/native/folder-lock.js';

const test = anyTest as TestFn<{ folder: string }>;

test.beforeEach(async (t) => {
  t.context = { folder: await mkdtemp(path.join(os.tmpdir(), 'ltrp-lock-')) };
});

test.afterEach.always(async (t) => {
  await rm(t.context.folder, { recursive: true, force: true });
});

test('a lock: of a dead process, half written long ago, or of another machine that is silent, is taken over once', async (t) => {
  const file = path.join(t.context.folder, 'x.lock');
  const gone = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => gone.once('close', resolve));
  const old = new Date(Date.now() - 120_000);
  const holders: [text: string, date: Date][] = [
    [JSON.stringify({ pid: gone.pid, host: os.hostname() }), new Date(Date.now() - 20_000)],
    ['', old],
    [JSON.stringify({ pid: 1, host: 'elsewhere' }), old],
  ];
  for (const [text, date] of holders) {
    await writeFile(file, text);
    await utimes(file, date, date);
    let inside = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      inside += 1;
      most = Math.max(most, inside);
      await sleep(20);
      inside -= 1;
    };
    await Promise.all(Array.from({ length: 8 }, () => withLock(file, work)));
    t.is(most, 1);
    t.false(existsSync(file));
  }
  // A living holder is waited for, also one that was silent for a while, and an abort ends the wait.
  await writeFile(file, JSON.stringify({ pid: process.pid, host: os.hostname() }));
  const before = new Date(Date.now() - 20_000);
  await utimes(file, before, before);
  await t.throwsAsync(
    withLock(file, () => Promise.resolve(), { signal: AbortSignal.timeout(50) }),
    {
      any: true,
    },
  );
  t.true(existsSync(file));
  // A pid that is not here may be one of another container which shares the folder and the host name: it gives signs of life.
  await writeFile(file, JSON.stringify({ pid: gone.pid, host: os.hostname() }));
  const beating = setInterval(() => void utimes(file, new Date(), new Date()), 100);
  const signal = AbortSignal.timeout(1500);
  await t.throwsAsync(
    withLock(file, () => Promise.resolve(), { signal }),
    { any: true },
  );
  clearInterval(beating);
  t.true(existsSync(file));
});

test('a holder that was stopped for long notices that it lost its lock, and leaves that of the other alone', async (t) => {
  const file = path.join(t.context.folder, 'x.lock');
  const working = withLock(file, async (check) => {
    await check();
    // Stopped, given up by somebody else, resumed.
    await writeFile(file, JSON.stringify({ pid: 1, host: 'elsewhere', token: 'other' }));
    await check();
  });
  await t.throwsAsync(working, { code: 'ERR_LTRP_FILE_WRITE', message: /took over .*x\.lock/ });
  t.regex(await readFile(file, 'utf8'), /elsewhere/);
});
