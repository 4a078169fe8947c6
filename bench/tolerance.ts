/** Sparse deltas: speed against Kendall's tau, at several tolerances. */
import { rankAgreement } from '../lib/index.js';
import { quantile } from '../lib/quantile.js';
import type { Contender } from './child.js';
import type { ContenderSpec } from './contenders.js';
import { scoringMaterial, type Model } from './material.js';
import { inTurns, openContender, type Pace } from './pace.js';
import type { ToleranceCurve } from './results.js';
import { mean, meanRelativeError, spread } from './statistics.js';

export interface TolerancePlan {
  /** Ascending; the first is 0. */
  tolerances: readonly number[];
  /** Lists of trained teachers, and of those with random weights, whose order means little. */
  trainedLists: number;
  randomLists: number;
  rounds: number;
}

interface Cell {
  spec: ContenderSpec;
  process: Contender;
  tolerance: number;
  times: number[];
  agreement: ListAgreement;
}

export interface ListAgreement {
  kendallTau: number;
  lowestTau: number;
  error: number;
}

/**
 * Scores the same images with the same masks at every tolerance; float32, which has no differences to leave out, is what they
 * are held against. It agrees with float64 to 1e-6 (the main comparison checks that).
 */
export async function measureTolerance(
  model: Model,
  reference: ContenderSpec,
  specs: readonly ContenderSpec[],
  lists: number,
  plan: TolerancePlan,
  temporary: string,
  pace: Pace,
): Promise<ToleranceCurve> {
  pace.say(`Tolerance: ${model.name}`);
  const { material, patches, visible } = await scoringMaterial(model, lists, temporary);
  const request = { images: lists, variants: visible };
  const cells: Cell[] = [];
  const processes: Contender[] = [];
  const open = async (spec: ContenderSpec): Promise<Contender | null> => {
    const process = await openContender(spec, spec.load(material), pace);
    if (process !== null) processes.push(process);
    return process;
  };
  try {
    const exact = await open(reference);
    if (exact === null) throw new Error(`${reference.label} is not available.`);
    const expected = (await exact.ask('scores', request))['scores'] as number[][];
    await exact.close();
    for (const spec of specs) {
      const process = await open(spec);
      if (process === null) continue;
      for (const tolerance of plan.tolerances) {
        const { scores } = await process.ask('scores', { ...request, tolerance });
        const agreement = await agreementOfLists(scores as number[][], expected);
        cells.push({ spec, process, tolerance, times: [], agreement });
      }
    }
    const { rounds } = plan;
    await inTurns(cells, { ...pace, rounds }, async ({ process, tolerance, times }) => {
      const { ms } = await process.ask('scores', { ...request, tolerance });
      times.push((ms as number) / lists);
    });
  } finally {
    for (const process of processes) await process.close();
  }
  const points = cells.map(({ spec, tolerance, times, agreement }) => {
    const full = cells.find((other) => other.spec === spec && other.tolerance === 0);
    return {
      contender: spec.key,
      label: spec.label,
      precision: spec.precision,
      tolerance,
      msPerImage: spread(times),
      speedUp: full === undefined ? null : medianRatio(full.times, times),
      ...agreement,
    };
  });
  return { model: model.name, patches, visible, lists, points };
}

/** Median of `before[i] / after[i]`: what a busy machine slows in one round it slows for both. */
export function medianRatio(before: readonly number[], after: readonly number[]): number | null {
  const ratios = before.flatMap((ms, i) => {
    const other = after[i];
    return other === undefined ? [] : [ms / other];
  });
  return ratios.length === 0 ? null : quantile(ratios, 0.5);
}

/** Every row is a list of its own. */
export async function agreementOfLists(
  values: readonly (readonly number[])[],
  expected: readonly (readonly number[])[],
): Promise<ListAgreement> {
  const width = expected[0]?.length ?? 0;
  const { kendallTau } = await rankAgreement(
    Float32Array.from(values.flat()),
    Float32Array.from(expected.flat()),
    [expected.length, width],
  );
  return {
    kendallTau: mean(Array.from(kendallTau)),
    lowestTau: Math.min(...kendallTau),
    error: meanRelativeError(values, expected),
  };
}
