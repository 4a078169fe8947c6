/** Agreement of maps with a teacher's, and of a teacher's maps with each other. */
import { rankAgreement } from '../../lib/index.js';
import type { Maps } from './maps.js';
import type { TeacherMaps } from './teacher-maps.js';

/** Kendall's tau-b and NDCG of every row with a teacher's map. */
export async function agreementWith(
  maps: Maps,
  target: Float64Array,
): Promise<{ row: string; tau: number; ndcg: number }[]> {
  const rows = [...maps.keys()];
  const length = target.length;
  const predicted = new Float32Array(rows.length * length);
  const targets = new Float32Array(rows.length * length);
  for (const [i, map] of [...maps.values()].entries()) {
    predicted.set(map, i * length);
    targets.set(target, i * length);
  }
  const { kendallTau, ndcg } = await rankAgreement(predicted, targets, [rows.length, length]);
  return rows.map((row, i) => ({ row, tau: kendallTau[i] ?? NaN, ndcg: ndcg[i] ?? NaN }));
}

/** How well two independent halves of a teacher's rounds agree within a picture. */
export interface HalvesAgreement {
  rounds: number;
  /** Spearman's, over the patches. */
  correlation: number;
  /** Kendall's tau-b. */
  tau: number;
}

export async function agreementOfHalves({ halves }: TeacherMaps): Promise<HalvesAgreement[]> {
  const result: HalvesAgreement[] = [];
  for (const [rounds, [first, second]] of halves) {
    const { kendallTau, spearman } = await rankAgreement(
      Float32Array.from(first),
      Float32Array.from(second),
      [1, first.length],
    );
    result.push({ rounds, correlation: spearman[0] ?? NaN, tau: kendallTau[0] ?? NaN });
  }
  return result;
}
