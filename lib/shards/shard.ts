/** Files with many pictures. A picture in one has a path: that of the file, a slash, and its name or row in it. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { LtrpError, undecodable, messageOf } from '../errors.js';
import { localSource, type ByteSource } from './byte-source.js';
import { damageLine, groupDamage } from './damage.js';
import { cachedIndex, type ShardIndex } from './index-file.js';
import { isRemote } from './locations.js';
import type { openColumn, RowGroup } from './parquet.js';
import { publicName, remoteSource } from './remote.js';
import { RowGroupCache } from './row-groups.js';

export interface ShardOptions {
  /** Of Parquet files. Default `'image'`. */
  imageColumn?: string | undefined;
  /** Bytes of row groups that are held at a time, at most. Default 1 GiB. */
  rowGroupMemory?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Neighbouring members that are read together. */
export interface MemberGroup {
  /** Of the members. */
  first: number;
  count: number;
  bytes: number;
}

/** The picture of a path. */
export interface Member {
  /** Bytes; of a row, about. */
  size: number;
  read: (signal?: AbortSignal) => Promise<Buffer>;
}

/** Whether a shard's place cannot be read at the moment: the picture may be read another time. */
export const isUnreachable = (error: unknown): boolean =>
  error instanceof LtrpError && ['ERR_LTRP_DOWNLOAD', 'ERR_LTRP_FILE_READ'].includes(error.code);

export const defaultRowGroupMemory = 2 ** 30;
const rowGroups = new RowGroupCache();
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

export class Shard {
  /** Without a query. */
  readonly name: string;
  readonly size: number;
  readonly version: string;
  /** Names of the pictures: of a tar's members, or numbers of a Parquet file's rows. */
  readonly keys: readonly string[];
  /** Where each begins in the file; all of a row group at the same place. */
  readonly offsets: readonly number[];
  /** Null where each picture is read by itself. */
  readonly groups: readonly MemberGroup[] | null;
  /** A line for each, with the records that are lost by it. */
  readonly damage: readonly { line: string; records: number }[];
  readonly notes: readonly string[];
  /** Whether ltrp wrote it. */
  readonly isResult: boolean;
  #numbers: Map<string, number> | undefined;
  #opened: ReturnType<typeof openColumn> | undefined;

  private constructor(
    private readonly source: ByteSource,
    private readonly index: ShardIndex,
    private readonly column: string,
  ) {
    ({ name: this.name, size: this.size, version: this.version } = source);
    this.damage = index.damage.map((damage) => ({
      line: `${damageLine(this.name, damage)}.`,
      records: damage.records,
    }));
    if (index.kind === 'tar') {
      this.keys = index.names;
      this.offsets = index.offsets;
      this.groups = null;
      this.notes = index.notes.map((note) => `${this.name}: ${note}.`);
      this.isResult = false;
      return;
    }
    const keys: string[] = [];
    const offsets: number[] = [];
    const groups: MemberGroup[] = [];
    for (const { firstRow, rows, bytes, offset, lost } of index.groups) {
      const without = new Set(lost);
      const first = keys.length;
      for (let row = firstRow; row < firstRow + rows; row++) {
        if (without.has(row)) continue;
        keys.push(String(row));
        offsets.push(offset);
      }
      if (keys.length > first) groups.push({ first, count: keys.length - first, bytes });
    }
    [this.keys, this.offsets, this.groups, this.notes] = [keys, offsets, groups, []];
    this.isResult = index.isResult;
  }

  static async open(location: string, options: ShardOptions): Promise<Shard> {
    const { imageColumn = 'image', rowGroupMemory = defaultRowGroupMemory, signal } = options;
    const remote = isRemote(location);
    const source = await (remote ? remoteSource(location, { signal }) : localSource(location));
    const isTar = /\.tar$/i.test(source.name);
    const place = remote ? source.name : resolve(location);
    const key = [place, source.version, isTar ? '' : imageColumn].join('\0');
    const index = await cachedIndex(key, async () => {
      // Their libraries are loaded where there are such files.
      if (isTar) {
        const { scanTar } = await import('./tar.js');
        return { kind: 'tar', ...(await scanTar(source, signal)) };
      }
      const { scanParquet } = await import('./parquet.js');
      return { kind: 'parquet', ...(await scanParquet(source, imageColumn, signal)) };
    });
    if (index.kind === 'parquet') {
      for (const group of index.groups) refuseLarge(source.name, group, rowGroupMemory);
      rowGroups.limit = rowGroupMemory;
    }
    return new Shard(source, index, imageColumn);
  }

  /** Undefined where there is none of that name. */
  member(key: string): Member | undefined {
    this.#numbers ??= new Map(this.keys.map((each, number) => [each, number]));
    const number = this.#numbers.get(key);
    if (number === undefined) return undefined;
    const index = this.index;
    if (index.kind === 'tar') {
      const size = index.sizes[number] as number;
      const offset = index.offsets[number] as number;
      return { size, read: (signal) => this.source.read(offset, size, signal) };
    }
    const row = Number(key);
    const group = index.groups.find(({ firstRow, rows }) => row < firstRow + rows) as RowGroup;
    return {
      size: Math.ceil(group.bytes / group.rows),
      read: async (signal) => {
        const pictures = await rowGroups.get(
          `${this.name}\0${this.version}\0${this.column}\0${group.firstRow}`,
          group.bytes,
          () => this.#group(group),
          (error) => error instanceof LtrpError && error.code === 'ERR_LTRP_IMAGE_DECODE',
        );
        signal?.throwIfAborted();
        const picture = pictures[row - group.firstRow];
        // A copy: a view would keep all of the group in memory.
        if (picture != null) return Buffer.from(picture);
        throw undecodable(`${this.name}/${key} is null.`);
      },
    };
  }

  /** Without a signal: others may wait for the same group. */
  async #group(group: RowGroup): Promise<(Uint8Array | null)[]> {
    const { openColumn, readGroup } = await import('./parquet.js');
    try {
      this.#opened ??= openColumn(this.source, this.column);
      return await readGroup(this.source, await this.#opened, group);
    } catch (cause) {
      if (cause instanceof LtrpError) {
        this.#opened = undefined;
        throw cause;
      }
      // The same words for each picture of the group, so that they can be said once.
      const what = groupDamage(group, messageOf(cause));
      const line = `${damageLine(this.name, { what, records: group.rows })}.`;
      if (!told.has(line)) told.set(line, false);
      throw undecodable(line, cause);
    }
  }
}

/** Messages about damaged row groups, and whether people know them. */
const told = new Map<string, boolean>();

/**
 * What to say of a picture at `path` that cannot be read: `line`, behind the path where that does not name it. An error that concerns a
 * whole row group, which all of its pictures report, is said once: then undefined.
 */
export function toldOnce(
  path: string,
  { message }: Error,
  line: string = message,
): string | undefined {
  const isTold = told.get(message);
  if (isTold === true) return undefined;
  if (isTold === false) told.set(message, true);
  return isTold === false || line.includes(path) ? line : `${path}: ${line}`;
}

function refuseLarge(name: string, { firstRow, rows, bytes }: RowGroup, limit: number): void {
  if (bytes <= limit) return;
  throw new LtrpError(
    'ERR_LTRP_OUT_OF_MEMORY',
    `${name} has a row group of ${megabytes(bytes)} (${bytes} bytes, rows ${firstRow} to ${firstRow + rows - 1}), and rowGroupMemory ` +
      `is ${megabytes(limit)}. Write the file with smaller row groups, or allow more.`,
  );
}

/** Shards of this process, by their absolute places. */
const opened = new Map<string, Promise<Shard>>();

/** Of shards that only the path of a picture names. */
let usual: ShardOptions = {};

/** How shards are opened that nobody opened before one of their pictures is asked for. */
export function openShardsWith({ imageColumn, rowGroupMemory }: ShardOptions): void {
  usual = { imageColumn, rowGroupMemory };
}

const placeOf = (location: string): string =>
  isRemote(location) ? publicName(location) : resolve(location);

/**
 * Opens a shard, or takes the one that is open already if it has not changed. Its index is in the user's cache folder afterwards.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_READ`, `ERR_LTRP_DOWNLOAD`; `ERR_LTRP_INVALID_ARGUMENT` for a Parquet file without such a
 *   column; `ERR_LTRP_OUT_OF_MEMORY` for a row group that is larger than it may be; `signal.reason`.
 */
export async function openShard(location: string, options: ShardOptions = {}): Promise<Shard> {
  const shard = Shard.open(location, options);
  const place = placeOf(location);
  opened.set(place, shard);
  shard.catch(() => {
    if (opened.get(place) === shard) opened.delete(place);
  });
  return shard;
}

/** {@link memberOf} of a path that may lead through a shard. */
export async function findMember(path: string, inside: RegExp): Promise<Member | undefined> {
  for (const match of path.matchAll(inside)) {
    const end = match.index + match[0].length;
    const location = path.slice(0, end - 1);
    const known = opened.get(placeOf(location));
    if (known === undefined && !isRemote(location)) {
      // A folder may be called so, too.
      const info = await stat(location).catch(() => undefined);
      if (info?.isFile() !== true) continue;
    }
    const shard = await (known ?? openShard(location, usual));
    return shard.member(path.slice(end));
  }
  return undefined;
}
