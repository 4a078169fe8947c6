/** Parquet files with a column of pictures: which rows there are, and the bytes of a row group. */
import { parquetMetadataAsync, parquetReadObjects, type FileMetaData } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { LtrpError, messageOf } from '../errors.js';
import { invalid } from '../validation.js';
import type { ByteSource } from './byte-source.js';
import { groupDamage, type Damage } from './damage.js';

export interface RowGroup {
  /** Of the file's rows. */
  firstRow: number;
  rows: number;
  /** Of the column of pictures, uncompressed: the memory that reading the group takes. */
  bytes: number;
  /** Where the column's bytes begin in the file. */
  offset: number;
  /** Rows without a picture, counted from the file's first. */
  lost: number[];
}

export interface ParquetIndex {
  groups: RowGroup[];
  damage: Damage[];
  /** Whether ltrp wrote it: results, not pictures. */
  isResult: boolean;
}

/** A key of the metadata of files that ltrp writes. */
export const resultMark = 'ltrp';

interface Column {
  metadata: FileMetaData;
  name: string;
}

/** A source as hyparquet reads it. */
export const asyncBuffer = (source: ByteSource, signal: AbortSignal | undefined) => ({
  byteLength: source.size,
  slice: async (start: number, end = source.size): Promise<ArrayBuffer> => {
    const bytes = await source.read(start, end - start, signal);
    // A source gives each piece a buffer of its own.
    return bytes.buffer as ArrayBuffer;
  },
});

/** What is wrong with bytes that could be read; what keeps them from being read is thrown. */
function damageOf(error: unknown, signal: AbortSignal | undefined): string {
  signal?.throwIfAborted();
  if (error instanceof LtrpError) throw error;
  return messageOf(error);
}

/**
 * Reads the end of the file, which describes it. Row groups that may have null rows are read, too.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a file without a column of pictures under that name; as
 *   {@link ByteSource.read}; `signal.reason`.
 */
export async function scanParquet(
  source: ByteSource,
  name: string,
  signal?: AbortSignal,
): Promise<ParquetIndex> {
  const index: ParquetIndex = { groups: [], damage: [], isResult: false };
  let column: Column;
  try {
    column = await openColumn(source, name, signal);
  } catch (error) {
    if (error instanceof LtrpError && error.code === 'ERR_LTRP_INVALID_ARGUMENT') throw error;
    const why = damageOf(error, signal);
    index.damage.push({
      what: `the end that describes it is damaged (${why}); all ${source.size} bytes and every row lost, at least`,
      records: 1,
    });
    return index;
  }
  const { metadata } = column;
  index.isResult = metadata.key_value_metadata?.some(({ key }) => key === resultMark) ?? false;
  if (index.isResult) return index;
  checkColumn(source.name, metadata, name);
  let firstRow = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    const chunks = group.columns.flatMap(({ meta_data: meta }) =>
      meta?.path_in_schema[0] === name ? [meta] : [],
    );
    const starts = chunks.map(({ dictionary_page_offset: dictionary, data_page_offset: data }) =>
      Number(dictionary !== undefined && dictionary > 0n && dictionary < data ? dictionary : data),
    );
    const bytes = chunks.reduce((sum, meta) => sum + Number(meta.total_uncompressed_size), 0);
    const entry = { firstRow, rows, bytes, offset: Math.min(...starts), lost: [] as number[] };
    index.groups.push(entry);
    firstRow += rows;
    const pictures = chunks.find(
      ({ path_in_schema: path }) => path.length === 1 || path[1] === 'bytes',
    );
    if (pictures?.statistics?.null_count !== 0n)
      entry.lost = await lostRows(source, column, entry, index.damage, signal);
  }
  const nulls = index.groups.flatMap(({ lost, rows }) => (lost.length < rows ? lost : []));
  if (nulls.length > 0) {
    const named = nulls.slice(0, 5).join(', ') + (nulls.length > 5 ? ', …' : '');
    const what = `no picture in row${nulls.length > 1 ? 's' : ''} ${named} (null)`;
    index.damage.push({ what, records: nulls.length });
  }
  return index;
}

/** Reads a group whose statistics do not exclude null rows. */
async function lostRows(
  source: ByteSource,
  column: Column,
  group: RowGroup,
  damage: Damage[],
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const all = Array.from({ length: group.rows }, (_, i) => group.firstRow + i);
  try {
    const pictures = await readGroup(source, column, group, signal);
    return all.filter((_, i) => pictures[i] === null);
  } catch (error) {
    damage.push({ what: groupDamage(group, damageOf(error, signal)), records: group.rows });
    return all;
  }
}

/** Throws what hyparquet throws for a damaged end. */
export async function openColumn(
  source: ByteSource,
  name: string,
  signal?: AbortSignal,
): Promise<Column> {
  const metadata = await parquetMetadataAsync(asyncBuffer(source, signal), { geoparquet: false });
  return { metadata, name };
}

/**
 * The bytes of the pictures of a group, null where a row has none. They are views of larger buffers.
 *
 * Throws what hyparquet throws for damaged bytes.
 */
export async function readGroup(
  source: ByteSource,
  { metadata, name }: Column,
  { firstRow, rows }: RowGroup,
  signal?: AbortSignal,
): Promise<(Uint8Array | null)[]> {
  const read = await parquetReadObjects({
    file: asyncBuffer(source, signal),
    metadata,
    columns: [name],
    rowStart: firstRow,
    rowEnd: firstRow + rows,
    utf8: false,
    geoparquet: false,
    compressors,
  });
  if (read.length !== rows) throw new Error(`${read.length} of ${rows} rows are there`);
  return read.map((row) => {
    const value: unknown = row[name];
    const bytes: unknown =
      value instanceof Uint8Array
        ? value
        : (value as { bytes?: unknown } | null | undefined)?.bytes;
    return bytes instanceof Uint8Array ? bytes : null;
  });
}

/** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`. */
function checkColumn(file: string, { schema }: FileMetaData, name: string): void {
  // The elements are a tree in the order of a walk; the first is its root.
  const columns: { name: string; from: number; to: number }[] = [];
  const end = (at: number): number => {
    let next = at + 1;
    for (let i = 0; i < (schema[at]?.num_children ?? 0); i++) next = end(next);
    return next;
  };
  for (let at = 1; at < schema.length; at = end(at)) {
    columns.push({ name: schema[at]?.name ?? '', from: at, to: end(at) });
  }
  const column = columns.find((each) => each.name === name);
  const isBytes = (at: number): boolean => {
    const { type, converted_type: converted, logical_type: logical } = schema[at] ?? {};
    return type === 'BYTE_ARRAY' && converted === undefined && logical === undefined;
  };
  if (column === undefined) {
    throw invalid(
      `${file} has no column '${name}'; its columns are ${columns.map((each) => each.name).join(', ')}. imageColumn must be the one with the pictures.`,
    );
  }
  const { from, to } = column;
  const leaf =
    to - from === 1
      ? from
      : schema.findIndex((element, at) => at > from && at < to && element.name === 'bytes');
  if (leaf < 0 || !isBytes(leaf) || schema[from]?.repetition_type === 'REPEATED') {
    throw invalid(
      `The column '${name}' of ${file} has no pictures: it must be binary, or a struct with a binary field 'bytes'.`,
    );
  }
}
