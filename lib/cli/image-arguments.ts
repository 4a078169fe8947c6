/** From the command's IMAGES to files: paths as they are, folders recursively, globs expanded. */
import { stat } from 'node:fs/promises';
import { basename, extname, join, relative } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { imageExtensions } from '../image-extensions.js';

async function isFolder(path: string): Promise<boolean | undefined> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return undefined;
  }
}

const byName = new Intl.Collator('en', { numeric: true });

/**
 * Expands paths, folders and globs, in the order given, each file once. A path that does not exist and is no glob is kept:
 * the command then reports it by name. A glob or folder without images is listed in `empty`.
 */
export async function expandImages(
  patterns: readonly string[],
): Promise<{ files: string[]; empty: string[] }> {
  const files = new Set<string>();
  const empty: string[] = [];
  const options = { expandDirectories: false, onlyFiles: true, caseSensitiveMatch: false } as const;
  for (const pattern of patterns) {
    const folder = await isFolder(pattern);
    let found: string[];
    if (folder === true) {
      const names = await glob([`**/*.{${imageExtensions.join(',')}}`], {
        ...options,
        cwd: pattern,
      });
      found = names.map((name) => join(pattern, name)).sort(byName.compare);
    } else if (folder === undefined && isDynamicPattern(pattern)) {
      const names = await glob([pattern], { ...options, absolute: pattern.startsWith('/') });
      found = names.sort(byName.compare);
    } else {
      found = [pattern];
    }
    if (found.length === 0) empty.push(pattern);
    for (const file of found) files.add(file);
  }
  return { files: [...files], empty };
}

/** A name for each file's outputs: its own without the extension, numbered where two would be the same. */
export function outputNames(files: readonly string[]): string[] {
  const taken = new Set<string>();
  return files.map((file) => {
    const stem = basename(file, extname(file)).replace(/[^\p{L}\p{N}._-]+/gu, '_') || 'image';
    let name = stem;
    for (let number = 2; taken.has(name.toLowerCase()); number++) name = `${stem}-${number}`;
    taken.add(name.toLowerCase());
    return name;
  });
}

/** A path as people read it: relative to the current folder where that is shorter. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short !== '' && short.length < path.length ? short : path;
}
