/** Ctrl-C and SIGTERM as one AbortSignal: a command that asks for it ends in order, with what is done kept. */
import { LtrpError } from '../errors.js';
import { exitCodes } from './exit-codes.js';

const codes = { SIGINT: exitCodes.interrupted, SIGTERM: exitCodes.terminated } as const;

/** `timeout` and npm send a signal to the process and to its group: what comes within this time is one request. */
const sameRequest = 500; // milliseconds

let controller: AbortController | undefined;
let received: { name: keyof typeof codes; at: number } | undefined;

/** The signal that Ctrl-C and SIGTERM abort. The second of them ends the process at once. */
export function interruptSignal(): AbortSignal {
  if (controller === undefined) {
    const created = new AbortController();
    controller = created;
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.on(name, () => {
        if (received !== undefined) {
          if (performance.now() - received.at > sameRequest) process.exit(codes[name]);
          return;
        }
        received = { name, at: performance.now() };
        created.abort();
      });
    }
  }
  return controller.signal;
}

/** After Ctrl-C or SIGTERM: the exit code, and the word for it that begins a sentence. */
export function interruption(): { exitCode: number; word: string } | undefined {
  if (received === undefined) return undefined;
  return {
    exitCode: codes[received.name],
    word: received.name === 'SIGINT' ? 'Interrupted' : 'Terminated',
  };
}

/** Whether `error` only says that the command was interrupted. What could not be written then is news all the same. */
export function isInterruption(error: unknown): boolean {
  return (
    received !== undefined && !(error instanceof LtrpError && error.code === 'ERR_LTRP_FILE_WRITE')
  );
}
