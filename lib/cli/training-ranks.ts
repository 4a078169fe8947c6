/** A training command as one of several processes. */
import { loadCore } from '../native/loader.js';
import { conflict } from '../errors.js';
import { rankPlace, slurmHint } from '../training/rank-place.js';
import { alone, joinRanks, type Ranks } from '../training/ranks.js';
import type { Device } from '../types.js';
import { exitCodes } from './exit-codes.js';
import { interruption } from './interrupt.js';
import type { NativeOptions, RunConfig } from './run-config.js';
import type { TrainingSettings } from './training-options.js';

/** The ranks that the environment speaks of, and what follows from it for this one. */
export interface RankedCommand {
  ranks: Ranks;
  /** Sentences for people. */
  notes: string[];
  /** In place of the command's own. */
  settings: { device?: Device | undefined; decodeThreads?: number };
}

/**
 * Waits until all ranks have come. A process that trains alone gets {@link alone} at once.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` (variables), `ERR_LTRP_RENDEZVOUS`.
 */
export async function openRanks(
  given: TrainingSettings,
  isGiven: (name: string) => boolean,
  stop: AbortSignal,
): Promise<RankedCommand> {
  const place = rankPlace(process.env);
  if (place === null) {
    const hint = slurmHint(process.env);
    return { ranks: alone, notes: hint === null ? [] : [hint], settings: {} };
  }
  // Else c10d adds its own stack to what is said of a connection that is closed.
  process.env['TORCH_CPP_LOG_LEVEL'] ??= 'ERROR';
  const core = await loadCore({ libtorch: given.libtorch });
  if (given.threads !== undefined) core.setThreads(given.threads);
  const { devices, autoDevice, threads } = core.info();
  const { device = 'auto' } = given;
  const onGpus = device === 'cuda' || (device === 'auto' && autoDevice.startsWith('cuda'));
  // Each has a GPU of its own, where a system does not show it that one alone.
  const gpus = devices.filter((name) => name.startsWith('cuda:'));
  const own = (
    onGpus ? (gpus[place.localRank % Math.max(1, gpus.length)] ?? 'cuda') : device
  ) as Device;
  const ranks = await joinRanks(core, place, {
    timeout: given.rankTimeout,
    joinTimeout: given.joinTimeout,
    reduction: given.reduce,
    bucketBytes: given.bucketSize,
    device: own === 'auto' ? 'cpu' : own,
    stop,
    stopCode: () => interruption()?.exitCode ?? exitCodes.interrupted,
  });
  return {
    ranks,
    notes: [
      `${ranks.size} ranks, ${threads} ${threads === 1 ? 'thread' : 'threads'} in each; ${given.reduce} sums of gradients`,
    ],
    settings: {
      device: own,
      ...(!isGiven('decodeThreads') && {
        decodeThreads: Math.max(1, Math.floor(given.decodeThreads / place.localSize)),
      }),
    },
  };
}

/**
 * Sees to it that all ranks are about to do the same.
 *
 * @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT`, on all of them.
 */
export async function checkAlike(
  ranks: Ranks,
  run: { options: NativeOptions; data: RunConfig['data']; settings: TrainingSettings },
): Promise<void> {
  const { val = [], valScores, valCount, valEvery } = run.settings;
  // Places may differ, and what only changes how it is computed.
  const free = ['init', 'teacher', 'selectorModel', 'microBatchSize', 'memoryBudget'];
  const options = Object.entries(run.options).filter(([name]) => !free.includes(name));
  const own = {
    'options are': options,
    'pictures are': run.data,
    'validation is': [val.length, valScores !== undefined, valCount, valEvery],
  };
  const [lead, ...others] = await ranks.exchange(own);
  for (const [i, other] of others.entries()) {
    for (const [what, value] of Object.entries(other)) {
      if (JSON.stringify(value) === JSON.stringify(lead?.[what as keyof typeof own])) continue;
      await ranks.leave(); // all of them come to this
      throw conflict(
        `All ranks must train the same: the ${what} not those of rank 0 on rank ${i + 1}. Start all of them with the same command and the same pictures.`,
      );
    }
  }
}
