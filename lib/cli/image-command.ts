/** Shared by the commands that work on images: finding them, continuing after failures, progress, exit codes. */
import { SingleBar } from 'cli-progress';
import { toLtrpError, type LtrpError } from '../errors.js';
import { exitCodes } from './exit-codes.js';
import { expandImages, printable, type ExpandedImages } from './image-arguments.js';
import { interruption, interruptionBy } from './interrupt.js';
import { inOptions } from './option-names.js';
import type { OutputName } from './output-folder.js';
import { toldOnce, type ShardOptions } from '../shards/shard.js';
import { mapOrdered, settled } from '../stream/ordered.js';

/** One image of a command's run. */
export interface ImageTask {
  file: string;
  /** Of the files written for it. */
  output: OutputName;
  signal: AbortSignal;
  /** Share of this image's work that is done, 0 to 1. */
  onProgress: (share: number) => void;
}

/** A message for people on standard error, under the command's name. */
export function complain(message: string): void {
  process.stderr.write(`ltrp: ${message}\n`);
}

/** An error as one line: its sentence in the command's words, and its code for programs. */
export function errorLine(error: unknown): string {
  const { code, message } = toLtrpError(error);
  return `${inOptions(message)} [${code}]`;
}

/** The images that `names` stand for; reports skipped files and names without images. */
export async function findImages(
  names: readonly string[],
  options: ShardOptions = {},
): Promise<ExpandedImages> {
  const images = await expandImages(names, options);
  if (images.files.length > 0) {
    for (const sentence of images.passedOver) complain(printable(sentence));
  }
  for (const problem of images.problems) complain(printable(errorLine(problem)));
  return images;
}

class Progress {
  #bar: SingleBar | undefined;
  /** Of the images in progress. */
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

/** Runs `work` on each image separately, `concurrency` at a time: one computes while others are read and written. */
export function eachImage<Result>(
  concurrency: number,
  work: (task: ImageTask) => Promise<Result>,
): ImageRun<Result> {
  return (tasks, signal) => mapOrdered(tasks, { ahead: concurrency, signal }, settled(work));
}

/**
 * Runs a command on `images` and hands the results to `onResult` in order. Images that fail are named on standard error and the
 * others go on. Ctrl-C and SIGTERM end it after the results that are there.
 *
 * @returns how many images were done, and the exit code.
 */
export async function runOnImages<Result>(
  { files, problems }: ExpandedImages,
  options: {
    label: string;
    /** No progress bar: standard output is for a program, and may be the same terminal. */
    quiet: boolean;
    /** One for each file; none if no files are written. */
    outputs: readonly OutputName[];
    signal: AbortSignal;
    run: ImageRun<Result>;
    onResult: (result: Result, task: ImageTask) => Promise<void>;
  },
): Promise<{ done: number; exitCode: number }> {
  const { outputs, signal } = options;
  const progress = new Progress(options.label, files.length, options.quiet);
  const tasks = files.map(({ path }, index) => ({
    file: path,
    output: outputs[index] ?? nowhere,
    signal,
    onProgress: (share: number) => progress.update(index, Math.min(share, 0.999)),
  }));
  let index = 0;
  let done = 0;
  let failed = problems.length;
  try {
    for await (const outcome of options.run(tasks, signal)) {
      const task = tasks[index] as ImageTask;
      if (outcome.status === 'fulfilled') {
        await options.onResult(outcome.value, task);
        done++;
      } else {
        failed++;
        const known = files[index]?.problem;
        const error = known ?? toLtrpError(outcome.reason);
        const line =
          known === undefined ? toldOnce(task.file, error, errorLine(error)) : errorLine(known);
        if (line !== undefined) progress.complain(printable(line));
        // The other images would fail in the same way.
        if (isFatal(error)) break;
      }
      progress.finished(index++);
    }
  } catch (error) {
    if (interruptionBy(error) === undefined) throw error;
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

const nowhere: OutputName = { name: '', id: '', again: false };

/** Errors of writing that are one file's own. */
const oneFile = ['ENAMETOOLONG', 'EISDIR', 'EINVAL', 'EILSEQ', 'EEXIST', 'ENOTEMPTY', undefined];

/** A full disk, a disposed model, no decoder, a store that stays down: going on would only repeat the message. */
export function isFatal({ code, cause }: LtrpError): boolean {
  if (code === 'ERR_LTRP_FILE_WRITE') {
    return !oneFile.includes((cause as NodeJS.ErrnoException | undefined)?.code);
  }
  return ['ERR_LTRP_DISPOSED', 'ERR_LTRP_SHARP_LOAD', 'ERR_LTRP_DOWNLOAD'].includes(code);
}
