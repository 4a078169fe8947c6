/** Steps that were not applied because loss or gradient was not finite: how many are too many, and where to go on. */
import { LtrpError } from '../errors.js';
import type { NativeStepResult } from '../native/binding.js';
import type { LogEntry } from './run-folder.js';

/** The newest steps that are looked at. */
const WINDOW = 20;
/** Of them, so many that were not applied end a run: single ones come of single pictures, these of the weights. */
const TOO_MANY = 5;

/** Why a step was not applied. */
export function whySkipped({ loss, gradientNorm }: NativeStepResult): string {
  return Number.isFinite(loss)
    ? `the norm of the gradient is ${gradientNorm}`
    : `the loss is ${loss}`;
}

export class Divergence {
  /** Of the newest steps: their numbers, and whether they were applied. */
  readonly #steps: { step: number; applied: boolean }[] = [];
  #count = 0;

  /** Takes note of a step of the log. */
  see(entry: LogEntry): void {
    if (!('loss' in entry)) return;
    const applied = !('skipped' in entry);
    this.#steps.push({ step: entry.step, applied });
    if (this.#steps.length > WINDOW) this.#steps.shift();
    if (!applied) this.#count++;
  }

  /** Steps that were not applied, over the whole run. */
  get count(): number {
    return this.#count;
  }

  /** Whether none of the newest steps was left out: only then it is sure enough that one can go on from here. */
  get isClear(): boolean {
    return this.#steps.every(({ applied }) => applied);
  }

  /**
   * Whether the weights are to blame; at the end of a run half of the newest steps are enough. The first step of those that were
   * left out, or null.
   */
  since(atEnd: boolean): number | null {
    const skipped = this.#steps.filter(({ applied }) => !applied);
    const limit = atEnd ? Math.min(TOO_MANY, this.#steps.length / 2) : TOO_MANY;
    return skipped.length > 0 && skipped.length >= limit ? (skipped[0]?.step ?? null) : null;
  }
}

/** The message of a diverged run, for its log too. */
export function divergedError(since: number, step: number, rate: number): LtrpError {
  const better = Number(Math.min(rate / 10, 1e-3).toPrecision(2));
  return new LtrpError(
    'ERR_LTRP_DIVERGED',
    `The run has diverged: from step ${since} to step ${step}, loss or gradient were not finite too often. Those steps were ` +
      `neither applied nor saved. Continue from before them with a lower learning rate: ` +
      `--resume --learning-rate ${better} (it is ${rate}).`,
  );
}

/** Times the first loss: with weights that no lower learning rate repairs. */
const RUINED = 100;

/**
 * The last step whose weights are known to be good, from a run's log: Infinity unless it ends with a divergence. Weights can be ruined
 * some steps before their gradient is no longer finite, which shows in the loss.
 */
export async function lastGoodStep(log: AsyncIterable<LogEntry>): Promise<number> {
  let first: number | undefined;
  let ruinedSince: number | undefined;
  let last: LogEntry | undefined;
  for await (const entry of log) {
    last = entry;
    if (!('loss' in entry)) continue;
    const loss = Number(entry['loss']);
    first ??= loss;
    if (loss <= RUINED * first) ruinedSince = undefined;
    else ruinedSince ??= entry.step;
  }
  const since = last?.['divergedSince'];
  if (!Number.isSafeInteger(since)) return Infinity;
  // Of the step before it, a finite gradient was taken.
  return Math.min(since as number, ruinedSince ?? Infinity) - 2;
}
