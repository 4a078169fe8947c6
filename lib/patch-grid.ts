/** How a whole picture of any aspect is cut into patches, and where those patches are in it. */

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

/** The patches' rectangles on a picture of this size, raster order. They tile it: no gap, no overlap. */
export function patchBoxes({ rows, columns }: PatchGrid, width: number, height: number): Box[] {
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
