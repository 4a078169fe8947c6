/** What the programs of `npm run evaluate` do around their measurements. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { UsageError } from '../../bench/command-line.js';

export function say(text: string): void {
  process.stderr.write(`evaluate: ${text}\n`);
}

/** Where figures come from; every results file begins with it. */
export interface Provenance {
  command: string;
  date: string;
  processor: string;
}

export function provenance(args: readonly string[]): Provenance {
  return {
    command: `npm run evaluate -- ${args.join(' ')}`,
    date: new Date().toISOString().slice(0, 10),
    processor: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores`,
  };
}

/** Writes `NAME.json`, `NAME.md` and other files into `folder`, and prints the Markdown. */
export function writeResults(
  folder: string,
  name: string,
  results: object,
  markdown: string,
  others: Record<string, string> = {},
): void {
  mkdirSync(folder, { recursive: true });
  const files = {
    [`${name}.json`]: `${JSON.stringify(results, null, 2)}\n`,
    [`${name}.md`]: markdown,
    ...others,
  };
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  process.stdout.write(markdown);
}

/** At most so many, spread over classes: folders are of one class each, hashes of names are not. */
export function sample(paths: readonly string[], count: number, word = 'sample'): string[] {
  const place = (path: string): string =>
    createHash('sha256')
      .update(`${word} ${basename(path)}`)
      .digest('hex');
  return [...paths].sort((a, b) => (place(a) < place(b) ? -1 : 1)).slice(0, count);
}

/** One of some words, as an option is given it. */
export function choice<Word extends string>(
  name: string,
  value: string,
  words: readonly Word[],
): Word {
  const word = words.find((each) => each === value);
  if (word === undefined)
    throw new UsageError(`--${name} must be one of ${words.join(', ')}, not ${value}`);
  return word;
}

export function integer(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new UsageError(`--${name} must be an integer from ${least}, not ${text}`);
  return value;
}
