/** Whether a folder of results is whole, and one file of all of it. */
import { parquetMetadataAsync, parquetReadObjects, type FileMetaData } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { refuseExisting } from '../output-files.js';
import { localSource } from '../shards/byte-source.js';
import { asyncBuffer, resultMark } from '../shards/parquet.js';
import type { ResultStore } from './manifest.js';
import { PartFile, type PartMark } from './part-file.js';
import { messageOf } from '../errors.js';
import { RowsDigest, type ResultRow } from './rows.js';

export interface Verdict {
  parts: number;
  /** Rows of the good parts. */
  images: number;
  /** Of these, those without a result. */
  unreadable: number;
  /** Names of files. */
  missing: string[];
  /** Files that do not hold what was written, and why. */
  damaged: { file: string; why: string }[];
}

/**
 * Reads every part as a whole. Parts are disjoint by the manifest; in a part no picture may come twice.
 *
 * @param onRow - gets the rows of each part that is good, in order.
 */
export async function verifyStore(
  store: ResultStore,
  signal: AbortSignal,
  onRow?: (row: ResultRow) => Promise<void>,
): Promise<Verdict> {
  const { parts } = store.manifest;
  const verdict: Verdict = { parts, images: 0, unreadable: 0, missing: [], damaged: [] };
  for (let part = 0; part < parts; part++) {
    signal.throwIfAborted();
    const file = store.partName(part);
    if (!store.has(part)) {
      verdict.missing.push(file);
      continue;
    }
    try {
      const { images, unreadable } = await checkPart(store, part, signal);
      verdict.images += images;
      verdict.unreadable += unreadable;
    } catch (error) {
      signal.throwIfAborted();
      verdict.damaged.push({ file, why: messageOf(error) });
      continue;
    }
    if (onRow !== undefined)
      for await (const row of rowsOf(store.partPath(part), signal))
        await onRow(row as unknown as ResultRow);
  }
  return verdict;
}

/** Throws an error that says what is wrong. */
async function checkPart(store: ResultStore, part: number, signal: AbortSignal): Promise<PartMark> {
  const path = store.partPath(part);
  const mark = await markOf(path, signal);
  if (mark?.store !== store.identity) throw new Error('it is not a part of this store');
  if (mark.part !== part) throw new Error(`it is part ${(mark.part ?? NaN) + 1}`);
  const digest = new RowsDigest(store.manifest.kind);
  const images = new Set<unknown>();
  let rows = 0;
  for await (const row of rowsOf(path, signal)) {
    digest.add(row);
    images.add(row['image']);
    rows++;
  }
  if (rows !== mark.images) throw new Error(`it has ${rows} rows and not ${mark.images}`);
  if (images.size !== rows) throw new Error(`${rows - images.size} pictures are there twice`);
  if (digest.hex !== mark.digest) throw new Error('its content has changed since it was written');
  return mark;
}

async function open(path: string, signal: AbortSignal) {
  const file = asyncBuffer(await localSource(path), signal);
  const metadata: FileMetaData = await parquetMetadataAsync(file, { geoparquet: false });
  return { file, metadata };
}

async function markOf(path: string, signal: AbortSignal): Promise<PartMark | undefined> {
  const { metadata } = await open(path, signal);
  const value = metadata.key_value_metadata?.find(({ key }) => key === resultMark)?.value;
  return value === undefined ? undefined : (JSON.parse(value) as PartMark);
}

async function* rowsOf(path: string, signal: AbortSignal): AsyncGenerator<Record<string, unknown>> {
  const { file, metadata } = await open(path, signal);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    yield* await parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors });
    rowStart = rowEnd;
  }
}

/**
 * Verifies a store and writes all rows to one file, if it is whole.
 *
 * @returns the verdict; the file is there if nothing is missing or damaged.
 * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; `ERR_LTRP_FILE_EXISTS`.
 */
export async function mergeStore(
  store: ResultStore,
  path: string,
  signal: AbortSignal,
): Promise<Verdict> {
  refuseExisting(path);
  const { kind, parts, model, version } = store.manifest;
  const mark = { store: store.identity, kind, part: null, parts };
  const file = await PartFile.create(path, mark, { model, version });
  try {
    const verdict = await verifyStore(store, signal, (row) => file.add(row));
    if (verdict.missing.length + verdict.damaged.length === 0) {
      if (!(await file.commit())) refuseExisting(path);
    }
    return verdict;
  } finally {
    await file.discard();
  }
}
