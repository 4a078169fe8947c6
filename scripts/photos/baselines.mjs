// Label-free score maps that need no model: what a learned ranking has to beat. Input: RGB bytes of one square image.
import { colourContrast } from '../evaluate/heuristics.ts';
import { seededRandom } from './random.mjs';

/** One map per baseline, each a Float64Array [L] in raster order; larger is kept first. `objectPixels` feeds the oracle. */
export function baselineMaps(pixels, size, patch, objectPixels, seed) {
  const grid = Math.floor(size / patch);
  const random = seededRandom('baseline', seed);
  const luma = new Float64Array(size * size);
  for (let i = 0; i < luma.length; i++) {
    luma[i] = 0.299 * pixels[3 * i] + 0.587 * pixels[3 * i + 1] + 0.114 * pixels[3 * i + 2];
  }
  return {
    random: Float64Array.from({ length: grid * grid }, () => random.next()),
    centre: perPatch(
      grid,
      (row, column) => -Math.hypot(row - (grid - 1) / 2, column - (grid - 1) / 2),
    ),
    'patch variance': perPatch(grid, (row, column) => variance(pixels, size, patch, row, column)),
    gradient: perPatch(grid, (row, column) => gradient(luma, size, patch, row, column)),
    'local colour contrast': colourContrast(pixels, size, patch),
    oracle: Float64Array.from(objectPixels),
  };
}

/** Object pixels of each patch, [L]. */
export function countObjectPixels(mask, size, patch) {
  const grid = Math.floor(size / patch);
  return perPatch(grid, (row, column) => {
    let count = 0;
    forEachPixel(size, patch, row, column, (i) => (count += mask[i] ? 1 : 0));
    return count;
  });
}

function perPatch(grid, score) {
  const map = new Float64Array(grid * grid);
  for (let row = 0; row < grid; row++) {
    for (let column = 0; column < grid; column++) map[row * grid + column] = score(row, column);
  }
  return map;
}

function forEachPixel(size, patch, row, column, visit) {
  for (let y = row * patch; y < (row + 1) * patch; y++) {
    for (let x = column * patch; x < (column + 1) * patch; x++) visit(y * size + x, x, y);
  }
}

/** Variance of the patch's pixels, summed over the three channels. */
function variance(pixels, size, patch, row, column) {
  const sum = [0, 0, 0];
  const squares = [0, 0, 0];
  forEachPixel(size, patch, row, column, (i) => {
    for (let c = 0; c < 3; c++) {
      const value = pixels[3 * i + c];
      sum[c] += value;
      squares[c] += value * value;
    }
  });
  const n = patch * patch;
  return [0, 1, 2].reduce((total, c) => total + squares[c] / n - (sum[c] / n) ** 2, 0);
}

/** Mean length of the central-difference gradient of luma. */
function gradient(luma, size, patch, row, column) {
  let sum = 0;
  forEachPixel(size, patch, row, column, (i, x, y) => {
    const dx = luma[i + (x + 1 < size ? 1 : 0)] - luma[i - (x > 0 ? 1 : 0)];
    const dy = luma[i + (y + 1 < size ? size : 0)] - luma[i - (y > 0 ? size : 0)];
    sum += Math.hypot(dx, dy);
  });
  return sum;
}
