/** Judges the output of a suite of tests: a skipped test has not passed. */

/** Tests that may be skipped where a release is made, by the beginning of their titles. */
export const skipsAllowed = {
  // Takes minutes: LTRP_TEST_SOURCE_BUILD=1 asks for it.
  install: ['without binaries, with a compiler and LibTorch: it is compiled'],
  // Whatever could not be fetched was not tried.
  hosts: [],
};

/**
 * @param output - everything that the suite printed; the last line "N passed, N failed[, N skipped]" counts.
 * @param allowed - titles that may be skipped; undefined where skips are only counted.
 */
export function judgeSuite(output, allowed) {
  // eslint-disable-next-line no-control-regex -- ava colours its output
  const lines = output.replace(/\u001b\[[0-9;]*m/g, '').split('\n');
  const summary = lines.findLast((line) => /^\d+ passed, \d+ failed/.test(line));
  if (summary === undefined)
    return { summary: 'no count', problems: ['it ended without counting'] };
  const counted = Number(/(\d+) skipped/.exec(summary)?.[1] ?? 0);
  if (allowed === undefined) return { summary, problems: [] };
  // ava: "  - [skip] title", with the file's name before the title where there are several files.
  const skipped = lines.flatMap((line) => /^\s*- \[skip\] (.+)$/.exec(line)?.[1] ?? []);
  const titles = skipped.map((line) => line.split(' › ').at(-1));
  const problems = titles.filter((title) => !allowed.some((start) => title.startsWith(start)));
  if (counted > skipped.length) problems.push(`${counted - skipped.length} without a name`);
  return { summary, problems: problems.map((title) => `skipped: ${title}`) };
}
