/** The training loop: batches in, steps, validation, checkpoints, log. Knows no command line. */
import { BatchStream, type Complete } from '../data/batches.js';
import type { Dataset } from '../data/dataset.js';
import { PictureDecoder } from '../data/decoder.js';
import { LtrpError, toLtrpError } from '../errors.js';
import { isUnreachable } from '../shards/shard.js';
import { loadSharp } from '../sharp.js';
import type { Evaluation, StoredType, Trainer, TrainingPicture } from '../trainer.js';
import { Divergence, divergedError, whySkipped } from './divergence.js';
import type { LogEntry, RunFolder } from './run-folder.js';
import type { RunLock } from './run-lock.js';

/** When to write checkpoints; the one after the last step is always written. */
export type Interval = { steps: number } | { seconds: number };

export interface LoopOptions {
  trainer: Trainer;
  folder: RunFolder;
  /** That of the folder. */
  lock: RunLock;
  dataset: Dataset;
  /** See {@link BatchStream}. */
  complete?: Complete | undefined;
  /** Whether it is given the digests of files. */
  digests: boolean;
  /** Held-out pictures, decoded; empty: no validation. */
  validation: readonly TrainingPicture[];
  /** Validation after every so many steps, before the first and after the last one. */
  validateEvery: number;
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
  const { trainer, folder, dataset, stop, onNotice } = options;
  const { steps, batchSize, seed } = trainer.options;
  await loadSharp(); // else every picture would count as unreadable
  const begin = performance.now();
  const firstStep = trainer.step;
  const divergence = new Divergence();
  let last: { step: number; figures: Evaluation } | null = null;
  const damaged = await folder.truncateLog(firstStep, (entry) => {
    divergence.see(entry);
    const figures = entry['validation'];
    if (typeof figures !== 'object' || figures === null) return;
    last = { step: entry.step, figures: figures as Evaluation };
  });
  if (damaged > 0) {
    onNotice(`${damaged} lines of ${folder.logPath} are no entries of a run; they are left out.`);
  }
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
    seed,
    firstBatch: firstStep,
    prefetch: options.prefetch,
    maxUnreadable: options.maxUnreadable,
    onUnreadable: options.onUnreadable,
  });
  let saved = firstStep > 0 ? firstStep : -1;
  const record = (entry: LogEntry): void => {
    folder.log(entry);
    options.onEntry(entry);
  };
  const save = async (): Promise<void> => {
    await options.lock.check();
    await saveCheckpoint(trainer, folder);
    saved = trainer.step;
    timer.restart();
  };
  const validate = async (): Promise<void> => {
    const due = trainer.step % options.validateEvery === 0 || trainer.step === steps;
    if (!due || options.validation.length === 0 || last?.step === trainer.step) return;
    let figures: Evaluation;
    try {
      figures = await trainer.evaluate(options.validation, { signal: stop });
    } catch (error) {
      if (stop.aborted) return; // the resumed run makes up for it
      throw error;
    }
    last = { step: trainer.step, figures };
    record({ step: trainer.step, validation: figures });
  };
  const step = async (): Promise<void> => {
    const waitedBefore = stream.waitedSeconds;
    const start = performance.now();
    const result = await trainer.trainStep(await stream.next());
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
      seconds: rounded(seconds),
    };
    record(entry);
    divergence.see(entry);
    const since = divergence.since(trainer.step >= steps);
    if (since === null) return;
    const error = divergedError(since, trainer.step, trainer.options.learningRate);
    folder.log({ step: trainer.step, divergedSince: since, message: error.message });
    throw error;
  };

  try {
    await validate();
    while (trainer.step < steps && !stop.aborted) {
      await step();
      await validate();
      // What is left out by and by shows whether the weights before were good: a checkpoint of them must not take the place of a
      // good one until then.
      if (timer.due(trainer.step) && divergence.isClear) await save();
    }
    if (saved !== trainer.step) await save();
    const finished = trainer.step >= steps;
    await exportModel(trainer, folder.modelPath, options.exportType);
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
    throw await savedBefore(cause, trainer.step > Math.max(saved, firstStep) ? save : null);
  } finally {
    stream.close();
  }
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
    throw new LtrpError(
      'ERR_LTRP_FILE_WRITE',
      `The model ${path} was not written as ${type}: ${message} All steps are saved; --resume --export-type float32 writes it.`,
      { cause },
    );
  }
}

class CheckpointTimer {
  readonly #interval: Interval;
  #since = performance.now();
  #due = false;

  constructor(interval: Interval) {
    this.#interval = interval;
  }

  /** Once it is due, it stays so until the next restart. */
  due(step: number): boolean {
    this.#due ||=
      'steps' in this.#interval
        ? step % this.#interval.steps === 0
        : performance.now() - this.#since >= this.#interval.seconds * 1000;
    return this.#due;
  }

  restart(): void {
    this.#due = false;
    this.#since = performance.now();
  }
}

/** Decodes the held-out pictures: the first `limit` of the data set's order, unreadable ones reported and left out. */
export async function decodeValidation(
  dataset: Dataset,
  options: {
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
  const count = Math.min(options.limit, dataset.size);
  const unreadable = new Set<string>();
  const pictures = await Promise.all(
    Array.from({ length: count }, async (_, position) => {
      const index = dataset.at(position, 0);
      const path = dataset.files[index] as string;
      try {
        const picture = await decoder.decode(path, options.signal);
        return (await options.complete?.(picture, index)) ?? picture;
      } catch (error) {
        options.signal.throwIfAborted();
        if (isUnreachable(error)) throw error;
        // Several crops of one picture.
        if (!unreadable.has(path)) options.onUnreadable(path, toLtrpError(error));
        if (unreadable.add(path).size > options.maxUnreadable * dataset.pictures) {
          throw new LtrpError(
            'ERR_LTRP_DATA_UNREADABLE',
            `${unreadable.size} of the validation images cannot be read, more than the allowed share of ` +
              `${options.maxUnreadable}, among them ${path}.`,
            { cause: error },
          );
        }
        return null;
      }
    }),
  );
  return pictures.filter((picture) => picture !== null);
}
