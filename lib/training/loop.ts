/** The training loop: batches in, steps, validation, checkpoints, log. Knows no command line. */
import { BatchStream } from '../data/batches.js';
import type { Dataset } from '../data/dataset.js';
import { PictureDecoder } from '../data/decoder.js';
import { LtrpError, toLtrpError } from '../errors.js';
import { loadSharp } from '../sharp.js';
import type { Evaluation, StoredType, Trainer, TrainingPicture } from '../trainer.js';
import type { LogEntry, RunFolder } from './run-folder.js';

/** When to write checkpoints; the one after the last step is always written. */
export type Interval = { steps: number } | { seconds: number };

export interface LoopOptions {
  trainer: Trainer;
  folder: RunFolder;
  dataset: Dataset;
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
  validation: Evaluation | null;
  /** The newest checkpoint. */
  checkpoint: string;
  /** The exported model; null when stopped before the end. */
  model: string | null;
}

/** Trains until the last step or until `stop`; resumable at any time from the newest checkpoint in the folder. */
export async function runTraining(options: LoopOptions): Promise<LoopResult> {
  const { trainer, folder, dataset, stop } = options;
  const { steps, batchSize, seed } = trainer.options;
  await loadSharp(); // else every picture would count as unreadable
  const begin = performance.now();
  const firstStep = trainer.step;
  let last = await folder.truncateLog(firstStep).then((entries) => newestValidation(entries));
  let validation: Evaluation | null = last?.figures ?? null;
  const timer = new CheckpointTimer(options.checkpointEvery);
  const stream = new BatchStream({
    dataset,
    decoder: new PictureDecoder({
      shortSide: options.decodeSize,
      cacheBytes: options.cacheBytes,
      concurrency: options.decodeConcurrency,
    }),
    batchSize,
    seed,
    firstBatch: firstStep,
    prefetch: options.prefetch,
    maxUnreadable: options.maxUnreadable,
    onUnreadable: options.onUnreadable,
  });
  let saved = -1;
  const record = (entry: LogEntry): void => {
    folder.log(entry);
    options.onEntry(entry);
  };
  const save = async (): Promise<void> => {
    await saveCheckpoint(trainer, folder);
    saved = trainer.step;
    timer.restart();
  };
  const validate = async (): Promise<void> => {
    const due = trainer.step % options.validateEvery === 0 || trainer.step === steps;
    if (!due || options.validation.length === 0 || last?.step === trainer.step) return;
    try {
      validation = await trainer.evaluate(options.validation, { signal: stop });
    } catch (error) {
      if (stop.aborted) return; // the resumed run makes up for it
      throw error;
    }
    last = { step: trainer.step, figures: validation };
    record({ step: trainer.step, validation });
  };

  try {
    await validate();
    while (trainer.step < steps && !stop.aborted) {
      const waitedBefore = stream.waitedSeconds;
      const start = performance.now();
      const pictures = await stream.next();
      const result = await trainer.trainStep(pictures);
      const seconds = (performance.now() - start) / 1000;
      record({
        step: result.step,
        loss: result.loss,
        learningRate: result.learningRate,
        gradientNorm: result.gradientNorm,
        epoch: Number(((result.step * batchSize) / dataset.size).toFixed(4)),
        imagesPerSecond: rounded(batchSize / seconds),
        dataWait: rounded((stream.waitedSeconds - waitedBefore) / seconds),
        augmentSeconds: rounded(result.augmentSeconds),
        teacherSeconds: rounded(result.teacherSeconds),
        seconds: rounded(seconds),
      });
      await validate();
      if (timer.due(trainer.step)) await save();
    }
    if (saved !== trainer.step && (trainer.step > firstStep || firstStep === 0)) await save();
    const finished = trainer.step >= steps;
    if (finished) await trainer.exportModel(folder.modelPath, options.exportType);
    const seconds = (performance.now() - begin) / 1000;
    return {
      status: finished ? 'finished' : 'stopped',
      step: trainer.step,
      steps: trainer.step - firstStep,
      seconds,
      dataWait: stream.waitedSeconds / seconds,
      unreadable: stream.unreadable.length,
      validation,
      checkpoint: folder.checkpointPath(trainer.step),
      model: finished ? folder.modelPath : null,
    };
  } finally {
    stream.close();
  }
}

const rounded = (value: number): number => Number(value.toPrecision(4));

function newestValidation(
  entries: readonly LogEntry[],
): { step: number; figures: Evaluation } | null {
  const entry = entries.findLast((line) => 'validation' in line);
  return entry ? { step: entry.step, figures: entry['validation'] as Evaluation } : null;
}

async function saveCheckpoint(trainer: Trainer, folder: RunFolder): Promise<void> {
  const path = folder.checkpointPath(trainer.step);
  try {
    await trainer.save(path);
  } catch (cause) {
    const error = toLtrpError(cause);
    const previous = folder.checkpoints().find((checkpoint) => checkpoint.path !== path);
    const remedy = previous
      ? `the checkpoint before it is whole (${previous.path}): make room and continue with --resume`
      : 'there is no earlier checkpoint';
    throw new LtrpError(
      error.code,
      `The checkpoint ${path} was not written: ${error.message.replace(/\.$/, '')}; ${remedy}.`,
      { cause },
    );
  }
  await folder.rotate();
}

class CheckpointTimer {
  readonly #interval: Interval;
  #since = performance.now();

  constructor(interval: Interval) {
    this.#interval = interval;
  }

  due(step: number): boolean {
    if ('steps' in this.#interval) return step % this.#interval.steps === 0;
    return performance.now() - this.#since >= this.#interval.seconds * 1000;
  }

  restart(): void {
    this.#since = performance.now();
  }
}

/** Decodes the held-out pictures: the first `limit` of the data set's order, unreadable ones reported and left out. */
export async function decodeValidation(
  dataset: Dataset,
  options: {
    limit: number;
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
  let unreadable = 0;
  const pictures = await Promise.all(
    Array.from({ length: count }, async (_, position) => {
      const path = dataset.files[dataset.at(position, 0)] as string;
      try {
        return await decoder.decode(path, options.signal);
      } catch (error) {
        options.signal.throwIfAborted();
        options.onUnreadable(path, toLtrpError(error));
        if (++unreadable > options.maxUnreadable * dataset.size) {
          throw new LtrpError(
            'ERR_LTRP_DATA_UNREADABLE',
            `${unreadable} of the validation images cannot be read, more than the allowed share of ` +
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
