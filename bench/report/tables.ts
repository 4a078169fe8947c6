/** Numbers as text, and Markdown tables. */
import type { Spread } from '../statistics.js';

export { table } from '../../lib/evaluation/markdown.js';

/** Three significant digits without an exponent, thousands apart: 0.0123, 1.23, 123, 12,300. */
export function digits(value: number, significant = 3): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const places = Math.max(0, significant - 1 - Math.floor(Math.log10(Math.abs(value))));
  const rounded = Number(value.toPrecision(significant));
  return rounded.toLocaleString('en-US', {
    minimumFractionDigits: Math.min(places, 8),
    maximumFractionDigits: Math.min(places, 8),
  });
}

/** `1.23e-5`-like, short. */
export function tiny(value: number | null): string {
  if (value === null || Number.isNaN(value)) return '–';
  return value === 0 ? '0' : value.toExponential(1).replace('e-', 'e−');
}

export function percent(value: number | null): string {
  return value === null || Number.isNaN(value) ? '–' : `${(100 * value).toFixed(0)}%`;
}

export function times(value: number | null): string {
  return value === null || !Number.isFinite(value) ? '–' : `${digits(value)}x`;
}

export function fixed(value: number | null, places: number): string {
  return value === null || Number.isNaN(value) ? '–' : value.toFixed(places);
}

/** Images per second out of milliseconds per image, with the quartiles. */
export function ratePerSecond(msPerImage: Spread | null): string {
  if (msPerImage === null) return '–';
  const { median, low, high, count } = msPerImage;
  return quartiles({ median: 1000 / median, low: 1000 / high, high: 1000 / low, count });
}

/** A median with its quartiles. */
export function quartiles(spread: Spread | null): string {
  if (spread === null) return '–';
  const { median, low, high, count } = spread;
  return count < 2 ? digits(median) : `${digits(median)} (${digits(low)} to ${digits(high)})`;
}
