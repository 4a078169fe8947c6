/** How a whole picture of any aspect is cut into patches, and where those patches are in it. */
import { described } from './described.js';
import { checkInteger, checkPresent, invalid, readFields } from './validation.js';

/** How many patches a picture is cut into. */
export interface PatchGrid {
  /** From top to bottom. */
  rows: number;
  /** From left to right. */
  columns: number;
}

/**
 * The grid of about `patches` patches whose cells are closest to squares on a picture of this size. Shape counts twice as
 * much as number: a patch that is stretched shows the model something it has not seen.
 */
export function chooseGrid(width: number, height: number, patches: number): PatchGrid {
  const aspect = width / height;
  let best: PatchGrid = { rows: 1, columns: 1 };
  let bestCost = Infinity;
  for (let rows = 1; rows <= 2 * patches; rows++) {
    for (let columns = 1; rows * columns <= 2 * patches; columns++) {
      const shape = Math.abs(Math.log(columns / rows / aspect));
      const number = Math.abs(Math.log((rows * columns) / patches));
      const cost = shape + number / 2;
      if (cost < bestCost) {
        bestCost = cost;
        best = { rows, columns };
      }
    }
  }
  return best;
}

/** A rectangle in pixels. */
export type Box = [left: number, top: number, width: number, height: number];

/** A grid of at most `most` patches, read once. */
export function readGrid(grid: unknown, most: number): PatchGrid {
  if (typeof grid !== 'object' || grid === null) {
    throw invalid(`grid must be { rows, columns }; got ${described(grid)}.`);
  }
  const { rows, columns } = readFields(grid, ['rows', 'columns'], 'grid');
  checkInteger('grid.rows', rows ?? null, 1, most);
  checkInteger('grid.columns', columns ?? null, 1, most);
  checkInteger('grid.rows * grid.columns', (rows as number) * (columns as number), 1, most);
  return { rows, columns } as PatchGrid;
}

/** Rectangles that {@link patchBoxes} makes at most. */
const mostBoxes = 2 ** 20;

/**
 * The patches' rectangles on a picture of this size, raster order. They tile it: no gap, no overlap.
 *
 * @param grid - at most 1,048,576 patches.
 * @param width - in pixels, an integer of at least 1.
 * @param height - in pixels, an integer of at least 1.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`.
 */
export function patchBoxes(grid: PatchGrid, width: number, height: number): Box[] {
  const { rows, columns } = readGrid(grid, mostBoxes);
  for (const [name, side] of Object.entries({ width, height })) {
    checkPresent(name, side);
    checkInteger(name, side, 1, 2 ** 31 - 1);
  }
  const edge = (index: number, count: number, length: number): number =>
    Math.round((index * length) / count);
  const boxes: Box[] = [];
  for (let row = 0; row < rows; row++) {
    const top = edge(row, rows, height);
    const bottom = edge(row + 1, rows, height);
    for (let column = 0; column < columns; column++) {
      const left = edge(column, columns, width);
      boxes.push([left, top, edge(column + 1, columns, width) - left, bottom - top]);
    }
  }
  return boxes;
}
