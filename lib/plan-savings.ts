import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { described } from './described.js';
import { notFound } from './errors.js';
import { checkSize } from './images.js';
import { decide, type Decision } from './plan/decide.js';
import { measure } from './plan/measure.js';
import { findRuntime } from './plan/runtime.js';
import { usableThreads } from './plan/threads.js';
import { pruneOnnx } from './prune-onnx.js';
import { keepCount } from './selection.js';
import { words } from './types.js';
import {
  checkInteger,
  checkOptions,
  checkPath,
  checkShare,
  checkSource,
  invalid,
  reading,
} from './validation.js';

export type { PlanCost, PlanShare } from './plan/decide.js';

/** Options of {@link planSavings}. */
export interface PlanOptions {
  /** Shares of the patches to measure, 1 to 16 of them, each in (0, 1). Default 0.75, 0.5, 0.25. */
  shares?: readonly number[] | undefined;
  /** The scorer: `'tiny'`, or the path of a ranker. Default `'tiny'`. */
  ranker?: string | undefined;
  /** Pictures of a run, an integer in [1, 1024]. Default 1. */
  batchSize?: number | undefined;
  /** Measured runs of each contender after three that are not, an integer in [4, 10000]. Default 20. */
  rounds?: number | undefined;
  /** Threads of the scorer and of onnxruntime, an integer in [1, 1024]. Default: the process's affinity, or the quota of its control group. */
  threads?: number | undefined;
  /** Pixels of a picture, for a model that leaves them open: one number for squares, or `[height, width]`. At least 1. Default 224. */
  size?: number | readonly [height: number, width: number] | undefined;
  /** Patches of a picture of that size, for a model that leaves its size open; an integer in [2, 1048576]. Default: what the model says. */
  patches?: number | undefined;
  /** Cancels the call, which then rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined;
}

const planKeys = words<keyof PlanOptions>()(
  'shares ranker batchSize rounds threads size patches signal',
);

/** What {@link planSavings} measured on this machine. */
export interface SavingsPlan extends Decision {
  /** Patches of a picture. */
  patches: number;
  /** Pictures of a run. */
  batchSize: number;
  /** Threads of the scorer and of onnxruntime. */
  threads: number;
  /** Rounds that medians are of. */
  rounds: number;
  /** Kinds of operators in the model whose operations could not be counted; then `flops` is null. */
  uncounted: string[];
}

/**
 * Measures on this machine whether fewer patches pay for a vision transformer in ONNX: the scorer (a ranker) and the model cut by
 * {@link pruneOnnx} at each share, against the full model. Nothing is estimated.
 *
 * - **Time.** In one process, the scorer, the full model and the cut one at each share take turns, after three runs of each that do not
 *   count. Scorer and model run one after the other, on the same number of threads, as in a program that calls both. Reading the picture is
 *   left out of all.
 * - **Memory.** The peak of a process for each contender; with fewer patches the scorer is in it.
 * - **Operations.** Of the scorer by its geometry, of the model by onnxruntime's profile of a run.
 *
 * It needs room for a copy of the model in the system's folder for temporary files.
 *
 * @param model - path of the ONNX model, which takes pictures alone.
 * @throws {LtrpError} `ERR_LTRP_UNSUPPORTED` (onnxruntime-node is not installed, or does not run the model; the model cannot be cut),
 *   `ERR_LTRP_INVALID_ARGUMENT`, and what {@link pruneOnnx} and {@link PatchRanker.load} report; or the signal's reason.
 *
 * @example
 * ```ts
 * const { shares } = await planSavings('vit.onnx', { shares: [0.5, 0.25] });
 * if (!shares.some(({ pays }) => pays)) console.log('Keep all patches.');
 * ```
 */
export async function planSavings(model: string, options?: PlanOptions): Promise<SavingsPlan> {
  const checked = checkOptions(options, planKeys);
  const { ranker = 'tiny', batchSize = 1, rounds = 20, signal } = checked;
  const { threads = usableThreads(), size: pixels = 224 } = checked;
  checkPath('model', model, 'a path');
  checkSource('ranker', ranker);
  checkInteger('batchSize', batchSize, 1, 1024);
  checkInteger('rounds', rounds, 4, 10_000);
  checkInteger('threads', threads, 1, 1024);
  checkInteger('patches', checked.patches, 2, 2 ** 20);
  const shares = readShares(checked.shares);
  const size = checkSize(pixels);
  signal?.throwIfAborted();
  const path = resolve(model);
  await stat(path).catch((cause: unknown) => {
    throw notFound(`There is no model ${model}.`, cause);
  });
  const runtime = findRuntime();
  const folder = await mkdtemp(join(tmpdir(), 'ltrp-plan-'));
  try {
    const cut = join(folder, 'keep.onnx');
    const { idsName, patches } = await pruneOnnx(path, cut, { signal });
    const all = checked.patches ?? patches;
    if (all === null)
      throw invalid('patches must be given: this model takes pictures of any size.');
    if (patches !== null && all !== patches)
      throw invalid(`patches must be ${patches}, which the model has; got ${all}.`);
    const setting = { runtime, model: path, pruned: cut, idsName, ranker, threads, batchSize };
    const keeps = shares.map((share) => keepCount(all, share));
    const measured = await measure({ ...setting, size, keeps, patches: all }, shares, {
      rounds,
      folder,
      signal,
    });
    const { uncounted } = measured;
    return { ...decide(measured), patches: all, batchSize, threads, rounds, uncounted };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function readShares(shares: unknown): number[] {
  if (shares === undefined) return [0.75, 0.5, 0.25];
  const list = reading('shares', () =>
    Array.isArray(shares) && shares.length <= 16 ? Array.from(shares as unknown[]) : [],
  );
  if (list.length === 0)
    throw invalid(`shares must be an array of 1 to 16 numbers; got ${described(shares)}.`);
  for (const share of list) {
    if (share === undefined) throw invalid('shares must be numbers in (0, 1); got undefined.');
    checkShare('shares', share, '(0, 1)');
  }
  return [...new Set(list as number[])].sort((a, b) => b - a);
}
