/** The training loop: batches in, steps, validation, checkpoints, log. Knows no command line. */
import { BatchStream, type Complete } from '../data/batches.js';
import type { Dataset } from '../data/dataset.js';
import { PictureDecoder } from '../data/decoder.js';
import {
  LtrpError,
  toLtrpError,
  type LtrpErrorCode,
  unwritable,
  dataUnreadable,
} from '../errors.js';
import { isUnreachable } from '../shards/shard.js';
import { loadSharp } from '../sharp.js';
import type { Evaluation, Trainer, TrainingPicture } from '../trainer.js';
import type { StoredType } from '../types.js';
import { Divergence, divergedError, whySkipped } from './divergence.js';
import type { Ranks } from './ranks.js';
import type { LogEntry, RunFolder } from './run-folder.js';
import type { RunLock } from './run-lock.js';

/** When to write checkpoints; the one after the last step is always written. */
export type Interval = { steps: number } | { seconds: number };

export interface LoopOptions {
  trainer: Trainer;
  /** The processes that train it; the one that leads alone writes to the folder. */
  ranks: Ranks;
  folder: RunFolder;
  /** That of the folder, of the process that leads. */
  lock: RunLock | undefined;
  dataset: Dataset;
  /** See {@link BatchStream}. */
  complete?: Complete | undefined;
  /** Whether it is given the digests of files. */
  digests: boolean;
  /** Held-out pictures, decoded; empty: no validation. */
  validation: readonly TrainingPicture[];
  /** Validation after every so many steps, before the first and after the last one. */
  validateEvery: number;
  /** Whether the run was validated with other pictures before, so that its last figures do not count. */
  otherValidation: boolean;
  checkpointEvery: Interval;
  exportType: StoredType;
  /** Pixels; see PictureDecoder. */
  decodeSize: number;
  cacheBytes: number;
  decodeConcurrency: number;
  prefetch: number;
  maxUnreadable: number;
  /** Aborted: finish the running step, save, return. */
  stop: AbortSignal;
  onEntry: (entry: LogEntry) => void;
  onUnreadable: (path: string, error: LtrpError) => void;
  /** A sentence for people. */
  onNotice: (sentence: string) => void;
}

export interface LoopResult {
  status: 'finished' | 'stopped';
  step: number;
  /** Steps of this process, not of the runs it continues. */
  steps: number;
  seconds: number;
  /** Share of the time in which the compute thread waited for pictures. */
  dataWait: number;
  unreadable: number;
  /** Records of shards that are lost by damage. */
  lost: number;
  /** Steps of the whole run that were not applied because loss or gradient was not finite. */
  skipped: number;
  validation: Evaluation | null;
  /** The newest checkpoint. */
  checkpoint: string;
  /** The exported model; when stopped before the end, as it is then. */
  model: string;
}

/** Trains until the last step or until `stop`; resumable at any time from the newest checkpoint in the folder. */
export async function runTraining(options: LoopOptions): Promise<LoopResult> {
  const { trainer, ranks, folder, dataset, stop, onNotice } = options;
  const { steps, batchSize, seed } = trainer.options;
  await loadSharp(); // else every picture would count as unreadable
  const begin = performance.now();
  const firstStep = trainer.step;
  const divergence = new Divergence();
  let last: { step: number; figures: Evaluation } | null = null;
  const history: LogEntry[] = [];
  if (ranks.leads) {
    const damaged = await folder.truncateLog(firstStep, (entry) => {
      divergence.see(entry);
      if (ranks.size > 1 && 'loss' in entry && history.push(entry) > 20) history.shift();
      const figures = entry['validation'];
      if (typeof figures !== 'object' || figures === null) return;
      last = { step: entry.step, figures: figures as Evaluation };
    });
    if (damaged > 0) {
      onNotice(`${damaged} lines of ${folder.logPath} are not log entries; they are skipped.`);
    }
  }
  // All judge alike whether to validate, and whether the run has diverged.
  const [lead] = await ranks.exchange({ last, history });
  if (lead !== undefined && !ranks.leads) {
    last = lead.last;
    for (const entry of lead.history) divergence.see(entry);
  }
  if (options.otherValidation) last = null;
  const timer = new CheckpointTimer(options.checkpointEvery);
  const stream = new BatchStream({
    dataset,
    complete: options.complete,
    decoder: new PictureDecoder({
      shortSide: options.decodeSize,
      cacheBytes: options.cacheBytes,
      concurrency: options.decodeConcurrency,
      digests: options.digests,
    }),
    batchSize,
    part: trainer.part,
    seed,
    firstBatch: firstStep,
    prefetch: options.prefetch,
    maxUnreadable: options.maxUnreadable,
    onUnreadable: options.onUnreadable,
  });
  let saved = firstStep > 0 ? firstStep : -1;
  const record = (entry: LogEntry): void => {
    if (ranks.leads) folder.log(entry);
    options.onEntry(entry);
  };
  const save = async (): Promise<void> => {
    if (!ranks.leads) return;
    await options.lock?.check();
    await saveCheckpoint(trainer, folder);
    saved = trainer.step;
    timer.restart();
  };
  const validate = async (): Promise<void> => {
    const due = trainer.step % options.validateEvery === 0 || trainer.step === steps;
    if (!due || !validates || last?.step === trainer.step) return;
    let figures: Evaluation;
    try {
      // One that left the others alone in it would keep them waiting.
      const signal = ranks.size === 1 ? stop : undefined;
      figures = await ranks.together(() => trainer.evaluate(options.validation, { signal }));
    } catch (error) {
      if (stop.aborted) return; // the resumed run makes up for it
      throw error;
    }
    last = { step: trainer.step, figures };
    record({ step: trainer.step, validation: figures });
  };
  const validates = (await ranks.exchange(options.validation.length)).some((count) => count > 0);
  const step = async (): Promise<boolean> => {
    const waitedBefore = stream.waitedSeconds;
    const start = performance.now();
    const pictures = await nextOfAll(ranks, stream, stop);
    if (pictures === null) return false;
    const result = await ranks.together(() => trainer.trainStep(pictures));
    const seconds = (performance.now() - start) / 1000;
    const entry = {
      step: result.step,
      ...(!result.applied && { skipped: whySkipped(result) }),
      loss: result.loss,
      learningRate: result.learningRate,
      gradientNorm: result.gradientNorm,
      epoch: Number(((result.step * batchSize) / dataset.size).toFixed(4)),
      imagesPerSecond: rounded(batchSize / seconds),
      dataWait: rounded((stream.waitedSeconds - waitedBefore) / seconds),
      augmentSeconds: rounded(result.augmentSeconds),
      teacherSeconds: rounded(result.teacherSeconds),
      ...(ranks.size > 1 && { sumSeconds: rounded(result.sumSeconds) }),
      seconds: rounded(seconds),
    };
    record(entry);
    divergence.see(entry);
    const since = divergence.since(trainer.step >= steps);
    if (since === null) return true;
    const error = divergedError(since, trainer.step, trainer.options.learningRate);
    if (ranks.leads)
      folder.log({ step: trainer.step, divergedSince: since, message: error.message });
    throw error;
  };

  try {
    await validate();
    while (trainer.step < steps && (await step())) {
      await validate();
      // What is left out by and by shows whether the weights before were good: a checkpoint of them must not take the place of a
      // good one until then.
      if (timer.due(trainer.step) && divergence.isClear) await save();
    }
    if (saved !== trainer.step) await save();
    const finished = trainer.step >= steps;
    if (ranks.leads) await exportModel(trainer, folder.modelPath, options.exportType);
    const seconds = (performance.now() - begin) / 1000;
    return {
      status: finished ? 'finished' : 'stopped',
      step: trainer.step,
      steps: trainer.step - firstStep,
      seconds,
      dataWait: stream.waitedSeconds / seconds,
      unreadable: stream.unreadable.length,
      lost: dataset.lost,
      skipped: divergence.count,
      validation: (last as { figures: Evaluation } | null)?.figures ?? null,
      checkpoint: folder.checkpointPath(trainer.step),
      model: folder.modelPath,
    };
  } catch (cause) {
    // All of them have come to this: the one that leads may still save.
    if (!ranks.leads && agreed.includes(toLtrpError(cause).code)) await ranks.leave();
    throw await savedBefore(cause, trainer.step > Math.max(saved, firstStep) ? save : null);
  } finally {
    stream.close();
  }
}

/** What ends all ranks at the same step. */
const agreed: readonly LtrpErrorCode[] = ['ERR_LTRP_DATA_UNREADABLE', 'ERR_LTRP_DIVERGED'];

/**
 * This process' pictures of the next batch; null when one of the processes was told to stop, and so all of them do. What one of
 * them could not read all take note of, and what was too much for one ends all.
 */
async function nextOfAll(
  ranks: Ranks,
  stream: BatchStream,
  stop: AbortSignal,
): Promise<TrainingPicture[] | null> {
  if (ranks.size === 1) return stop.aborted ? null : stream.next();
  const own = await stream.next().then(
    (pictures) => ({ pictures, failure: null }),
    (error: unknown) => {
      const { code, message } = toLtrpError(error);
      return { pictures: [], failure: { code, message } };
    },
  );
  const all = await ranks.exchange({
    failure: own.failure,
    stops: stop.aborted,
    refused: stream.takeRefused(),
  });
  for (const { refused } of all) stream.refuseToo(refused);
  const failure = all.find((each) => each.failure !== null)?.failure;
  if (failure) throw new LtrpError(failure.code, failure.message);
  return all.some(({ stops }) => stops) ? null : own.pictures;
}

/** The steps since the last checkpoint are worth saving, unless the disk is full or the weights are bad. */
async function savedBefore(cause: unknown, save: (() => Promise<void>) | null): Promise<unknown> {
  const error = toLtrpError(cause);
  if (error.code === 'ERR_LTRP_FILE_WRITE' || error.code === 'ERR_LTRP_DIVERGED') return cause;
  const saved =
    save === null ||
    (await save().then(
      () => true,
      () => false,
    ));
  if (!saved || error.code !== 'ERR_LTRP_DATA_UNREADABLE') return cause;
  return new LtrpError(
    error.code,
    `${error.message} What was trained is saved: --resume continues, with a larger --max-unreadable or once they can be read.`,
    { cause },
  );
}

const rounded = (value: number): number => Number(value.toPrecision(4));

async function saveCheckpoint(trainer: Trainer, folder: RunFolder): Promise<void> {
  const path = folder.checkpointPath(trainer.step);
  try {
    await trainer.save(path);
  } catch (cause) {
    const error = toLtrpError(cause);
    const previous = folder.checkpoints().find((checkpoint) => checkpoint.path !== path);
    const next =
      error.code === 'ERR_LTRP_DIVERGED'
        ? 'continue with --resume and a lower --learning-rate'
        : 'make room and continue with --resume';
    const remedy = previous
      ? `the checkpoint before it is whole (${previous.path}): ${next}`
      : 'there is no earlier checkpoint';
    throw new LtrpError(
      error.code,
      `The checkpoint ${path} was not written: ${error.message.replace(/\.$/, '')}; ${remedy}.`,
      { cause },
    );
  }
  await folder.rotate();
}

async function exportModel(trainer: Trainer, path: string, type: StoredType): Promise<void> {
  try {
    await trainer.exportModel(path, type);
  } catch (cause) {
    const { code, message } = toLtrpError(cause);
    // Of weights that training made: no fault of the command line.
    if (code !== 'ERR_LTRP_INVALID_ARGUMENT') throw cause;
    throw unwritable(
      `The model ${path} was not written as ${type}: ${message} All steps are saved; --resume --export-type float32 writes it.`,
      cause,
    );
  }
}

class CheckpointTimer {
  #since = performance.now();
  #due = false;

  constructor(private readonly interval: Interval) {}

  /** Once it is due, it stays so until the next restart. */
  due(step: number): boolean {
    this.#due ||=
      'steps' in this.interval
        ? step % this.interval.steps === 0
        : performance.now() - this.#since >= this.interval.seconds * 1000;
    return this.#due;
  }

  restart(): void {
    this.#due = false;
    this.#since = performance.now();
  }
}

/**
 * Decodes the held-out pictures: the first `limit` of the data set's order, unreadable ones reported and left out. Each rank has
 * some of them, which follow those of the ranks before it.
 */
export async function decodeValidation(
  dataset: Dataset,
  options: {
    ranks: Ranks;
    limit: number;
    complete?: Complete | undefined;
    digests: boolean;
    shortSide: number;
    concurrency: number;
    maxUnreadable: number;
    signal: AbortSignal;
    onUnreadable: (path: string, error: LtrpError) => void;
  },
): Promise<TrainingPicture[]> {
  await loadSharp(); // else every picture would count as unreadable
  const decoder = new PictureDecoder({ ...options, cacheBytes: 0 });
  const { ranks } = options;
  const count = Math.min(options.limit, dataset.size);
  const first = Math.floor((count * ranks.rank) / ranks.size);
  const end = Math.floor((count * (ranks.rank + 1)) / ranks.size);
  const unreadable = new Map<string, { index: number; message: string }>();
  const pictures = await Promise.all(
    Array.from({ length: end - first }, async (_, i) => {
      const index = dataset.at(first + i, 0);
      const path = dataset.files[index] as string;
      try {
        const picture = await decoder.decode(path, options.signal);
        return (await options.complete?.(picture, index)) ?? picture;
      } catch (error) {
        options.signal.throwIfAborted();
        if (isUnreachable(error)) throw error;
        // Several crops of one picture.
        if (unreadable.has(path)) return null;
        unreadable.set(path, { index, message: toLtrpError(error).message });
        if (ranks.leads) options.onUnreadable(path, toLtrpError(error));
        return null;
      }
    }),
  );
  for (const [rank, refused] of (await ranks.exchange([...unreadable.values()])).entries()) {
    for (const { index, message } of refused) {
      const path = dataset.files[index] as string;
      if (rank > 0 && ranks.leads && !unreadable.has(path))
        options.onUnreadable(path, dataUnreadable(message));
      unreadable.set(path, { index, message });
    }
  }
  if (unreadable.size > options.maxUnreadable * dataset.pictures) {
    const [path] = unreadable.keys();
    throw dataUnreadable(
      `${unreadable.size} of the validation images cannot be read, more than the allowed share of ` +
        `${options.maxUnreadable}, among them ${path}.`,
    );
  }
  return pictures.filter((picture) => picture !== null);
}
