/** One owner at a time for the folder of a run. */
import { join } from 'node:path';
import { LtrpError, conflict, unwritable } from '../errors.js';
import { withLock } from '../folder-lock.js';

export interface RunLock {
  /** Before each step that others would see: throws when another process took over while this one was stopped. */
  check: () => Promise<void>;
  release: () => Promise<void>;
}

/**
 * Takes the folder for this process, which loses it when it dies in whatever way.
 *
 * @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT` when another process has it; `ERR_LTRP_FILE_WRITE`.
 */
export async function lockRun(folder: string, signal: AbortSignal): Promise<RunLock> {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let done: Promise<void> = Promise.resolve();
  const check = await new Promise<() => Promise<void>>((resolve, reject) => {
    done = withLock(
      join(folder, '.lock'),
      (stillOurs) => {
        resolve(stillOurs);
        return released;
      },
      {
        signal,
        refuse: (holder) =>
          conflict(
            `The run in ${folder} is being trained right now by ${holder}. Wait until it ends, stop it, or choose another --out.`,
          ),
      },
    );
    done.catch((cause: unknown) => {
      const { code, message } = cause as NodeJS.ErrnoException;
      const system = !(cause instanceof LtrpError) && typeof code === 'string';
      reject(
        system ? unwritable(`${folder} cannot be written to: ${message}`, cause) : (cause as Error),
      );
    });
  });
  return {
    check,
    release: async () => {
      release();
      await done;
    },
  };
}
