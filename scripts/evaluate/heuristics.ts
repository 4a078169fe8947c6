/**
 * Score maps that need no model: what a learned ranking has to beat on photographs. Each is [L] in raster order, larger is
 * kept first.
 */
import type { Cut, Picture } from './pictures.js';

/** Maps of single heuristics. */
export interface Heuristics {
  /** Nearness to the centre: where photographers put their subject. */
  centre: Float64Array;
  /** Gradient energy of the grey picture: mean |dx| + |dy| of forward differences. */
  gradient: Float64Array;
  /** Variance of the grey picture within the patch. */
  variance: Float64Array;
  /** Distance of the patch's mean colour from that of its neighbours up to two patches away. */
  contrast: Float64Array;
  /** Mean of the grey picture. */
  lightness: Float64Array;
}

export function heuristics(picture: Pick<Picture, 'pixels' | keyof Cut>): Heuristics {
  const { pixels, height, width } = picture;
  const grey = greyPicture(pixels);
  const over = (value: (i: number, x: number, y: number) => number): Float64Array =>
    meanOverPatches(picture, value);
  const lightness = over((i) => grey[i] as number);
  const squares = over((i) => (grey[i] as number) ** 2);
  return {
    centre: nearCentre(picture),
    gradient: over((i, x, y) => {
      const here = grey[i] as number;
      const right = x + 1 < width ? (grey[i + 1] as number) : here;
      const below = y + 1 < height ? (grey[i + width] as number) : here;
      return Math.abs(right - here) + Math.abs(below - here);
    }),
    variance: squares.map((square, i) => square - (lightness[i] as number) ** 2),
    contrast: colourContrast(pixels, picture),
    lightness,
  };
}

/**
 * Weighted sum of the ranks of maps: 0 for the lowest value to L - 1 for the highest. Equal values are ranked in raster
 * order, as `argsort` of `argsort` ranks them.
 */
export function rankSum(
  ...terms: readonly (readonly [map: ArrayLike<number>, weight: number])[]
): Float64Array {
  const sum = new Float64Array(terms[0]?.[0].length ?? 0);
  for (const [map, weight] of terms) {
    for (const [i, rank] of ranks(map).entries()) (sum[i] as number) += weight * rank;
  }
  return sum;
}

function ranks(map: ArrayLike<number>): Float64Array {
  const order = Array.from(map, (_, i) => i).sort(
    (a, b) => (map[a] as number) - (map[b] as number),
  );
  const result = new Float64Array(map.length);
  for (const [rank, i] of order.entries()) result[i] = rank;
  return result;
}

/** [pixels]: luma by ITU-R BT.601, as JPEG and Pillow have it. */
export function greyPicture(pixels: Uint8Array): Float64Array {
  const grey = new Float64Array(pixels.length / 3);
  for (let i = 0; i < grey.length; i++) {
    const [red, green, blue] = [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]] as [
      number,
      number,
      number,
    ];
    grey[i] = 0.299 * red + 0.587 * green + 0.114 * blue;
  }
  return grey;
}

/** Distance of a patch's mean colour from the mean colour of its neighbours up to two patches away. */
export function colourContrast(pixels: Uint8Array, cut: Cut): Float64Array {
  const { rows, columns } = gridOf(cut);
  const colours = [0, 1, 2].map((channel) =>
    meanOverPatches(cut, (i) => pixels[3 * i + channel] as number),
  );
  return perPatch(cut, (row, column) => {
    let squares = 0;
    for (const colour of colours) {
      let [around, count] = [0, 0];
      for (let y = Math.max(0, row - 2); y <= Math.min(rows - 1, row + 2); y++) {
        for (let x = Math.max(0, column - 2); x <= Math.min(columns - 1, column + 2); x++) {
          if (y === row && x === column) continue;
          around += colour[y * columns + x] as number;
          count++;
        }
      }
      squares += ((colour[row * columns + column] as number) - around / count) ** 2;
    }
    return Math.sqrt(squares);
  });
}

/** Minus the distance from the centre of the picture as a square, in patches of its longer side; as `prior: 'centre'`. */
export function nearCentre(cut: Cut): Float64Array {
  const { rows, columns } = gridOf(cut);
  const side = Math.max(rows, columns);
  const away = (cell: number, cells: number): number => (cell - (cells - 1) / 2) * (side / cells);
  return perPatch(cut, (row, column) => -Math.hypot(away(row, rows), away(column, columns)));
}

const gridOf = ({ height, width, patch }: Cut) => ({
  rows: height / patch,
  columns: width / patch,
});

function perPatch(cut: Cut, score: (row: number, column: number) => number): Float64Array {
  const { rows, columns } = gridOf(cut);
  return Float64Array.from({ length: rows * columns }, (_, i) =>
    score(Math.floor(i / columns), i % columns),
  );
}

export function meanOverPatches(
  cut: Cut,
  value: (i: number, x: number, y: number) => number,
): Float64Array {
  const { height, width, patch } = cut;
  const { rows, columns } = gridOf(cut);
  const sums = new Float64Array(rows * columns);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / patch) * columns;
    for (let x = 0; x < width; x++) {
      (sums[row + Math.floor(x / patch)] as number) += value(y * width + x, x, y);
    }
  }
  return sums.map((sum) => sum / patch ** 2);
}
