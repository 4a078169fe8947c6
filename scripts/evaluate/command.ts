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

/** Refuses models whose patches are not those that are measured. */
export function checkPatchSizes(
  patch: number,
  models: Readonly<Record<string, { readonly config: { readonly patchSize: number } } | null>>,
): void {
  for (const [name, model] of Object.entries(models)) {
    if (model !== null && model.config.patchSize !== patch)
      throw new UsageError(
        `patches are ${patch} px wide here, and those of ${name} are ${model.config.patchSize}`,
      );
  }
}

/** Selectors and shares of lists that name one twice: it is measured once. */
export function listed<Item>(text: string, read: (word: string) => Item): Item[] {
  return [...new Set(text.split(',').map(read))];
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
