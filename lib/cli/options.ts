/** Parsers of option values; each refuses with one sentence, which commander prints with the option's name. */
import { Argument, InvalidArgumentError, Option, type Command } from 'commander';
import { defaultRowGroupMemory } from '../shards/shard.js';
import { shareOf, shareProblem, type Interval } from '../share.js';
import { precisions, type LoadOptions } from '../types.js';
import type { GridWish } from '../whole-picture.js';
import { exitCodesHelp } from './exit-codes.js';
import { imagesHelp } from './image-arguments.js';

export const option = (flags: string, text?: string): Option => new Option(flags, text);

export function addOptions(command: Command, options: readonly Option[]): void {
  for (const each of options) command.addOption(each);
}

export function parseInteger(minimum: number, maximum = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(
        maximum === Number.MAX_SAFE_INTEGER
          ? `It must be an integer of at least ${minimum}.`
          : `It must be an integer in [${minimum}, ${maximum}].`,
      );
    }
    return value;
  };
}

/** A share; `50%` is understood as 0.5. */
export function parseShare(interval: Interval) {
  return (text: string): number => {
    const problem = shareProblem(text, interval);
    if (problem !== undefined) throw new InvalidArgumentError(problem);
    return shareOf(text);
  };
}

/** Shares, separated by commas. */
export function parseShares(interval: Interval) {
  const parse = parseShare(interval);
  return (text: string): number[] => text.split(',').map(parse);
}

/** A path or a name, which an empty variable of a shell is not. */
export function parseName(text: string): string {
  if (text === '') throw new InvalidArgumentError('It is empty; is a shell variable unset?');
  return text;
}

/** Rows and columns of patches, for example `14x14`. */
export function parseGrid(text: string): { rows: number; columns: number } {
  const match = /^(\d{1,4})x(\d{1,4})$/i.exec(text.trim());
  const rows = Number(match?.[1]);
  const columns = Number(match?.[2]);
  if (!(rows > 0 && columns > 0 && rows * columns <= 65536)) {
    throw new InvalidArgumentError(
      'It must be ROWSxCOLUMNS, for example 14x14 or 10x20, both at least 1 and 65536 patches at most.',
    );
  }
  return { rows, columns };
}

export const maskRatioOption = (share: number): Option =>
  option('--mask-ratio <share>', 'share of the patches to hide')
    .argParser(parseShare('(0, 1)'))
    .default(share);

export const seedOption = (): Option =>
  option('--seed <integer>', 'seed of all random draws').argParser(parseInteger(0)).default(0);

const precisionOption = (): Option =>
  option(
    '--precision <type>',
    'precision of matrix products; below float32 is faster and slightly less exact (docs/benchmarks.md)',
  )
    .choices(precisions)
    .default('float32');

export function parseBytes(text: string): number {
  const match = /^(\d*\.?\d+)\s*([kmgt]?)i?b?$/i.exec(text.trim());
  if (match === null)
    throw new InvalidArgumentError('It must be a size, for example 512MiB or 2GiB.');
  const power = ['', 'k', 'm', 'g', 't'].indexOf((match[2] ?? '').toLowerCase());
  return Math.floor(Number(match[1]) * 1024 ** power);
}

/** How Parquet files of pictures are read. */
export const shardOptions = (): Option[] => [
  option('--image-column <name>', 'column of Parquet files that has the pictures')
    .argParser(parseName)
    .default('image'),
  option(
    '--row-group-memory <size>',
    'memory for row groups of Parquet files; a larger row group is refused',
  )
    .argParser(parseBytes)
    .default(defaultRowGroupMemory, '1GiB'),
];

export const deviceOption = (): Option =>
  option('--device <device>', "'auto', 'cpu' or 'cuda'").argParser(parseName).default('auto');

export const libtorchOption = (): Option =>
  option('--libtorch <folder>', 'the LibTorch to use (default: see ltrp doctor)').argParser(
    parseName,
  );

/** The pictures that a command works on; see {@link imagesHelp}. */
const imagesArgument = (): Argument =>
  new Argument('<images...>', 'files, folders, .txt lists or globs (in quotes)').argParser(
    (text: string, before: string[] | undefined) => [...(before ?? []), parseName(text)],
  );

/** Values of what {@link addImageOptions} adds. */
export interface ImageSettings extends GridWish {
  model: string;
  out?: string;
  json?: true;
  seed: number;
  imageColumn: string;
  rowGroupMemory: number;
  device: NonNullable<LoadOptions['device']>;
  precision?: NonNullable<LoadOptions['precision']>;
  libtorch?: string;
}

/** Adds what all commands on images share: the argument, the options after their own, the end of the help. */
export function addImageOptions(
  command: Command,
  text: {
    /** What `--model` takes besides 'tiny'. */
    model: string;
    /** What goes to the folder of `--out`. */
    out: string;
    /** Where there is no `--out` and no `--json`; none: the command decides. */
    defaultOut?: string;
    /** Whether models can be loaded in other precisions. */
    precision: boolean;
    help: string;
  },
): void {
  command.addArgument(imagesArgument());
  addOptions(command, [
    option('--model <model>', `'tiny' (embedded), ${text.model}`)
      .argParser(parseName)
      .default('tiny'),
    option('--out <folder>', text.out).argParser(parseName).default(text.defaultOut),
    option('--json', 'print one JSON object per image on standard output, and nothing else'),
    option(
      '--grid <rowsxcolumns>',
      'cut every image into this many rows and columns of patches',
    ).argParser(parseGrid),
    option(
      '--patches <count>',
      'cut every image into about this many patches (default: as many as the model was made for)',
    )
      .argParser(parseInteger(2, 65536))
      .conflicts('grid'),
    seedOption(),
    ...shardOptions(),
    ...(text.precision ? [precisionOption()] : []),
    deviceOption(),
    libtorchOption(),
  ]);
  command.addHelpText(
    'after',
    `${text.help}
${imagesHelp}
${exitCodesHelp}`,
  );
}
