/** Where training pictures come from: folders, lists, globs, single files and shards. */
import { stat } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { LtrpError, notFound } from '../errors.js';
import { imageExtensions } from '../image-extensions.js';
import { shareOf, shareProblem } from '../share.js';
import { isRemote } from '../shards/locations.js';
import type { MemberGroup, ShardOptions } from '../shards/shard.js';
import { invalid } from '../validation.js';
import { PictureFinder, type FoundPictures } from './picture-files.js';

/** One `--data` argument, resolved. */
export interface Source {
  /** As it was given, without the share. */
  name: string;
  /** Share of every epoch that is drawn from this source, or null: in proportion to its size. */
  share: number | null;
  /** The folder that `names` are relative to, absolute. */
  root: string;
  /** Absolute paths, sorted by code unit (lists keep their order), none twice. */
  files: string[];
  /** The same files as they are named within the source: what identifies the data when a run is resumed. */
  names: string[];
  /** Known problems of files, by path: missing files named in a list, dangling links. */
  problems: Map<string, LtrpError>;
  /** Files that are read together: row groups of Parquet files. */
  groups?: readonly MemberGroup[];
}

/** Sources, and what was passed over on the way, as sentences. */
export interface ResolvedSources {
  sources: Source[];
  passedOver: string[];
  /** A line for each damage of a shard, and how many records are lost by all. */
  damage: string[];
  lost: number;
}

/**
 * Resolves `PATH` or `PATH@SHARE`, where the path is what {@link PictureFinder} takes. A picture that several sources give
 * belongs to the first of them; but a source with a share has all of its pictures, because that share says how often they come.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_DATA_EMPTY` when there is no image in one;
 *   `ERR_LTRP_INVALID_ARGUMENT` for a share outside (0, 1]; as {@link PictureFinder.find}.
 */
export async function resolveSources(
  names: readonly string[],
  options: ShardOptions = {},
): Promise<ResolvedSources> {
  const together = new PictureFinder(undefined, options);
  const finders = [together];
  const sources: Source[] = [];
  const passedOver: string[] = [];
  for (const argument of names) {
    const { name, share } = await splitShare(argument);
    const finder = share === null ? together : new PictureFinder(undefined, options);
    if (share !== null) finders.push(finder);
    const found = await finder.find(name);
    if (found.kind === 'missing') {
      throw notFound(`There is no folder, list or image ${name}.`);
    }
    if (found.files.length === 0 && found.repeated === 0) {
      throw new LtrpError('ERR_LTRP_DATA_EMPTY', nothingFound(name, found, finder));
    }
    if (found.files.length > 0) sources.push(sourceOf(name, share, found));
  }
  for (const { passedOver: skipped, notes } of finders)
    passedOver.push(...skipped.sentences, ...notes);
  // A shard that several sources with shares have has lost its records once.
  const losses = new Map(finders.flatMap((finder) => [...finder.losses]));
  const lost = [...losses.values()].reduce((sum, records) => sum + records, 0);
  return { sources, passedOver: [...new Set(passedOver)], damage: [...losses.keys()], lost };
}

/** An error that says why there are no pictures, and what there is instead. */
export function nothingFound(
  name: string,
  { kind }: Pick<FoundPictures, 'kind'>,
  { passedOver }: PictureFinder,
): string {
  if (kind === 'list') return `${name} names no images; a list has one path a line.`;
  const there = passedOver.text === '' ? '' : `; what is there: ${passedOver.text}`;
  if (kind !== 'folder') return `No image matches ${name}${there}.`;
  return `${name} has no images${there}; folders are searched for ${imageExtensions.join(', ')}.`;
}

function sourceOf(name: string, share: number | null, found: FoundPictures): Source {
  const absolute = (path: string): string => (isRemote(path) ? path : resolve(path));
  const root = absolute(found.root);
  const within = (path: string): string =>
    isRemote(path) && path.startsWith(`${root}/`)
      ? path.slice(root.length + 1)
      : relative(root, path);
  const places = found.files.map(({ path, shard = path.length }) => ({
    place: absolute(path.slice(0, shard)),
    inside: path.slice(shard),
  }));
  const files = places.map(({ place, inside }) => place + inside);
  const problems = found.files.flatMap(({ problem }, index) =>
    problem === undefined ? [] : [[files[index] as string, problem] as const],
  );
  return {
    name,
    share,
    root,
    files,
    names: places.map(({ place, inside }) => within(place) + inside),
    problems: new Map(problems),
    groups: found.groups,
  };
}

/** `PATH@SHARE`, where a file or folder that is really called so wins. */
async function splitShare(argument: string): Promise<{ name: string; share: number | null }> {
  const match = /^(.+)@([\d.]+%?)$/.exec(argument);
  if (match === null || (await stat(argument).catch(() => null)) !== null) {
    return { name: argument, share: null };
  }
  const [, name = '', text = ''] = match;
  const problem = shareProblem(text, '(0, 1]');
  if (problem !== undefined) throw invalid(`The share in ${argument} is wrong: ${problem}`);
  return { name, share: shareOf(text) };
}
