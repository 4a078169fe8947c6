/** Figures of one set of pictures, picture by picture, and what they come to. */
import { Resamples, type Interval, type Weighted } from '../../lib/evaluation/resamples.js';

/** What a figure is of. */
export interface Cell {
  measure: string;
  /** How patches are chosen by the map; null where the map itself is measured. */
  selector: string | null;
  /** Share of the patches that is kept; null likewise. */
  keep: number | null;
  row: string;
}

export interface Figure extends Cell, Interval {
  set: string;
}

/** The figure of a cell minus that of another of the same measure and share. */
export interface Difference extends Figure {
  minus: { row: string; selector: string | null };
}

export class Table {
  readonly #samples = new Map<string, { cell: Cell; sample: Weighted[] }>();
  #resamples: Resamples | undefined;

  /** @param set - name of the set of pictures. */
  constructor(readonly set: string) {}

  /** Adds the next picture's figure to a cell; every cell gets every picture, in the same order. */
  add(cell: Cell, figure: Weighted): void {
    const key = keyOf(cell);
    const known = this.#samples.get(key);
    if (known === undefined) this.#samples.set(key, { cell, sample: [figure] });
    else known.sample.push(figure);
  }

  /** What was added, cell by cell. */
  samples(): { cell: Cell; sample: readonly Weighted[] }[] {
    return [...this.#samples.values()];
  }

  figures(): Figure[] {
    return [...this.#samples.values()].map(({ cell, sample }) => ({
      set: this.set,
      ...cell,
      ...this.#drawn(sample).interval(sample),
    }));
  }

  /** Every other row minus each row of `references`, and every selector minus the first of the same row. */
  differences(references: readonly string[]): Difference[] {
    const result: Difference[] = [];
    const first = [...this.#samples.values()].find(({ cell }) => cell.selector !== null)?.cell
      .selector;
    for (const { cell, sample } of this.#samples.values()) {
      const others = references
        .filter((row) => row !== cell.row)
        .map((row) => ({ row, selector: cell.selector }));
      if (cell.selector !== null && first !== undefined && cell.selector !== first)
        others.push({ row: cell.row, selector: first });
      for (const minus of others) {
        const other = this.#samples.get(keyOf({ ...cell, ...minus }));
        if (other === undefined) continue;
        const interval = this.#drawn(sample).difference(sample, other.sample);
        result.push({ set: this.set, ...cell, minus, ...interval });
      }
    }
    return result;
  }

  /** Σ factor · figure of cells that were added. */
  sum(terms: readonly { cell: Cell; factor: number }[]): Interval {
    const samples = terms.map(({ cell, factor }) => {
      const found = this.#samples.get(keyOf(cell));
      if (found === undefined) throw new Error(`There is no cell ${keyOf(cell)}.`);
      return { sample: found.sample, factor };
    });
    return this.#drawn(samples[0]?.sample ?? []).sum(samples);
  }

  #drawn({ length }: readonly Weighted[]): Resamples {
    this.#resamples ??= new Resamples(length);
    return this.#resamples;
  }
}

function keyOf({ measure, selector, keep, row }: Cell): string {
  return JSON.stringify([measure, selector, keep, row]);
}
