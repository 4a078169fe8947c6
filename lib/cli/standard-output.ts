/** Standard output: written no faster than it is read, and what cannot be written is an error like any other. */
import { LtrpError } from '../errors.js';
import { writeError } from '../output-files.js';
import { exitCodes } from './exit-codes.js';
import { complain } from './image-command.js';
import { interruption, interruptSignal } from './interrupt.js';

/** A reader that has seen enough (`| head`) closes the pipe: not an error, but a reason to stop. */
export class ReaderLeft extends Error {}

/** Calls of {@link print} that are waiting: they get the error, and their callers end in order. */
let waiting = 0;

/** Keeps errors of the streams from ending the process with a stack. */
export function watchStandardStreams(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (waiting > 0) return;
    if (error.code === 'EPIPE') process.exit(interruption()?.exitCode ?? exitCodes.ok);
    complain(outputError(error).message);
    process.exit(exitCodes.failed);
  });
  // Nobody is left to be told.
  process.stderr.on('error', () => undefined);
}

/**
 * Writes to standard output no faster than it is read; Ctrl-C ends the waiting, but queued text is still written.
 *
 * @throws {ReaderLeft}
 * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`
 */
export async function print(text: string): Promise<void> {
  const signal = interruptSignal();
  waiting++;
  try {
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => resolve();
      const full = !process.stdout.write(text, (error) => {
        signal.removeEventListener('abort', stop);
        if (error) reject(error);
        else resolve();
      });
      if (full && signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED') throw new ReaderLeft();
    throw outputError(error);
  } finally {
    // The stream's own event comes after the call's.
    setImmediate(() => waiting--);
  }
}

function outputError(cause: unknown): LtrpError {
  return writeError('Standard output', cause);
}
