/**
 * A lock between processes: a file that names its holder, who touches it every two seconds.
 *
 * A holder that is known to be dead loses the lock at once. That can be known where the lock was made in this boot of this
 * machine and in this process's PID namespace (Linux). Of any other holder (another machine or container, an unreadable file)
 * only signs of life can be seen: twenty seconds without one, and the lock is taken over. No date is compared with a clock,
 * so it does not matter whether clocks are right.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, open, readFile, rm, type FileHandle } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { unwritable } from './errors.js';

const heartbeat = 2_000;
const silence = 20_000;
const poll = 500;

export interface LockOptions {
  /** Told once when somebody else holds the lock, for example `process 123 on thishost`. */
  readonly onWait?: ((holder: string) => void) | undefined;
  /** Do not wait for a holder that is alive: reject with what this makes of its name. Takes up to three seconds to find out. */
  readonly refuse?: ((holder: string) => Error) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds without a sign of life after which a holder is given up. Default 20 s. */
  readonly silence?: number | undefined;
}

/**
 * Runs `work` while holding `file`, whose folder is made where it is missing. A process that is stopped for long (Ctrl-Z) may
 * lose the lock: `work` calls `check` before each step that others would see, which throws LtrpError ERR_LTRP_FILE_WRITE then.
 * Errors of the disk come as they are.
 */
export async function withLock<T>(
  file: string,
  work: (check: () => Promise<void>) => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  options.signal?.throwIfAborted();
  await mkdir(path.dirname(file), { recursive: true });
  const token = randomUUID();
  const handle = await obtain(file, token, options);
  const timer = setInterval(() => {
    // By its handle: under the name may lie the lock of somebody who took over.
    const now = new Date();
    void handle.utimes(now, now).catch(() => undefined);
  }, heartbeat);
  timer.unref();
  const isOurs = async (): Promise<boolean> => (await look(file))?.holder?.token === token;
  try {
    return await work(async () => {
      if (await isOurs()) return;
      throw unwritable(
        `Another process took over ${file} while this one was stopped. Run the same command again.`,
      );
    });
  } finally {
    clearInterval(timer);
    await handle.close();
    if (await isOurs()) await rm(file, { force: true });
  }
}

async function obtain(file: string, token: string, options: LockOptions): Promise<FileHandle> {
  const { refuse, signal } = options;
  const limit = options.silence ?? silence;
  const watch = watching(file, limit);
  const watchTakeover = watching(takeoverOf(file), limit);
  let told = false;
  for (;;) {
    const handle = await create(file, token);
    if (handle !== null) return handle;
    signal?.throwIfAborted();
    const { state, name } = await watch();
    if (state === 'free') continue;
    if (state === 'dead') {
      await removeDead(file, watch, watchTakeover);
      continue;
    }
    if (state === 'alive' && refuse !== undefined) throw refuse(name);
    if (!told) {
      told = true;
      options.onWait?.(name);
    }
    await sleep(poll, undefined, { signal });
  }
}

/** Null when the name is taken. */
async function create(file: string, token: string): Promise<FileHandle | null> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
    throw error;
  }
  try {
    const holder: Holder = {
      pid: process.pid,
      host: hostname(),
      system: systemId(),
      start: processState(process.pid)?.start ?? null,
      token,
    };
    await handle.writeFile(JSON.stringify(holder));
    return handle;
  } catch (error) {
    await handle.close();
    await rm(file, { force: true }); // an empty one would keep everybody waiting
    throw error;
  }
}

const takeoverOf = (file: string): string => `${file}.takeover`;

/**
 * One remover at a time, and it looks again: of two that saw the same dead holder, the slower one would otherwise remove the
 * lock that the faster one has taken since.
 */
async function removeDead(file: string, watch: Watch, watchTakeover: Watch): Promise<void> {
  const takeover = takeoverOf(file);
  const handle = await create(takeover, randomUUID());
  if (handle === null) {
    // A remover needs milliseconds, unless it died at it.
    if ((await watchTakeover()).state === 'dead') await remove(takeover);
    else await sleep(50);
    return;
  }
  try {
    if ((await watch()).state === 'dead') await remove(file);
  } finally {
    await handle.close();
    await remove(takeover);
  }
}

/** Whatever lies under a lock's name, a folder too. */
async function remove(file: string): Promise<void> {
  await rm(file, { recursive: true, force: true });
}

/** `alive`: it was seen to touch the lock. `unknown`: not seen yet, nor silent for long enough. */
type Watch = () => Promise<{ state: 'free' | 'alive' | 'unknown' | 'dead'; name: string }>;

/** Asked again and again while waiting for a lock. */
function watching(file: string, limit: number): Watch {
  let identity = '';
  let modified = 0;
  let alive = false;
  let silent = 0;
  let last = performance.now();
  return async () => {
    const now = performance.now();
    // A pause of this process counts as two polls at most: the holder may have been stopped together with us.
    const step = Math.min(now - last, 2 * poll);
    last = now;
    const found = await look(file);
    if (found === null) return { state: 'free', name: '' };
    const same = found.identity === identity;
    alive = same && (alive || found.modified !== modified);
    silent = same && found.modified === modified ? silent + step : 0;
    ({ identity, modified } = found);
    const { holder } = found;
    const name = holder === null ? 'another process' : `process ${holder.pid} on ${holder.host}`;
    if (silent >= limit || (holder !== null && isKnownDead(holder))) return { state: 'dead', name };
    return { state: alive ? 'alive' : 'unknown', name };
  };
}

interface Found {
  readonly identity: string;
  readonly modified: number;
  /** Null if the file is not a lock of ours, or is being written. */
  readonly holder: Holder | null;
}

async function look(file: string): Promise<Found | null> {
  try {
    const stats = await lstat(file);
    const isLock = stats.isFile() && stats.size < 4096;
    const text = isLock ? await readFile(file, 'utf8').catch(() => '') : '';
    const identity = `${stats.ino} ${text}`;
    return { identity, modified: stats.mtimeMs, holder: parseHolder(text) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Identifies where `pid` and `start` are valid; empty if that cannot be told. */
  readonly system?: string | null;
  /** When the process was started: a number of a dead process may have been given to another. */
  readonly start?: string | null;
  /** Tells two turns of one process apart. */
  readonly token: unknown;
}

function parseHolder(text: string): Holder | null {
  try {
    const { pid, host, system, start, token } = JSON.parse(text) as Record<string, unknown>;
    if (!Number.isInteger(pid) || (pid as number) <= 0 || typeof host !== 'string') return null;
    return { pid, host, system, start, token } as Holder;
  } catch {
    return null;
  }
}

function isKnownDead({ pid, system, start }: Holder): boolean {
  if (system == null || system !== systemId()) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true;
  }
  const found = processState(pid);
  return found !== null && (found.isZombie || (start != null && found.start !== start));
}

/** This boot of this machine and this set of process numbers; null where that cannot be told. */
export function systemId(): string | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${hostname()} ${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return null;
  }
}

/** Null where the process, or `/proc`, is not there, or may not be looked at. */
function processState(pid: number): { isZombie: boolean; start: string } | null {
  try {
    // Behind the command's name, which may contain anything: the state is field 3, the start time field 22.
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { isZombie: /^[ZX]$/.test(fields[0] ?? ''), start: fields[19] ?? '' };
  } catch {
    return null;
  }
}
