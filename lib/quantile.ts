/**
 * The value below which a share `q` of the values lies, by the line between its neighbours (Hyndman and Fan's type 7, the default of R
 * and NumPy); NaN for no values.
 */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * q;
  const below = sorted[Math.floor(place)] ?? NaN;
  return below + (place - Math.floor(place)) * ((sorted[Math.ceil(place)] ?? NaN) - below);
}
