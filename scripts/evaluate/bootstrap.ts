/** How sure a figure is: pictures drawn again with replacement, the same draws for everything that is compared. */
import { mulberry32 } from '../../bench/statistics.js';
import { quantile } from '../../lib/plan/quantile.js';
import type { Weighted } from './recall.js';

/** A figure and the 2.5th and 97.5th percentile of its draws. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

/** Σ value / Σ weight. */
export function figure(sample: readonly Weighted[]): number {
  let [value, weight] = [0, 0];
  for (const each of sample) {
    value += each.value;
    weight += each.weight;
  }
  return value / weight;
}

/** Draws of `pictures` pictures with replacement (Efron 1979, percentile intervals). */
export class Resamples {
  /** [draws, pictures]: how often a picture is in a draw. */
  readonly #times: Uint16Array;

  constructor(
    readonly pictures: number,
    readonly draws = 2000,
    seed = 1,
  ) {
    const random = mulberry32(seed);
    this.#times = new Uint16Array(draws * pictures);
    for (let draw = 0; draw < draws; draw++) {
      for (let i = 0; i < pictures; i++) {
        (this.#times[draw * pictures + Math.floor(random() * pictures)] as number) += 1;
      }
    }
  }

  /** What `sample` comes to, picture by picture in the same order as all others. */
  interval(sample: readonly Weighted[]): Interval {
    return this.sum([{ sample, factor: 1 }]);
  }

  /** Σ factor · figure of several samples, whose weights may differ. */
  sum(terms: readonly { sample: readonly Weighted[]; factor: number }[]): Interval {
    const values = new Array<number>(this.draws).fill(0);
    let total = 0;
    for (const { sample, factor } of terms) {
      if (sample.length !== this.pictures) {
        throw new Error(`A sample of ${sample.length} pictures, but ${this.pictures} are drawn.`);
      }
      total += factor * figure(sample);
      for (let draw = 0; draw < this.draws; draw++) {
        let [value, weight] = [0, 0];
        for (const [i, each] of sample.entries()) {
          const times = this.#times[draw * this.pictures + i] as number;
          value += times * each.value;
          weight += times * each.weight;
        }
        (values[draw] as number) += (factor * value) / weight;
      }
    }
    return { value: total, low: quantile(values, 0.025), high: quantile(values, 0.975) };
  }

  /** `first` minus `second`, which have the same weights. */
  difference(first: readonly Weighted[], second: readonly Weighted[]): Interval {
    return this.interval(
      first.map(({ value, weight }, i) => ({
        value: value - (second[i] as Weighted).value,
        weight,
      })),
    );
  }
}
