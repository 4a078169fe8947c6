/** What a run found: results.json. */
import { mean } from '../../bench/statistics.js';
import { spearmanBrown } from '../../lib/evaluation/teacher-reference.js';
import type { HalvesAgreement } from './agreement.js';
import type { Provenance } from './command.js';
import type { MeasuredSet } from './measure.js';
import type { Difference, Figure } from './table.js';

export interface Results extends Provenance {
  part: string;
  size: number;
  patch: number;
  /** Of coco: `whole` has about as many patches as a square of `size`, and the picture's aspect. */
  objectFit: 'stretch' | 'whole';
  models: { row: string; source: string; digest: string }[];
  teacherSettings: object;
  judge: string | null;
  sets: { name: string; pictures: string[]; instances?: number }[];
  selectors: string[];
  rows: string[];
  figures: Figure[];
  differences: Difference[];
  reliability: Reliability[];
}

/** Of a teacher's maps on one set. */
export interface Reliability {
  set: string;
  teacher: string;
  rounds: number;
  /** Means over the pictures, of maps of half as many rounds. */
  halves: { correlation: number; tau: number };
  /** Spearman-Brown of the mean correlation: what a map of `rounds` would correlate with another by. */
  reliability: number;
}

export function reliabilityOf({ table, halves }: MeasuredSet): Reliability[] {
  return [...halves].flatMap(([teacher, pictures]) => {
    const rounds = (pictures[0] ?? []).map((each) => each.rounds);
    return rounds.map((count, i) => {
      const ofCount = pictures.map((each) => each[i] as HalvesAgreement);
      const correlation = mean(ofCount.map((each) => each.correlation));
      return {
        set: table.set,
        teacher,
        rounds: count,
        halves: { correlation, tau: mean(ofCount.map((each) => each.tau)) },
        reliability: spearmanBrown(correlation),
      };
    });
  });
}
