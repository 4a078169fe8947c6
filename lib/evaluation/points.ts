/** Shares as percentage points and other figures, in tables. */
import type { Interval } from './resamples.js';

export const points = (value: number): string =>
  (100 * value).toFixed(1).replace(/^-(?=0\.0$)/, '');
const signedPoints = (value: number): string => (value > 0 ? '+' : '') + points(value);

/** `+7.1 [+5.7, +8.6]`. */
export const pointsInterval = ({ value, low, high }: Interval): string =>
  `${signedPoints(value)} [${signedPoints(low)}, ${signedPoints(high)}]`;

/** What a row has more than another, after its own figure; empty where there is nothing to compare. */
export const moreThan = (difference: Interval | undefined): string =>
  difference === undefined ? '' : ` (${pointsInterval(difference)})`;

/** `.442` and `1.000`; `-.031`. */
export const digits = (value: number): string =>
  value
    .toFixed(3)
    .replace(/^-(?=0\.000$)/, '')
    .replace(/^(-?)0\./, '$1.');
const signed = (value: number): string => (value > 0 ? '+' : '') + digits(value);

/** `+.071 [+.057, +.086]`. */
export const signedInterval = ({ value, low, high }: Interval): string =>
  `${signed(value)} [${signed(low)}, ${signed(high)}]`;
