/** Turns the library's and the core's names of arguments into options of the command. */
import type { Command } from 'commander';

/**
 * Arguments of the API and fields of the core that are not called as the option is. The others are found by themselves:
 * `learningRate` is `--learning-rate`.
 */
const otherNames: Readonly<Record<string, string>> = {
  keepRatio: '--keep',
  warmupSteps: '--warmup',
  decaySteps: '--decay',
  cacheBytes: '--cache-memory',
  image_height: 'the height in --image-size',
  imageHeight: 'the height in --image-size',
  image_width: 'the width in --image-size',
  imageWidth: 'the width in --image-size',
  patch_size: '--patch-size',
  'encoder.dim': '--dim',
  'encoder.depth': '--depth',
  'encoder.heads': '--heads',
  'encoder.mlpDim': '--mlp-dim',
  'encoder.mlp_dim': '--mlp-dim',
  'decoder.dim': '--decoder-dim',
  'decoder.depth': '--decoder-depth',
  'decoder.heads': '--decoder-heads',
  'decoder.mlpDim': '--decoder-dim',
  'decoder.mlp_dim': '--decoder-dim',
  normalizedTarget: '--target',
  k: '--loss-k',
  'overwrite: true': '--force',
  'option libtorch': '--libtorch',
  'the libtorch option': '--libtorch',
  'The libtorch option': '--libtorch',
};

/** What each argument is called in the command that runs. */
let names: ReadonlyMap<string, string> = new Map();

/** Learns the options of the command that runs; what it has no option for keeps its name. */
export function useOptionsOf(command: Command): void {
  const own = command.options.flatMap((option) =>
    // Of `--x` and `--no-x` the first is what a value is given to.
    option.long == null || option.negate ? [] : [[option.attributeName(), option.long] as const],
  );
  const longs = own.map(([, long]) => long);
  const others = Object.entries(otherNames).filter(([, text]) =>
    longs.some((long) => text === long || text.endsWith(` ${long}`)),
  );
  names = new Map([...own, ...others]);
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A message in which arguments of the library are called as the options of the command that runs. */
export function inOptions(message: string): string {
  // The longest first: encoder.dim before dim.
  const known = [...names.keys()].sort((a, b) => b.length - a.length);
  if (known.length === 0) return message;
  const path = '(?:options\\.)?(?:model\\.)?';
  const call = (_match: string, name: string): string => names.get(name) ?? name;
  const alternatives = (list: readonly string[]): string => list.map(escaped).join('|');
  // A word that is not English can only be a name, except in paths and quoted texts.
  const special = known.filter((name) => /[A-Z_. ]/.test(name));
  // A word like device is an argument where a sentence about it begins.
  const begins = `(${alternatives(known)})(?= (?:must|is|are|has|goes|cannot|'[^']*' is) )`;
  return message
    .replace(
      new RegExp(`^${path}(${alternatives(known)}) and ${path}(${alternatives(known)})(?= )`),
      (_match, first: string, second: string) =>
        `${names.get(first) ?? first} and ${names.get(second) ?? second}`,
    )
    .replace(new RegExp(`^${path}${begins}`), call)
    .replace(new RegExp(`(?<=[.:;] )options\\.${begins}`, 'g'), call)
    .replace(
      special.length === 0
        ? /(?!)/
        : new RegExp(`(?<![\\w/.'"“-])${path}(${alternatives(special)})(?![\\w/'"”-]|\\.\\w)`, 'g'),
      call,
    );
}
