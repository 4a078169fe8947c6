/** Colours of heat maps. */

/** Red, green, blue, 0 to 255. */
export type Colour = readonly [red: number, green: number, blue: number];

/** From low to high: dark violet to yellow, of even lightness steps, readable without colour vision. */
export const heatStops: readonly Colour[] = [
  [37, 12, 74],
  [84, 15, 109],
  [131, 36, 107],
  [178, 54, 88],
  [218, 80, 58],
  [243, 121, 24],
  [252, 174, 20],
  [245, 228, 104],
];

/** Colour of a share in [0, 1]. */
export function heatColour(share: number): Colour {
  const position = Math.min(1, Math.max(0, share)) * (heatStops.length - 1);
  const index = Math.min(heatStops.length - 2, Math.floor(position));
  const low = heatStops[index] as Colour;
  const high = heatStops[index + 1] as Colour;
  const mix = (channel: 0 | 1 | 2): number =>
    Math.round(low[channel] + (high[channel] - low[channel]) * (position - index));
  return [mix(0), mix(1), mix(2)];
}

/** For each value, the share of the other values that are smaller: 0 for the lowest, 1 for the highest. */
export function rankShares(values: ArrayLike<number>): Float64Array {
  const order = Array.from(values, (_, index) => index).sort(
    (a, b) => (values[a] as number) - (values[b] as number) || a - b,
  );
  const shares = new Float64Array(values.length);
  order.forEach((index, rank) => (shares[index] = rank / Math.max(1, values.length - 1)));
  return shares;
}
