/** Labels of pictures: the folder that each lies in, or the categories that a file lists. */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LtrpError } from '../errors.js';
import type { NativePicture } from '../native/binding.js';
import { invalid } from '../validation.js';
import type { Complete } from './batches.js';
import type { Dataset } from './dataset.js';
import { categoryName } from './category-names.js';
import { entryOf, type LabelFile } from './label-files.js';

/** What the pictures of a data set show. */
export interface Labels {
  /** Names of the classes. */
  classes: readonly string[];
  /** For each of the data set's files: `label` or `labels`. */
  ofFiles: readonly Pick<NativePicture, 'label' | 'labels'>[];
  /** Identifies them; absent where the names of the files do. */
  digest?: string;
  /** What people should know, as sentences. */
  notes: readonly string[];
}

const separator = /[\\/]/;

/**
 * The class of a picture is the folder right below its source that it lies in, however deep.
 *
 * @param known - the classes that there may be: those that a model is trained on. Default: all that are found, at least two.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a picture without such a folder, a single class, or one that is not
 *   `known`; `ERR_LTRP_DATA_EMPTY` for such a folder without a picture.
 */
export async function foldersAsLabels(
  dataset: Dataset,
  known?: readonly string[],
): Promise<Labels> {
  const names = dataset.sources.flatMap((source) =>
    source.names.map((path, i) => {
      // In a shard its own folders count.
      const name = path.replace(/^.*?\.(tar|parquet)[\\/]/i, '');
      const [folder = '', ...rest] = name.split(separator);
      if (rest.length > 0 && folder !== '..' && folder !== '')
        return categoryName(folder, source.name);
      throw invalid(
        `Every picture must lie in a folder named after its class below ${source.name}; ${String(source.files[i])} does not.`,
      );
    }),
  );
  const found = [...new Set(names)].sort();
  const classes = known ?? found;
  const other = found.find((name) => !classes.includes(name));
  if (other !== undefined) throw unknown('class', other, classes);
  for (const source of dataset.sources) await checkFolders(source.name, new Set(names));
  if (classes.length < 2) {
    throw invalid(
      `There must be at least two classes, each a folder with pictures; there is only '${classes[0] ?? ''}'.`,
    );
  }
  const place = new Map(classes.map((name, i) => [name, i]));
  return { classes, ofFiles: names.map((name) => ({ label: place.get(name) })), notes: [] };
}

/** A class without a picture would have to be learned from nothing. */
async function checkFolders(source: string, classes: ReadonlySet<string>): Promise<void> {
  const info = await stat(source).catch(() => undefined);
  if (info?.isDirectory() !== true) return;
  for (const entry of await readdir(source, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue;
    if (classes.has(categoryName(entry.name, source))) continue;
    throw new LtrpError(
      'ERR_LTRP_DATA_EMPTY',
      `The class folder ${join(source, entry.name)} has no pictures; add some or remove it.`,
    );
  }
}

/** Which categories of a label file count. */
export interface CategoryChoice {
  /** Those that count; others are ignored. Default: all of the file. */
  only?: readonly string[] | undefined;
  /** Those that a model is trained on; another one is refused unless `only` leaves it out. */
  known?: readonly string[] | undefined;
}

/**
 * Every picture has the categories that the file lists for it.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a picture that the file does not list, an entry that is of several pictures,
 *   fewer than two categories, pictures that show none of them, and a category that is none of the file's or not `known`.
 */
export function labelsOfFile(
  dataset: Dataset,
  file: LabelFile,
  { only, known }: CategoryChoice = {},
): Labels {
  const classes = known ?? only ?? file.categories;
  const possible = known ?? file.categories;
  const missing = only?.find((name) => !possible.includes(name));
  if (missing !== undefined) throw unknown('category', missing, possible);
  if (classes.length < 2) {
    throw invalid(
      `There must be at least two categories that count; of ${file.path} there is only '${classes[0] ?? ''}'.`,
    );
  }
  const place = new Map(classes.map((name, i) => [name, i]));
  const used = new Map<string, string>();
  const ofFiles = dataset.files.map((path) => {
    const entry = entryOf(file, path);
    if (entry === undefined)
      throw invalid(`Every picture must be in ${file.path}; ${path} is not.`);
    const other = used.get(entry) ?? path;
    if (other !== path)
      throw invalid(
        `'${entry}' in ${file.path} names both ${other} and ${path}; write more of their paths there.`,
      );
    used.set(entry, path);
    const ids: number[] = [];
    for (const name of file.entries.get(entry) ?? []) {
      if (only?.includes(name) === false) continue;
      const id = place.get(name);
      if (id === undefined) throw unknown('category', name, classes);
      ids.push(id);
    }
    return { labels: Int32Array.from(ids).sort() };
  });
  if (ofFiles.every(({ labels }) => labels.length === 0))
    throw invalid(`None of the pictures shows a category of ${file.path} that counts.`);
  const hash = createHash('sha256').update(classes.join('\0'));
  for (const { labels } of ofFiles) hash.update(`\n${labels.join(' ')}`);
  const others = file.entries.size - used.size;
  const notes =
    others > 0
      ? [`${others} of the ${file.entries.size} pictures in ${file.path} are not among the images.`]
      : [];
  const shown = new Set(ofFiles.flatMap(({ labels }) => [...labels]));
  const absent = classes.filter((_, id) => !shown.has(id));
  // Of a model's classes a set of pictures may well show some.
  if (known === undefined && absent.length > 0)
    notes.push(
      `No picture shows these categories, so nothing is learned of them: ${list(absent)}.`,
    );
  return { classes, ofFiles, digest: hash.digest('hex'), notes };
}

const unknown = (what: string, name: string, classes: readonly string[]): LtrpError =>
  invalid(
    `The ${what} '${name}' is none of the ${classes.length} that ${what === 'class' ? 'are trained' : 'there are'}: ${list(classes)}.`,
  );

const list = (names: readonly string[]): string =>
  names.slice(0, 10).join(', ') + (names.length > 10 ? ', …' : '');

/** Gives pictures of the labelled data set their labels. */
export function withLabels({ ofFiles }: Labels): Complete {
  return (picture, index) => Promise.resolve({ ...picture, ...ofFiles[index] });
}
