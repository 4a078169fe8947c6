/** Shows a training run: a bar on a terminal, a line every ten seconds elsewhere. */
import { SingleBar } from 'cli-progress';
import type { LogEntry } from '../training/run-folder.js';

const WINDOW = 50; // steps that rates and the remaining time are averaged over

export class TrainingProgress {
  readonly #steps: number;
  readonly #batchSize: number;
  readonly #durations: number[] = [];
  #bar: SingleBar | undefined;
  #loss: number | undefined;
  readonly #isDue = everyTenSeconds();

  constructor(options: { steps: number; firstStep: number; batchSize: number }) {
    this.#steps = options.steps;
    this.#batchSize = options.batchSize;
    if (!process.stderr.isTTY) return;
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: '{bar} {value}/{total} steps, {figures}',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
    });
    this.#bar.start(options.steps, options.firstStep, { figures: 'starting' });
  }

  show(entry: LogEntry): void {
    const validation = entry['validation'];
    if (validation !== undefined) {
      const figures = Object.entries(validation as Record<string, unknown>).flatMap(
        ([name, value]) => (typeof value === 'number' ? [`${name} ${value.toFixed(4)}`] : []),
      );
      this.say(`validation after step ${entry.step}: ${figures.join(', ')}`);
      return;
    }
    const skipped = entry['skipped'] as string | undefined;
    if (skipped !== undefined) this.say(`step ${entry.step} is not applied: ${skipped}`);
    const loss = entry['loss'] as number;
    // A single batch's loss jumps about; a moving average is what people read a curve with.
    if (skipped === undefined)
      this.#loss = this.#loss === undefined ? loss : 0.9 * this.#loss + 0.1 * loss;
    this.#durations.push(entry['seconds'] as number);
    if (this.#durations.length > WINDOW) this.#durations.shift();
    const perStep = this.#durations.reduce((sum, value) => sum + value, 0) / this.#durations.length;
    const figures =
      `loss ${(this.#loss ?? loss).toFixed(4)}, ${(this.#batchSize / perStep).toFixed(1)} images/s, ` +
      `${duration((this.#steps - entry.step) * perStep)} left`;
    if (this.#bar) {
      this.#bar.update(entry.step, { figures });
    } else if (this.#isDue()) {
      process.stderr.write(`step ${entry.step}/${this.#steps}: ${figures}\n`);
    }
  }

  /** Prints a line; the bar is drawn again below it. */
  say(message: string): void {
    process.stderr.write(this.#bar ? `\r\x1b[K${message}\n` : `${message}\n`);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** Whether this process speaks to people: of several that train together, one. */
let speaks = true;

export function onlyOneSpeaks(isThis: boolean): void {
  speaks = isThis;
}

export function say(message: string): void {
  if (speaks) process.stderr.write(`${message}\n`);
}

/** What says whether ten seconds have passed since it was made, or said so last. */
export function everyTenSeconds(): () => boolean {
  let last = performance.now();
  return () => {
    const isDue = performance.now() - last >= 10_000;
    if (isDue) last = performance.now();
    return isDue;
  };
}

/** Seconds as people say them. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
