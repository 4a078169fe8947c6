/** Compares the package's files with those of the last release (`last-release.json`, which a release writes). */

/** A release may be so much larger than the last before somebody has to look. */
const growth = 1.25;

/** `tar -tvzf`, as { path: bytes }. */
export function parseListing(text) {
  const files = {};
  for (const line of text.split('\n')) {
    const match = /^-\S+\s+\S+\s+(\d+)\s+\S+\s+\S+\s+package\/(.+)$/.exec(line);
    if (match !== null) files[match[2]] = Number(match[1]);
  }
  return files;
}

/**
 * @param last - { version, packed, files } of the last release, or null before the first.
 * @returns one line that sums it up, the differences one by one, and what is wrong with them.
 */
export function compareContents(last, now) {
  const count = Object.keys(now.files).length;
  const size = `${count} files, ${megabytes(now.packed)}`;
  if (last === null) {
    return { summary: `the first release: ${size}`, differences: [], problems: [] };
  }
  const differences = [];
  for (const path of Object.keys({ ...last.files, ...now.files }).sort()) {
    const [before, after] = [last.files[path], now.files[path]];
    if (before === undefined) differences.push(`+ ${path} (${after} bytes)`);
    else if (after === undefined) differences.push(`- ${path}`);
    else if (before !== after) differences.push(`  ${path}: ${before} -> ${after} bytes`);
  }
  const problems = [];
  if (differences.length > 0 && last.version === now.version) {
    problems.push(`${now.version} was released already, and the contents differ`);
  }
  if (now.packed > growth * last.packed) {
    problems.push(`${megabytes(last.packed)} have become ${megabytes(now.packed)}`);
  }
  const added = differences.filter((line) => line.startsWith('+')).length;
  const removed = differences.filter((line) => line.startsWith('-')).length;
  const changed = differences.length - added - removed;
  const summary = `against ${last.version}: ${added} added, ${removed} removed, ${changed} of another size; ${size}`;
  return { summary, differences, problems };
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
