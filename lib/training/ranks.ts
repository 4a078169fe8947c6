/** This process among those that train one model together: what they tell each other, and how it ends. */
import { availableParallelism } from 'node:os';
import { runJob } from '../native/job.js';
import type { CoreBinding, NativeRanks } from '../native/binding.js';
import type { RankPlace } from './rank-place.js';

/** All ranks call {@link exchange} and the trainer alike, or they wait for each other for ever. */
export interface Ranks {
  readonly rank: number;
  readonly size: number;
  /** Whether this is the one that writes, and speaks to people. */
  readonly leads: boolean;
  /** What each rank has given, by rank. */
  exchange<T>(own: T): Promise<T[]>;
  /** Runs something that waits for other ranks: of a process that was told to stop, only for some seconds. */
  together<T>(run: () => Promise<T>): Promise<T>;
  /** Why this process is about to end; the others are told so. */
  fail(message: string): void;
  leave(): Promise<void>;
}

/** The one process there is. */
export const alone: Ranks = {
  rank: 0,
  size: 1,
  leads: true,
  exchange: (own) => Promise.resolve([own]),
  together: (run) => run(),
  fail: () => undefined,
  leave: () => Promise.resolve(),
};

/** Seconds that a process which was told to stop waits for others: less than torchrun, Slurm and Kubernetes wait for it. */
const patience = 20;

export interface JoinOptions extends Pick<
  NativeRanks,
  'timeout' | 'joinTimeout' | 'reduction' | 'bucketBytes' | 'device'
> {
  /** Aborted when this process is to stop. */
  stop: AbortSignal;
  /** Its exit code then. */
  stopCode: () => number;
}

/** @throws {LtrpError} `ERR_LTRP_RENDEZVOUS`, `ERR_LTRP_UNSUPPORTED`. */
export async function joinRanks(
  core: CoreBinding,
  { rank, size, host, port, hostsStore, storeOwner, errorFile }: RankPlace,
  { stop, stopCode, ...options }: JoinOptions,
): Promise<Ranks> {
  const place = { rank, size, host, port, hostsStore, storeOwner, errorFile };
  await runJob(core, { signal: stop }, (job) => core.joinRanks(job, { ...place, ...options }));

  let reason = 'its process ended';
  let waitingSince: number | undefined;
  // Before the listener of the loader, which waits for the compute thread, and that one for other ranks.
  const ended = (code: number): void => core.endRanks(reason, code === 0 ? 1 : code);
  process.prependListener('exit', ended);
  let timer: NodeJS.Timeout | undefined;
  stop.addEventListener('abort', () => {
    timer = setInterval(() => {
      if (waitingSince === undefined || performance.now() - waitingSince < patience * 1000) return;
      reason = `it was told to stop, and other ranks kept it waiting for ${patience} s`;
      process.exit(stopCode());
    }, 500);
    timer.unref();
    if (waitingSince !== undefined) waitingSince = performance.now();
  });

  const together = async <T>(run: () => Promise<T>): Promise<T> => {
    waitingSince = performance.now();
    try {
      return await run();
    } finally {
      waitingSince = undefined;
    }
  };
  return {
    rank,
    size,
    leads: rank === 0,
    together,
    exchange: async <T>(own: T) => {
      const text = JSON.stringify(own);
      const texts = await together(() => runJob(core, {}, (job) => core.exchangeRanks(job, text)));
      return texts.map((each) => JSON.parse(each) as T);
    },
    fail: (message) => {
      reason = message;
    },
    leave: async () => {
      await runJob(core, {}, (job) => core.leaveRanks(job));
      process.removeListener('exit', ended);
      clearInterval(timer);
    },
  };
}

/** Threads for each of so many processes on this machine. */
export const threadsEach = (processes: number): number =>
  Math.max(1, Math.floor(availableParallelism() / processes));
