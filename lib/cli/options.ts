/** Parsers of option values; each refuses with one sentence, which commander prints with the option's name. */
import { InvalidArgumentError, Option } from 'commander';
import { precisions } from '../types.js';

export function parseInteger(minimum: number, maximum = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(
        maximum === Number.MAX_SAFE_INTEGER
          ? `It must be an integer of at least ${minimum}.`
          : `It must be an integer from ${minimum} to ${maximum}.`,
      );
    }
    return value;
  };
}

/** A share in (0, 1], or (0, 1) when `open`; `50%` is understood as 0.5. */
export function parseShare(interval: '(0, 1)' | '(0, 1]') {
  return (text: string): number => {
    const match = /^(\d*\.?\d+(?:e-?\d+)?)(%?)$/i.exec(text.trim());
    const value = match === null ? NaN : Number(match[1]) / (match[2] === '%' ? 100 : 1);
    if (!(value > 0 && (interval === '(0, 1]' ? value <= 1 : value < 1))) {
      throw new InvalidArgumentError(`It must be a number in ${interval}, for example 0.5 or 50%.`);
    }
    return value;
  };
}

/** Rows and columns of patches, for example `14x14`. */
export function parseGrid(text: string): { rows: number; columns: number } {
  const match = /^(\d{1,4})x(\d{1,4})$/i.exec(text.trim());
  const rows = Number(match?.[1]);
  const columns = Number(match?.[2]);
  if (!(rows > 0 && columns > 0 && rows * columns <= 65536)) {
    throw new InvalidArgumentError('It must be ROWSxCOLUMNS, for example 14x14 or 10x20.');
  }
  return { rows, columns };
}

export const gridOption = (): Option =>
  new Option(
    '--grid <rowsxcolumns>',
    'cut every image into this many rows and columns of patches',
  ).argParser(parseGrid);

export const patchesOption = (): Option =>
  new Option(
    '--patches <count>',
    'cut every image into about this many patches, whatever its aspect (default: as many as the model was made for)',
  )
    .argParser(parseInteger(2, 65536))
    .conflicts('grid');

export const seedOption = (): Option =>
  new Option('--seed <integer>', 'seed of everything random').argParser(parseInteger(0)).default(0);

export const precisionOption = (): Option =>
  new Option(
    '--precision <type>',
    'of matrix products; below float32 they are faster and a little less exact (docs/benchmarks.md)',
  )
    .choices(precisions)
    .default('float32');

export const deviceOption = (): Option =>
  new Option('--device <device>', "where to compute: 'auto', 'cpu' or 'cuda'").default('auto');

export const libtorchOption = (): Option =>
  new Option('--libtorch <folder>', 'the LibTorch to use (default: see ltrp doctor)');
