/** Whether fewer patches pay, from what was measured. */
import { keepCount } from '../selection.js';
import { quantile } from '../quantile.js';

/** What was measured; times in milliseconds, a value for each round. */
export interface Measured {
  patches: number;
  full: Arm;
  scorer: Pick<Arm, 'times' | 'flops'>;
  /** The pruned model at each share; its memory is that of the process that has the scorer too. */
  shares: (Arm & { share: number })[];
}

/** One contender. */
export interface Arm {
  times: readonly number[];
  /** Operations of a run; null if they could not be counted. */
  flops: number | null;
  /** Largest memory of a process that does nothing else, in bytes. */
  memory: number;
}

/** What one run of a batch takes. */
export interface PlanCost {
  /** Median. */
  milliseconds: number;
  /** Floating-point operations of matrix products, a multiply-add as two; null if they could not be counted. */
  flops: number | null;
  /** Largest memory of a process that runs this alone, in bytes; null for the scorer alone. */
  memory: number | null;
}

/** One share of the patches. */
export interface PlanShare {
  /** Share of the patches, in (0, 1). */
  share: number;
  /** Number of patches. */
  keep: number;
  /** Of the pruned model alone; memory with the scorer in the same process. */
  model: PlanCost;
  /** Of scorer and pruned model, one after the other. */
  total: PlanCost;
  /** Time of `total` by that of the full model of the same round: median, and the middle half. */
  ratio: {
    /** Of the rounds. */
    median: number;
    /** A quarter of the rounds lie below. */
    from: number;
    /** A quarter of the rounds lie above. */
    to: number;
  };
  /** Whether it saves time: the middle half of the ratios is below 1. */
  pays: boolean;
}

/** What the measurements come to. */
export interface Decision {
  /** With all patches, without a scorer. */
  full: PlanCost;
  /** The ranker alone. */
  scorer: PlanCost;
  /** From the largest share to the smallest. */
  shares: PlanShare[];
  /** The share below which it saves time, between two that were measured by their line; null: the smallest one does not pay. */
  paysBelow: number | null;
}

const median = (values: readonly number[]): number => quantile(values, 0.5);

const sum = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? null : a + b;

export function decide({ patches, full, scorer, shares }: Measured): Decision {
  const both = (times: readonly number[]): number[] =>
    times.map((time, round) => time + (scorer.times[round] ?? NaN));
  const rows = [...shares]
    .sort((a, b) => b.share - a.share)
    .map(({ share, times, flops, memory }): PlanShare => {
      const total = both(times);
      const ratios = total.map((time, round) => time / (full.times[round] ?? NaN));
      const ratio = {
        median: median(ratios),
        from: quantile(ratios, 0.25),
        to: quantile(ratios, 0.75),
      };
      return {
        share,
        keep: keepCount(patches, share),
        model: { milliseconds: median(times), flops, memory },
        total: { milliseconds: median(total), flops: sum(flops, scorer.flops), memory },
        ratio,
        pays: ratio.to < 1,
      };
    });
  const all = both(full.times).map((time, round) => time / (full.times[round] ?? NaN));
  return {
    full: { milliseconds: median(full.times), flops: full.flops, memory: full.memory },
    scorer: { milliseconds: median(scorer.times), flops: scorer.flops, memory: null },
    shares: rows,
    paysBelow: breakEven([{ share: 1, ratio: median(all), pays: false }, ...rows.map(flat)]),
  };
}

const flat = ({ share, ratio, pays }: PlanShare) => ({ share, ratio: ratio.median, pays });

/** From the smallest share upwards, as long as it pays; beyond the last one that does, where the line to the next crosses 1. */
function breakEven(
  points: readonly { share: number; ratio: number; pays: boolean }[],
): number | null {
  const rising = [...points].reverse();
  const first = rising.findIndex(({ pays }) => !pays);
  const [last, next] = [rising[first - 1], rising[first]];
  if (last === undefined || next === undefined) return null;
  // Within the noise of 1 the line may not cross it: then what was measured to pay is all that is known.
  if (next.ratio <= 1) return last.share;
  return last.share + ((next.share - last.share) * (1 - last.ratio)) / (next.ratio - last.ratio);
}
