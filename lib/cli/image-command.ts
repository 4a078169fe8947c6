/** What the commands that work on images share: finding them, going on after failures, progress, exit codes. */
import { SingleBar } from 'cli-progress';
import { LtrpError, toLtrpError } from '../errors.js';
import { exitCodes } from './exit-codes.js';
import { expandImages, outputNames } from './image-arguments.js';
import { interruption, interruptSignal, isInterruption } from './interrupt.js';
import { mapOrdered, settled } from '../stream/ordered.js';

/** One image of a command's run. */
export interface ImageTask {
  file: string;
  /** Stem of the files written for it; differs from those of all other images of the run. */
  outputName: string;
  signal: AbortSignal;
  /** Share of this image's work that is done, 0 to 1. */
  onProgress: (share: number) => void;
}

/** A message for people on standard error, under the command's name. */
export function complain(message: string): void {
  process.stderr.write(`ltrp: ${message}\n`);
}

/** What was thrown, as one line: the sentence and, for programs that read along, its code. */
export function errorLine(error: unknown): string {
  const { code, message } = toLtrpError(error);
  return `${message} [${code}]`;
}

class Progress {
  #bar: SingleBar | undefined;
  /** Of the images that are begun and not done. */
  readonly #shares = new Map<number, number>();
  #done = 0;
  readonly #pending: string[] = [];

  constructor(label: string, images: number, quiet: boolean) {
    if (quiet || !process.stderr.isTTY) return;
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: `${label} {bar} {images}/${images} images, {eta_formatted} left`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      clearOnComplete: true,
      hideCursor: true,
      etaBuffer: 50,
    });
    this.#bar.start(images, 0, { images: 0 });
  }

  update(index: number, share: number): void {
    this.#shares.set(index, share);
    this.#show();
  }

  finished(index: number): void {
    this.#shares.delete(index);
    this.#done++;
    this.#show();
  }

  #show(): void {
    let shown = this.#done;
    for (const share of this.#shares.values()) shown += share;
    this.#bar?.update(shown, { images: this.#done });
  }

  /** Says it now, or after the bar, which would be torn otherwise. */
  complain(message: string): void {
    if (this.#bar === undefined) complain(message);
    else this.#pending.push(message);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    for (const message of this.#pending.splice(0)) complain(message);
  }
}

/** How a command goes through its images: an outcome for each, in their order. */
export type ImageRun<Result> = (
  tasks: readonly ImageTask[],
  signal: AbortSignal,
) => AsyncIterable<PromiseSettledResult<Result>>;

/** The run that does `work` on each image by itself, `concurrency` at a time: one computes while others are read and written. */
export function eachImage<Result>(
  concurrency: number,
  work: (task: ImageTask) => Promise<Result>,
): ImageRun<Result> {
  return (tasks, signal) => mapOrdered(tasks, { ahead: concurrency, signal }, settled(work));
}

/**
 * Runs a command on the images that `patterns` name and hands the results to `onResult` in order. Images that fail are named
 * on standard error and the others go on. Ctrl-C and SIGTERM end it after the results that are there.
 *
 * @returns how many images were done, and the exit code.
 */
export async function runOnImages<Result>(
  patterns: readonly string[],
  options: {
    label: string;
    /** No progress bar: standard output is for a program, and may be the same terminal. */
    quiet: boolean;
    run: ImageRun<Result>;
    onResult: (result: Result) => Promise<void>;
  },
): Promise<{ done: number; exitCode: number }> {
  const signal = interruptSignal();
  const { files, empty } = await expandImages(patterns);
  for (const pattern of empty) complain(`No image matches ${pattern}.`);
  if (files.length === 0) return { done: 0, exitCode: exitCodes.usage };
  const names = outputNames(files);
  const progress = new Progress(options.label, files.length, options.quiet);
  const tasks = files.map((file, index) => ({
    file,
    outputName: names[index] as string,
    signal,
    onProgress: (share: number) => {
      progress.update(index, Math.min(share, 0.999));
    },
  }));
  let index = 0;
  let done = 0;
  let failed = empty.length;
  try {
    for await (const outcome of options.run(tasks, signal)) {
      const file = files[index] as string;
      if (outcome.status === 'fulfilled') {
        await options.onResult(outcome.value);
        done++;
      } else {
        failed++;
        const error = toLtrpError(outcome.reason);
        const line = errorLine(error);
        progress.complain(line.includes(file) ? line : `${file}: ${line}`);
        // Nothing about the other images would be different.
        if (isFatal(error)) break;
      }
      progress.finished(index++);
    }
  } catch (error) {
    if (!isInterruption(error)) throw error;
  } finally {
    progress.stop();
  }
  const stopped = interruption();
  if (stopped !== undefined) {
    complain(`${stopped.word}; ${done} of ${files.length} images were done.`);
    return { done, exitCode: stopped.exitCode };
  }
  return { done, exitCode: failed > 0 ? exitCodes.failed : exitCodes.ok };
}

/** A full disk, a disposed model, no decoder: going on would only repeat the message. */
function isFatal(error: LtrpError): boolean {
  return ['ERR_LTRP_DISPOSED', 'ERR_LTRP_FILE_WRITE', 'ERR_LTRP_SHARP_LOAD'].includes(error.code);
}
