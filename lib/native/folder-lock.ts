/** A lock between processes: a file that names its holder. Survives kill -9 of the holder. */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rm, stat, utimes, type FileHandle } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LtrpError } from '../errors.js';

const heartbeat = 5_000;
/** A pid says nothing while the file is younger: containers may share a folder and a host name, and not their processes. */
const silent = 3 * heartbeat;
const stale = 60_000;

/**
 * Runs `work` while holding `file`; waits for another holder, telling `onWait` once. Whoever is stopped for longer than a
 * minute (Ctrl-Z, a suspended machine) may lose the lock: `work` calls `check` before each step that others would see, which
 * throws LtrpError ERR_LTRP_FILE_WRITE then.
 */
export async function withLock<T>(
  file: string,
  work: (check: () => Promise<void>) => Promise<T>,
  options: { onWait?: (holder: string) => void; signal?: AbortSignal | undefined } = {},
): Promise<T> {
  options.signal?.throwIfAborted();
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
  const isOurs = async (): Promise<boolean> =>
    parseHolder(await readFile(file, 'utf8').catch(() => ''))?.token === token;
  const beat = async (): Promise<void> => {
    const now = new Date();
    if (await isOurs()) await utimes(file, now, now);
  };
  const timer = setInterval(() => {
    void beat().catch(() => undefined);
  }, heartbeat);
  timer.unref();
  try {
    return await work(async () => {
      if (await isOurs()) return;
      throw new LtrpError(
        'ERR_LTRP_FILE_WRITE',
        `Another process took over ${file} while this one was stopped. Run the same command again.`,
      );
    });
  } finally {
    clearInterval(timer);
    if (await isOurs()) await rm(file, { force: true });
  }
}

async function acquire(file: string, token: string): Promise<boolean> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname(), token }));
    return true;
  } catch (error) {
    await rm(file, { force: true }); // an empty one would keep everybody waiting until it is stale
    throw error;
  } finally {
    await handle.close();
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
    if (age < silent) return false;
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
