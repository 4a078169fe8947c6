/** Labels of pictures: the folders that they lie in. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LtrpError } from '../errors.js';
import { invalid } from '../validation.js';
import type { Complete } from './batches.js';
import type { Dataset } from './dataset.js';

/** The class of every picture of a data set. */
export interface Labels {
  /** Names of the classes, sorted by code unit. */
  classes: readonly string[];
  /** Index into `classes` for each of the data set's files. */
  ids: Int32Array;
}

const separator = /[\\/]/;

/**
 * The class of a picture is the folder right below its source that it lies in, however deep.
 *
 * @param known - the classes that there may be: those that a model is trained on. Default: all that are found, at least two.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a picture without such a folder, a single class, or one that is not
 *   `known`; `ERR_LTRP_DATA_EMPTY` for such a folder without a picture.
 */
export async function labelsOf(dataset: Dataset, known?: readonly string[]): Promise<Labels> {
  const names = dataset.sources.flatMap((source) =>
    source.names.map((name, i) => {
      const [folder = '', ...rest] = name.split(separator);
      if (rest.length > 0 && folder !== '..' && folder !== '') return folder;
      throw invalid(
        `Every picture must lie in a folder named after its class below ${source.name}; ${String(source.files[i])} does not.`,
      );
    }),
  );
  const found = [...new Set(names)].sort();
  const classes = known ?? found;
  const other = found.find((name) => !classes.includes(name));
  if (other !== undefined) {
    throw invalid(
      `The class '${other}' is none of the ${classes.length} that are trained: ${list(classes)}.`,
    );
  }
  for (const source of dataset.sources) await checkFolders(source.name, new Set(names));
  if (classes.length < 2) {
    throw invalid(
      `There must be at least two classes, each a folder with pictures; there is only '${classes[0] ?? ''}'.`,
    );
  }
  const place = new Map(classes.map((name, i) => [name, i]));
  return { classes, ids: Int32Array.from(names, (name) => place.get(name) ?? -1) };
}

/** A class without a picture would have to be learned from nothing. */
async function checkFolders(source: string, classes: ReadonlySet<string>): Promise<void> {
  const info = await stat(source).catch(() => undefined);
  if (info?.isDirectory() !== true) return;
  for (const entry of await readdir(source, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.') || classes.has(entry.name)) continue;
    throw new LtrpError(
      'ERR_LTRP_DATA_EMPTY',
      `The class folder ${join(source, entry.name)} has no pictures; add some or remove it.`,
    );
  }
}

const list = (names: readonly string[]): string =>
  names.slice(0, 10).join(', ') + (names.length > 10 ? ', …' : '');

/** Gives pictures of the labelled data set their class. */
export function withLabels({ ids }: Labels): Complete {
  return (picture, index) => Promise.resolve({ ...picture, label: ids[index] });
}
