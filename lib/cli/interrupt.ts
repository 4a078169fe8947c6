/** Ctrl-C, SIGTERM and a terminal that is closed as one AbortSignal: a command that asks for it ends in order, with what is done kept. */
import { setMaxListeners } from 'node:events';
import { LtrpError } from '../errors.js';
import { exitCodes } from './exit-codes.js';

const signals = {
  SIGINT: { exitCode: exitCodes.interrupted, word: 'Interrupted' },
  SIGTERM: { exitCode: exitCodes.terminated, word: 'Terminated' },
  SIGHUP: { exitCode: exitCodes.hungUp, word: 'Hung up' },
} as const;
type Name = keyof typeof signals;

/** `timeout` and npm send a signal to the process and to its group: signals within this time are one request. */
const sameRequest = 500; // milliseconds

let controller: AbortController | undefined;
let received: { name: Name; at: number } | undefined;

/** The signal that these abort. The second of them ends the process at once. */
export function interruptSignal(): AbortSignal {
  if (controller === undefined) {
    const created = new AbortController();
    // Every picture that is being decoded listens; Node would call eleven of them a leak.
    setMaxListeners(0, created.signal);
    controller = created;
    for (const name of Object.keys(signals) as Name[]) {
      process.on(name, () => {
        if (received !== undefined) {
          if (performance.now() - received.at > sameRequest) process.exit(signals[name].exitCode);
          return;
        }
        received = { name, at: performance.now() };
        created.abort();
      });
    }
  }
  return controller.signal;
}

/** After one of them: its name, the exit code, and the word for it that begins a sentence. */
export function interruption(): { name: Name; exitCode: number; word: string } | undefined {
  return received && { name: received.name, ...signals[received.name] };
}

/** {@link interruption}, where `error` says no more than that. A failed write is still reported. */
export const interruptionBy = (error: unknown): ReturnType<typeof interruption> =>
  error instanceof LtrpError && error.code === 'ERR_LTRP_FILE_WRITE' ? undefined : interruption();
