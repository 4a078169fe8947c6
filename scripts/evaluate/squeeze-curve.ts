/** Bytes against agreement, of files of several qualities. */

/** Means over pictures. */
export interface Point {
  bytes: number;
  /** Share of the pictures. */
  agreement: number;
}

/** The points that no other one beats in both, from few bytes to many. */
export function curveOf(points: readonly Point[]): Point[] {
  const curve: Point[] = [];
  for (const point of [...points].sort((a, b) => a.bytes - b.bytes || b.agreement - a.agreement))
    if (point.agreement > (curve.at(-1)?.agreement ?? -1)) curve.push(point);
  return curve;
}

/** Bytes at which a curve reaches an agreement, on the line between two points; null where it never does. */
export function bytesAt(curve: readonly Point[], agreement: number): number | null {
  const next = curve.findIndex((point) => point.agreement >= agreement);
  const [above, below] = [curve[next], curve[next - 1]];
  if (above === undefined) return null;
  if (below === undefined) return above.bytes;
  const share = (agreement - below.agreement) / (above.agreement - below.agreement);
  return below.bytes + share * (above.bytes - below.bytes);
}
