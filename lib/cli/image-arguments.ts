/** From the command's IMAGES to files, and from those to the names of what is written for them. */
import { basename, extname, relative } from 'node:path';
import { PictureFinder, type PictureFile } from '../data/picture-files.js';
import { nothingFound } from '../data/sources.js';
import { LtrpError, toLtrpError, dataUnreadable } from '../errors.js';
import type { ShardOptions } from '../shards/shard.js';

const byName = new Intl.Collator('en', { numeric: true });

/** Shown under the help of the commands that take pictures. */
export const imagesHelp = `
Images:
  a file        of any name
  a folder      its pictures, recursively, without hidden files; unreadable kinds are counted and named
  a .txt list   one path a line, relative to the list; empty lines and lines that begin with # are skipped
  a shard       a .tar (WebDataset) or .parquet file, or a folder or glob of them; https://host/{000..127}.tar,
                s3://bucket/prefix (docs/data-at-size.md)
  a glob        in quotes, such as 'photos/**/*.png', in upper or lower case; an existing file of that name comes first
A picture with several names is taken once. Pictures that ltrp wrote are taken only if you name them.`;

/** The pictures that the command's arguments stand for. */
export interface ExpandedImages {
  /** In the order given, each once. A path that does not exist is kept: reading it says so. */
  files: PictureFile[];
  /** Problems of arguments that gave no picture. */
  problems: LtrpError[];
  /** Skipped files, and what else people should know, as sentences. */
  passedOver: string[];
}

/** Expands files, folders, lists and globs, as {@link PictureFinder} takes them. */
export async function expandImages(
  names: readonly string[],
  options: ShardOptions = {},
): Promise<ExpandedImages> {
  const finder = new PictureFinder(byName.compare, options);
  const expanded: ExpandedImages = { files: [], problems: [], passedOver: [] };
  for (const name of names) {
    try {
      const found = await finder.find(name);
      expanded.files.push(...found.files);
      if (found.files.length === 0 && found.repeated === 0) {
        const text = nothingFound(name, found, finder);
        expanded.problems.push(new LtrpError('ERR_LTRP_DATA_EMPTY', text));
      }
    } catch (error) {
      expanded.problems.push(toLtrpError(error));
    }
  }
  for (const line of finder.losses.keys()) expanded.problems.push(dataUnreadable(line));
  expanded.passedOver = [...finder.passedOver.sentences, ...finder.notes];
  return expanded;
}

/** Bytes of an output's name before its suffix: file systems take 255, some with encryption 143. */
const longestStem = 100;

/** Base name of a file's outputs: its own name without the extension, safe in any shell, URL and file system. */
export function outputStem(file: string): string {
  const stem = basename(file, extname(file))
    // One form for accents: decomposed ones look the same and are other bytes.
    .normalize('NFC')
    .replace(/[^\p{L}\p{M}\p{N}\p{So}._-]+/gu, '_')
    .replace(/^[.-]+/, '_');
  let short = '';
  for (const character of stem) {
    if (Buffer.byteLength(short + character) > longestStem) break;
    short += character;
  }
  return short === '' ? 'image' : short;
}

/** A path as people read it: relative to the current folder where that is shorter. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short !== '' && short.length < path.length ? short : path;
}

/** A text as one line of a terminal: control characters, line breaks among them, as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character === '\n'
      ? '\\n'
      : `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  );
}
