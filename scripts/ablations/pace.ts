/** How long rows take: expected for two idle cores, corrected by those that were measured. */
import { ownPictures } from './maps.js';
import { batchSize } from './rankers.js';
import { mapBase, rankerBase, type MapRow, type Row } from './rows.js';
import type { Study } from './study.js';

/** Of the embedded teacher, of the base's ranker and of one in PyTorch, on two idle cores. */
const mapsPerSecond = 4;
const cropsPerSecond = 150;
const pytorchCropsPerSecond = 100;

/** The expected seconds of a row, if those before it are done or come before it. */
export function expectedSeconds(study: Study): (row: Row) => number {
  const { rows, training, steps, labelled, judged } = study;
  return (row) => {
    const before = rows.slice(0, rows.indexOf(row));
    if (row.half === 'maps') {
      const shared = before
        .filter((other): other is MapRow => other.half === 'maps' && isSameMap(other, row))
        .map(({ settings }) => Math.max(2, settings.rounds));
      const rounds = Math.max(0, Math.max(2, row.settings.rounds) - Math.max(0, ...shared));
      const times = row.settings.drop === 'decoder' ? 1 : 3; // elsewhere every removal is encoded
      return (times * ownPictures(row, study).length * rounds) / mapsPerSecond;
    }
    const { rounds, dim, pytorch } = row.settings;
    const stored = before.some(
      (other) => other.half === 'ranker' && other.settings.rounds === rounds,
    );
    const wider = (dim / rankerBase.dim) ** 2;
    const perSecond = pytorch === undefined ? cropsPerSecond : pytorchCropsPerSecond;
    return (
      (stored ? 0 : (training.length * rounds) / mapsPerSecond) +
      (steps * batchSize * wider) / perSecond +
      (labelled.length + 4 * judged.length) / 40
    );
  };
}

/** Whether the maps of one row are among those of the other. */
function isSameMap(first: MapRow, second: MapRow): boolean {
  const of = ({ settings }: MapRow): string =>
    JSON.stringify({ ...settings, rounds: mapBase.rounds });
  return of(first) === of(second);
}

export class Pace {
  readonly #left: Row[];
  readonly #expected: (row: Row) => number;
  #row: { row: Row; begin: number } | undefined;
  #done = { expected: 0, spent: 0 };

  /** @param rows - those to come. */
  constructor(rows: readonly Row[], expected: (row: Row) => number) {
    this.#left = [...rows];
    this.#expected = expected;
  }

  begin(row: Row): void {
    this.#row = { row, begin: performance.now() };
  }

  /** What the row that began took, and how much is left. */
  end(): string {
    if (this.#row === undefined) return this.left();
    const { row, begin } = this.#row;
    const seconds = (performance.now() - begin) / 1000;
    this.#done.spent += seconds;
    this.#done.expected += this.#expected(row);
    this.#left.splice(this.#left.indexOf(row), 1);
    return `${seconds.toFixed(0)} s; ${this.left()}`;
  }

  left(): string {
    const { spent, expected } = this.#done;
    // Less time says mostly how long programs take to start.
    const slower = spent < 30 ? 1 : spent / expected;
    const seconds = slower * this.#left.reduce((sum, row) => sum + this.#expected(row), 0);
    return `about ${(seconds / 60).toFixed(0)} minutes left`;
  }
}
