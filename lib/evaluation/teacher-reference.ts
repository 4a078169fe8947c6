/** The teacher's scores that rankings are compared with, in two halves of its rounds, which say how sure they are. */
import { rankAgreement } from '../agreement.js';
import type { MaskedAutoencoder } from '../masked-autoencoder.js';
import type { PixelBatch } from '../types.js';
import { Resamples, type Interval, type Weighted } from './resamples.js';

/** How well a teacher's maps agree with themselves. */
export interface Reliability {
  /** Each map is of so many rounds, each half of half as many. */
  rounds: number;
  /** Between the halves, means over pictures. */
  halves: { spearman: Interval; kendallTau: Interval };
  /** Spearman-Brown of the halves' Spearman: what a map would correlate with another of as many rounds by. */
  whole: Interval;
}

/** Far from the seeds of the selectors, of which the teacher is one. */
const apart = 2 ** 32;
const seeds = 2 ** 53;

export class TeacherReference {
  readonly #spearman: Weighted[] = [];
  readonly #kendallTau: Weighted[] = [];

  /** @param rounds - even. */
  constructor(
    private readonly teacher: MaskedAutoencoder,
    private readonly rounds: number,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** [images, patches]: the mean of both halves. */
  async maps(images: PixelBatch, seed: number): Promise<Float32Array> {
    const { signal } = this;
    const half = async (which: 1 | 2): Promise<Float32Array> => {
      const own = { rounds: this.rounds / 2, seed: (seed + which * apart) % seeds };
      return (await this.teacher.scoreMap(images, { ...own, signal })).mean;
    };
    const [first, second] = [await half(1), await half(2)];
    const [n] = images.shape;
    const shape = [n, first.length / n] as const;
    const { spearman, kendallTau } = await rankAgreement(first, second, shape, { signal });
    for (const value of spearman) this.#spearman.push(known(value));
    for (const value of kendallTau) this.#kendallTau.push(known(value));
    return first.map((value, i) => (value + (second[i] as number)) / 2);
  }

  reliability(): Reliability {
    const resamples = new Resamples(this.#spearman.length);
    const spearman = resamples.interval(this.#spearman);
    const { value, low, high } = spearman;
    return {
      rounds: this.rounds,
      halves: { spearman, kendallTau: resamples.interval(this.#kendallTau) },
      // It rises with the correlation, so that ends of its interval are those of the correlation's.
      whole: {
        value: spearmanBrown(value),
        low: spearmanBrown(low),
        high: spearmanBrown(high),
      },
    };
  }
}

/** A picture's figure; a constant list has none. */
export const known = (value: number): Weighted =>
  Number.isNaN(value) ? { value: 0, weight: 0 } : { value, weight: 1 };

/**
 * Reliability of a measurement of which two halves correlate by `half` (Spearman 1910, Brown 1910): what the whole would
 * correlate with another whole by.
 */
export function spearmanBrown(half: number): number {
  return (2 * half) / (1 + half);
}
