/** How sure a figure is: pictures drawn again with replacement, the same draws for everything that is compared. */
import { quantile } from '../quantile.js';
import { mulberry32 } from './random.js';

/** A figure of one picture: figures of several pictures are Σ value / Σ weight. */
export interface Weighted {
  value: number;
  weight: number;
}

/** A figure and the 2.5th and 97.5th percentile of its draws. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

/** A figure, and what it is in each draw. */
export interface Drawn {
  value: number;
  draws: Float64Array;
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
  readonly times: Int32Array;

  constructor(
    readonly pictures: number,
    readonly draws = 2000,
    seed = 1,
  ) {
    const random = mulberry32(seed);
    this.times = new Int32Array(draws * pictures);
    for (let draw = 0; draw < draws; draw++) {
      for (let i = 0; i < pictures; i++) {
        (this.times[draw * pictures + Math.floor(random() * pictures)] as number) += 1;
      }
    }
  }

  /** What `sample` comes to, picture by picture in the same order as all others. */
  interval(sample: readonly Weighted[]): Interval {
    return intervalOf(this.drawn(sample));
  }

  /** Σ factor · figure of several samples, whose weights may differ. */
  sum(terms: readonly { sample: readonly Weighted[]; factor: number }[]): Interval {
    return intervalOf(
      combined(terms.map(({ sample, factor }) => ({ drawn: this.drawn(sample), factor }))),
    );
  }

  drawn(sample: readonly Weighted[]): Drawn {
    if (sample.length !== this.pictures) {
      throw new Error(`A sample of ${sample.length} pictures, but ${this.pictures} are drawn.`);
    }
    const values = new Float64Array(this.draws);
    for (let draw = 0; draw < this.draws; draw++) {
      let [value, weight] = [0, 0];
      for (const [i, each] of sample.entries()) {
        const times = this.times[draw * this.pictures + i] as number;
        value += times * each.value;
        weight += times * each.weight;
      }
      values[draw] = value / weight;
    }
    return { value: figure(sample), draws: values };
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

/** Σ factor · figure, draw by draw. */
export function combined(terms: readonly { drawn: Drawn; factor: number }[]): Drawn {
  const draws = new Float64Array(terms[0]?.drawn.draws.length ?? 0);
  let value = 0;
  for (const { drawn, factor } of terms) {
    value += factor * drawn.value;
    for (const [i, each] of drawn.draws.entries()) (draws[i] as number) += factor * each;
  }
  return { value, draws };
}

/** Draws without a figure, in which no category has a positive, are left out. */
export function intervalOf({ value, draws }: Drawn): Interval {
  const known = Array.from(draws).filter((each) => !Number.isNaN(each));
  return { value, low: quantile(known, 0.025), high: quantile(known, 0.975) };
}
