/** Shares as people write them. */

export type Interval = '(0, 1)' | '(0, 1]' | '[0, 1)' | '[0, 1]';

/** `0.5`, `.5` or `50%` as a number; NaN for what is none. */
export function shareOf(text: string): number {
  const match = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(%?)$/i.exec(text.trim());
  if (match === null) return NaN;
  return Number(`${match[1] ?? ''}${match[2] ?? ''}`) / (match[3] === '%' ? 100 : 1);
}

/** A sentence that says why `text` is not a share in `interval`; undefined if it is one. */
export function shareProblem(text: string, interval: Interval): string | undefined {
  const value = shareOf(text);
  const inside =
    (interval.startsWith('[') ? value >= 0 : value > 0) &&
    (interval.endsWith(']') ? value <= 1 : value < 1);
  if (inside) return undefined;
  const meant =
    value > 1 && value <= 100 && !text.includes('%')
      ? ` For ${text.trim()} percent write ${text.trim()}%.`
      : '';
  return `It must be a share in ${interval}, for example 0.5 or 50%.${meant}`;
}
