// Figures of merit for score maps: object-pixel recall on scenes with known masks, and Kendall's tau between maps.
import { seededRandom } from './random.mjs';

/** Order of patches by descending score; equal scores in an order drawn from `random`, so that ties favour no place. */
export function ranking(scores, random) {
  const ties = Array.from(scores, () => random.next());
  return Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || ties[a] - ties[b]);
}

/** Share of a scene's object pixels in the first int(L * keep) patches, for each keep ratio. */
export function objectRecall(scores, objectPixels, keeps, seed = 0) {
  const order = ranking(scores, seededRandom('ties', seed));
  const total = objectPixels.reduce((sum, n) => sum + n, 0);
  return keeps.map((keep) => {
    const kept = order.slice(0, Math.floor(order.length * keep));
    return kept.reduce((sum, i) => sum + objectPixels[i], 0) / total;
  });
}

/** Kendall's tau-b of two maps; 0 where one of them is constant. */
export function kendallTau(a, b) {
  let [concordant, tiesA, tiesB] = [0, 0, 0];
  const n = a.length;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      const x = Math.sign(a[i] - a[j]);
      const y = Math.sign(b[i] - b[j]);
      concordant += x * y;
      if (x === 0) tiesA++;
      if (y === 0) tiesB++;
    }
  }
  const pairs = (n * (n - 1)) / 2;
  const scale = Math.sqrt((pairs - tiesA) * (pairs - tiesB));
  return scale === 0 ? 0 : concordant / scale;
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Standard error of the mean over independent values. */
export function standardError(values) {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
