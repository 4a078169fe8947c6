/** A lock between processes: a file that names its holder. Survives kill -9 of the holder. */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const heartbeat = 5_000;
const stale = 60_000;

/** Runs `work` while holding `file`; waits for another holder, telling `onWait` once. */
export async function withLock<T>(
  file: string,
  work: () => Promise<T>,
  options: { onWait?: (holder: string) => void; signal?: AbortSignal | undefined } = {},
): Promise<T> {
  await mkdir(path.dirname(file), { recursive: true });
  const token = randomUUID();
  let told = false;
  while (!(await acquire(file, token))) {
    options.signal?.throwIfAborted();
    if (await isAbandoned(file)) {
      await removeAbandoned(file);
      continue;
    }
    if (!told) {
      told = true;
      options.onWait?.(await holderOf(file));
    }
    await sleep(500, undefined, { signal: options.signal });
  }
  // Other machines cannot ask whether our process lives (a home on a network): they look at the file's age.
  const timer = setInterval(() => {
    const now = new Date();
    void utimes(file, now, now).catch(() => undefined);
  }, heartbeat);
  timer.unref();
  try {
    return await work();
  } finally {
    clearInterval(timer);
    // Whoever slept longer than `stale` (a suspended machine) may have lost it to somebody else.
    if (parseHolder(await readFile(file, 'utf8').catch(() => ''))?.token === token) {
      await rm(file, { force: true });
    }
  }
}

async function acquire(file: string, token: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname(), token }));
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * One remover at a time, and it looks again: of two that saw the same dead holder, the slower one would otherwise remove the
 * lock that the faster one has taken since.
 */
async function removeAbandoned(file: string): Promise<void> {
  const takeover = `${file}.takeover`;
  if (!(await acquire(takeover, randomUUID()))) {
    if (await isAbandoned(takeover)) await rm(takeover, { force: true });
    await sleep(50);
    return;
  }
  try {
    if (await isAbandoned(file)) await rm(file, { force: true });
  } finally {
    await rm(takeover, { force: true });
  }
}

async function isAbandoned(file: string): Promise<boolean> {
  try {
    const age = Date.now() - (await stat(file)).mtimeMs;
    if (age > stale) return true;
    const holder = parseHolder(await readFile(file, 'utf8'));
    if (holder?.host !== hostname()) return false;
    try {
      process.kill(holder.pid, 0);
      return false;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ESRCH';
    }
  } catch {
    return false; // released in between
  }
}

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells two turns of one process apart. */
  readonly token: unknown;
}

function parseHolder(text: string): Holder | null {
  try {
    const { pid, host, token } = JSON.parse(text) as Record<string, unknown>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host, token } : null;
  } catch {
    return null; // being written
  }
}

async function holderOf(file: string): Promise<string> {
  const holder = parseHolder(await readFile(file, 'utf8').catch(() => ''));
  return holder === null ? 'another process' : `process ${String(holder.pid)} on ${holder.host}`;
}
