/**
 * Resolves a name of pictures: a file, a folder, a `.txt` list, a glob, or a shard (`lib/shards`) by any of these or by its
 * address. Every command and every data set asks here, so that one name means the same to all of them.
 */
import { lstat, mkdtemp, readdir, realpath, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, isAbsolute, join, resolve, sep } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { LtrpError, notFound, readError } from '../errors.js';
import { imageExtensions, unreadExtensions } from '../image-extensions.js';
import { isOutput } from '../output-mark.js';
import { isRemote, isShard, remoteShards } from '../shards/locations.js';
import { publicName } from '../shards/remote.js';
import { openShard, type MemberGroup, type ShardOptions } from '../shards/shard.js';
import { PassedOver } from './passed-over.js';
import { readTextFile } from './text-file.js';

/** A file that is to be read. */
export interface PictureFile {
  /** As the name spells it: relative where that is relative. */
  path: string;
  /** A known problem, reported instead of what reading it would say. */
  problem?: LtrpError;
  /** Of a picture in a shard: how much of the path is the shard's. */
  shard?: number;
}

/** What one name stands for. */
export interface FoundPictures {
  /** Which kind of name it is. */
  kind: 'folder' | 'list' | 'glob' | 'file' | 'remote' | 'missing';
  /** The folder that the files are named relative to. */
  root: string;
  /** None twice, and none of an earlier name's. A missing name is a file with a problem. */
  files: PictureFile[];
  /** How many more there were that an earlier name has given already, or that are links to others. */
  repeated: number;
  /** Files that are read together, by their places in `files`. */
  groups: MemberGroup[];
}

type Taken = Pick<FoundPictures, 'files' | 'repeated'>;

interface Candidate {
  path: string;
  /** Without links: what tells whether two names are of one picture. */
  real: string;
  isLink?: boolean;
  problem?: LtrpError;
}

export type Compare = (a: string, b: string) => number;

const byCodeUnit: Compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const extension = (path: string): string => extname(path).slice(1).toLowerCase();
const isPicture = (path: string): boolean => imageExtensions.includes(extension(path));

/** Finds the pictures that names stand for. A picture has one place, under the first name that leads to it. */
export class PictureFinder {
  /** Files skipped in folders and matches of globs so far. */
  readonly passedOver = new PassedOver();
  readonly #seen = new Set<string>();
  /** What the shards so far have lost: for each damage a line, and the number of records. */
  readonly losses = new Map<string, number>();
  /** What people should know about them, as sentences. */
  readonly notes: string[] = [];

  /**
   * @param compare - the order of files within a folder or a glob; lists keep theirs.
   * @param shards - how shards are opened; `'closed'`: they are found as files, not as the pictures in them.
   */
  constructor(
    private readonly compare: Compare = byCodeUnit,
    private readonly shards: ShardOptions | 'closed' = {},
  ) {}

  /**
   * A path that exists is taken as it is: a folder is searched recursively for {@link imageExtensions}, a `.txt` file is a
   * list with one path a line, relative to its folder (empty lines and those that begin with `#` are skipped), a file whose name
   * ends with `.tar` or `.parquet` is a shard, any other file is a picture whatever it is called. What does not exist is an address
   * or a glob if it can be one, regardless of case. Hidden files and pictures that the command wrote are passed over in folders and
   * globs, and so is what is neither picture nor shard.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND` for a list of which no line names a file, `ERR_LTRP_FILE_READ` for a list
   *   or a folder that cannot be read; as `remoteShards` and `openShard`.
   */
  async find(name: string): Promise<FoundPictures> {
    const found = await this.#find(name);
    return this.shards === 'closed' ? { ...found, groups: [] } : this.#opened(found, this.shards);
  }

  async #find(name: string): Promise<Omit<FoundPictures, 'groups'>> {
    if (isRemote(name)) {
      const { signal } = this.shards === 'closed' ? {} : this.shards;
      const urls = await remoteShards(name, { signal });
      const candidates = urls.map((path) => ({ path, real: publicName(path) }));
      return { kind: 'remote', root: rootOf(name), ...this.#take(candidates) };
    }
    const info = await stat(name).catch(() => undefined);
    if (info?.isDirectory() === true) {
      const candidates = await this.#folder(name);
      return { kind: 'folder', root: name, ...this.#take(candidates, this.compare) };
    }
    if (info !== undefined) return this.#file(name);
    const split = await splitPattern(name);
    if (split === undefined) {
      return { kind: 'missing', root: dirname(name), ...this.#take([await missing(name)]) };
    }
    const found = await this.#glob(split);
    return { kind: 'glob', root: split.base, ...found };
  }

  /** The pictures of shards in the place of the shards. */
  async #opened(
    found: Omit<FoundPictures, 'groups'>,
    options: ShardOptions,
  ): Promise<FoundPictures> {
    const files: PictureFile[] = [];
    const groups: MemberGroup[] = [];
    for (const file of found.files) {
      if (!isShard(file.path) || file.problem !== undefined) {
        files.push(file);
        continue;
      }
      const shard = await openShard(file.path, options);
      if (shard.isResult) {
        this.passedOver.output(dirname(file.path));
        continue;
      }
      for (const { line, records } of shard.damage) this.losses.set(line, records);
      this.notes.push(...shard.notes);
      for (const group of shard.groups ?? [])
        groups.push({ ...group, first: group.first + files.length });
      const { length } = shard.name;
      for (const key of shard.keys) files.push({ path: `${shard.name}/${key}`, shard: length });
    }
    return { ...found, files, groups };
  }

  async #file(name: string): Promise<Omit<FoundPictures, 'groups'>> {
    if (extension(name) === 'txt') {
      return { kind: 'list', root: dirname(name), ...this.#take(await list(name)) };
    }
    return { kind: 'file', root: dirname(name), ...this.#take([await candidate(name)]) };
  }

  /** Links come after what they may lead to, so that a picture keeps its own name and a loop of links ends. */
  async #folder(root: string): Promise<Candidate[]> {
    const found: Candidate[] = [];
    const visited = new Set<string>();
    const folders = [root];
    const links: string[] = [];
    for (;;) {
      const folder = folders.pop() ?? links.shift();
      if (folder === undefined) return found;
      const real = await realpath(folder);
      if (visited.has(real)) continue;
      visited.add(real);
      const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
        if (basename(folder) === 'lost+found') return [];
        throw readError(folder, cause);
      });
      for (const entry of entries) {
        if (entry.name.startsWith('.')) continue;
        const path = join(folder, entry.name);
        if (entry.isSymbolicLink()) {
          const target = await stat(path).catch(() => undefined);
          if (target?.isDirectory() === true) links.push(path);
          else if (await this.#wanted(path)) found.push(await candidate(path));
        } else if (entry.isDirectory()) {
          folders.push(path);
        } else if (entry.isFile() && (await this.#wanted(path))) {
          found.push(await candidate(path, join(real, entry.name)));
        }
      }
    }
  }

  /** Whether a file that nobody named is a picture to work on; counts it otherwise. */
  async #wanted(path: string): Promise<boolean> {
    if (isShard(path)) return true;
    if (!isPicture(path)) {
      this.passedOver.kind(extension(path), unreadExtensions.includes(extension(path)));
      return false;
    }
    if (!(await isOutput(path))) return true;
    this.passedOver.output(dirname(path));
    return false;
  }

  async #glob({ base, pattern }: Pattern): Promise<Taken> {
    const names = await matches(base, pattern);
    // A pattern that spells the extension names files; `*` does not mean the notes beside the pictures.
    const named = /\.[^.*/]+$/.test(pattern);
    const candidates: Candidate[] = [];
    const files: PictureFile[] = [];
    let repeated = 0;
    for (const name of names) {
      const path = join(base, name);
      if (await isOutput(path)) this.passedOver.output(dirname(path));
      else if (named && extension(path) === 'txt') {
        const listed = await this.#file(path);
        files.push(...listed.files);
        repeated += listed.repeated;
      } else if (named || (await this.#wanted(path))) candidates.push(await candidate(path));
    }
    const taken = this.#take(candidates, this.compare);
    return { files: [...taken.files, ...files], repeated: taken.repeated + repeated };
  }

  #take(candidates: Candidate[], compare?: Compare): Taken {
    if (compare !== undefined) {
      // Whichever of two names stays must not depend on the order in which the system lists them.
      candidates.sort(
        (a, b) =>
          Number(a.isLink ?? false) - Number(b.isLink ?? false) || byCodeUnit(a.path, b.path),
      );
    }
    const files: PictureFile[] = [];
    for (const { path, real, problem } of candidates) {
      if (this.#seen.has(real)) continue;
      this.#seen.add(real);
      files.push(problem === undefined ? { path } : { path, problem });
    }
    if (compare !== undefined) files.sort((a, b) => compare(a.path, b.path));
    return { files, repeated: candidates.length - files.length };
  }
}

/** The folder of an address; of a list of a store the address itself. */
function rootOf(name: string): string {
  const url = publicName(name);
  return isShard(name) ? url.slice(0, url.lastIndexOf('/')) : url.replace(/\/+$/, '');
}

async function candidate(path: string, real?: string): Promise<Candidate> {
  if (real !== undefined && !path.includes('\uFFFD')) return { path, real };
  const isLink = (await lstat(path).catch(() => undefined))?.isSymbolicLink() ?? false;
  const target = await realpath(path).catch(() => undefined);
  return target === undefined ? missing(path) : { path, real: target, isLink };
}

/** A missing file, with the reason if it is known. */
async function missing(path: string, where = ''): Promise<Candidate> {
  const info = await lstat(path).catch(() => undefined);
  const why =
    info?.isSymbolicLink() === true
      ? '; the link leads nowhere'
      : path.includes('\uFFFD')
        ? '; its name is not valid UTF-8, which Node.js cannot open: rename it'
        : '';
  const problem = new LtrpError(
    'ERR_LTRP_IMAGE_NOT_FOUND',
    `${where}There is no image ${path}${why}.`,
  );
  const folder = await realpath(dirname(path)).catch(() => resolve(dirname(path)));
  const isLink = info?.isSymbolicLink() ?? false;
  return { path, real: join(folder, basename(path)), problem, isLink };
}

async function list(name: string): Promise<Candidate[]> {
  const text = await readTextFile(name);
  const found: Candidate[] = [];
  let exists = false;
  for (const [index, line] of text.split(/\r\n|\n|\r/).entries()) {
    const entry = line.trim();
    if (entry === '' || entry.startsWith('#')) continue;
    const path = isAbsolute(entry) ? entry : join(dirname(name), entry);
    const one = await candidate(path);
    exists ||= one.problem === undefined;
    found.push(
      one.problem === undefined ? one : await missing(path, `${name}, line ${index + 1}: `),
    );
  }
  if (exists || found.length === 0) return found;
  throw notFound(
    `${name} is taken for a list of pictures, but none of its ${found.length} lines names a file; the first one is ` +
      `${JSON.stringify(found[0]?.path.slice(0, 200))}. A list has one path a line, relative to the list's folder.`,
  );
}

async function matches(base: string, pattern: string): Promise<string[]> {
  const find = (cwd: string): Promise<string[]> =>
    glob([pattern], { cwd, expandDirectories: false, onlyFiles: true, caseSensitiveMatch: false });
  const folder = resolve(base);
  if (sep === '\\' || !folder.includes('\\')) return find(folder);
  // tinyglobby takes the backslashes of a folder's path for separators: it gets another path to the same folder.
  const temporary = await mkdtemp(join(tmpdir(), 'ltrp-glob-'));
  try {
    await symlink(folder, join(temporary, 'folder'));
    return await find(join(temporary, 'folder'));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

interface Pattern {
  /** The part that exists as it is written, '' or a folder: whatever it is called, it is no pattern. */
  base: string;
  pattern: string;
}

/** A name as a folder that exists and a pattern below it; undefined when it can be no pattern. */
async function splitPattern(name: string): Promise<Pattern | undefined> {
  const segments = name.split('/');
  let base = '';
  for (;;) {
    const next = `${base}${segments[0] ?? ''}/`;
    if (segments.length < 2 || !(await stat(next).catch(() => undefined))?.isDirectory()) break;
    base = next;
    segments.shift();
  }
  const pattern = segments
    .join('/')
    // As in a shell: no negation, and groups only with a sign in front.
    .replace(/^!(?!\()/, '\\!')
    .replace(/(?<![?*+@!\\])\(([^()|]*)\)/g, '\\($1\\)');
  const plain = pattern.replace(/\\[!()]/g, '');
  return plain.includes('\\') || isDynamicPattern(plain) ? { base, pattern } : undefined;
}
