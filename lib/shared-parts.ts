/** Parts of one work that several processes share: each part is done by one of them. */
import { existsSync } from 'node:fs';
import { unwritable } from './errors.js';
import { withLock, type LockOptions } from './folder-lock.js';

export interface SharedParts {
  /** Those to do, in order. */
  parts: readonly number[];
  /** Where they are kept. */
  folder: string;
  isDone: (part: number) => boolean;
  lockPath: (part: number) => string;
  /** Leave what has a lock for last: whose it is takes seconds to find out. Default: find out at once. */
  passOverLocked?: boolean;
  work: (part: number) => Promise<void>;
  /** Told before a part is waited for, which somebody else works on. */
  onWait: (part: number, holder: string) => void;
  signal: AbortSignal;
}

/** Thrown and caught here: somebody else works on that part. */
class Busy extends Error {}

/**
 * Does all parts that nobody has done or works on; then those that somebody worked on, if they are not done by then.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; what `work` throws; `signal.reason`.
 */
export async function doParts(shared: SharedParts): Promise<void> {
  const { parts, folder, isDone, lockPath, work, onWait, signal } = shared;
  const locked = async (part: number, options: LockOptions): Promise<void> => {
    if (isDone(part)) return;
    try {
      await withLock(
        lockPath(part),
        async () => {
          if (!isDone(part)) await work(part);
        },
        { ...options, signal },
      );
    } catch (cause) {
      if (!(cause instanceof Error && 'errno' in cause)) throw cause;
      throw unwritable(`${folder} cannot be written to: ${cause.message}`, cause);
    }
  };
  const busy: number[] = [];
  for (const part of parts) {
    if (isDone(part)) continue; // by another process, meanwhile
    if (shared.passOverLocked === true && existsSync(lockPath(part))) busy.push(part);
    else {
      await locked(part, { refuse: () => new Busy() }).catch((error: unknown) => {
        if (!(error instanceof Busy)) throw error;
        busy.push(part);
      });
    }
  }
  for (const part of busy) await locked(part, { onWait: (holder) => onWait(part, holder) });
}
