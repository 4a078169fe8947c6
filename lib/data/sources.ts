/** Where training pictures come from: folders, lists, globs and single files. */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, extname, relative, resolve } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { LtrpError } from '../errors.js';
import { imageExtensions } from '../image-extensions.js';
import { invalid } from '../validation.js';

/** One `--data` argument, resolved. */
export interface Source {
  /** As it was given, without the share. */
  name: string;
  /** Share of every epoch that is drawn from this source, or null: in proportion to its size. */
  share: number | null;
  /** Absolute paths, sorted by code unit, none twice (lists keep their order and their repetitions). */
  files: string[];
  /** The same files as they are named within the source: what identifies the data when a run is resumed. */
  names: string[];
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Resolves `PATH` or `PATH@SHARE`: a folder (searched recursively for {@link imageExtensions}), a `.txt` list (one path a
 * line, relative to the list; empty lines and lines that begin with `#` are skipped), a glob, or one image file.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_DATA_EMPTY` when there is no image in it;
 *   `ERR_LTRP_INVALID_ARGUMENT` for a share outside (0, 1].
 */
export async function resolveSource(argument: string): Promise<Source> {
  const { name, share } = await splitShare(argument);
  const info = await stat(name).catch(() => null);
  let root: string;
  let files: string[];
  if (info?.isDirectory()) {
    root = resolve(name);
    const pattern = `**/*.{${imageExtensions.join(',')}}`;
    files = await glob(pattern, { cwd: root, absolute: true, caseSensitiveMatch: false });
    files.sort(byCodeUnit);
  } else if (info !== null && extname(name).toLowerCase() === '.txt') {
    root = dirname(resolve(name));
    const lines = (await readFile(name, 'utf8')).split(/\r?\n/).map((line) => line.trim());
    files = lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => resolve(root, line));
  } else if (info !== null) {
    root = dirname(resolve(name));
    files = [resolve(name)];
  } else if (isDynamicPattern(name)) {
    root = process.cwd();
    files = await glob(name, { absolute: true });
    files.sort(byCodeUnit);
  } else {
    throw new LtrpError('ERR_LTRP_FILE_NOT_FOUND', `There is no folder, list or image ${name}.`);
  }
  if (files.length === 0) {
    throw new LtrpError(
      'ERR_LTRP_DATA_EMPTY',
      `${name} has no images; folders are searched for ${imageExtensions.join(', ')}.`,
    );
  }
  files = files.map((file) => resolve(file)); // one spelling
  return { name, share, files, names: files.map((file) => relative(root, file)) };
}

/** `PATH@SHARE`, where a file or folder that is really called so wins. */
async function splitShare(argument: string): Promise<{ name: string; share: number | null }> {
  const match = /^(.+)@(\d*\.?\d+)$/.exec(argument);
  if (match === null || (await stat(argument).catch(() => null)) !== null) {
    return { name: argument, share: null };
  }
  const [, name = '', text = ''] = match;
  const share = Number(text);
  if (!(share > 0 && share <= 1)) {
    throw invalid(`The share of ${basename(name)} must be a number in (0, 1], not ${text}.`);
  }
  return { name, share };
}
