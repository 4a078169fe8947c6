/** Tests against the golden data, which is not part of the repository; without it they are skipped, and say so. */
import test, { type Implementation } from 'ava';
import { hasGolden } from './paths.js';

export function withGolden(title: string, body: Implementation<[]>): void {
  if (hasGolden) test(title, body);
  else test.skip(`${title} (no golden data beside the repository)`, body);
}
