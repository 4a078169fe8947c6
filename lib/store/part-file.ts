/** A file of results: written whole under its name or not at all, whoever else writes the same part. */
import { Buffer } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { LtrpError } from '../errors.js';
import { bytesDigest } from '../file-digest.js';
import { systemId } from '../folder-lock.js';
import { giveName, writeError } from '../output-files.js';
import { resultMark } from '../shards/parquet.js';
import type { ResultKind } from './manifest.js';
import { columnsOf, RowsDigest, schemaOf, type ResultRow } from './rows.js';

/** What a file's metadata say of it. */
export interface PartMark {
  store: string;
  kind: ResultKind;
  /** From 0; of a merged file null. */
  part: number | null;
  parts: number;
  images: number;
  /** Of these, those without a result. */
  unreadable: number;
  /** {@link RowsDigest} of all rows. */
  digest: string;
}

/** Values of lists in a row group, about: what is in memory before it is written. */
const groupValues = 2 ** 19;
const suffix = '.partial';

export class PartFile {
  readonly #path: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #mark: Omit<PartMark, 'images' | 'unreadable' | 'digest'>;
  readonly #constant: { model: string; version: string };
  readonly #bytes = new ByteWriter();
  readonly #writer: ParquetWriter;
  readonly #digest: RowsDigest;
  #rows: ResultRow[] = [];
  #values = 0;
  #images = 0;
  #unreadable = 0;

  private constructor(
    path: string,
    partial: string,
    handle: FileHandle,
    mark: Omit<PartMark, 'images' | 'unreadable' | 'digest'>,
    constant: { model: string; version: string },
  ) {
    [this.#path, this.#partial, this.#handle] = [path, partial, handle];
    [this.#mark, this.#constant] = [mark, constant];
    this.#digest = new RowsDigest(mark.kind);
    this.#writer = new ParquetWriter({
      writer: this.#bytes,
      schema: schemaOf(mark.kind),
      createdBy: `ltrp version ${constant.version}`,
    });
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_WRITE`. */
  static async create(
    path: string,
    mark: Omit<PartMark, 'images' | 'unreadable' | 'digest'>,
    constant: { model: string; version: string },
  ): Promise<PartFile> {
    // Not *.parquet: engines read what a pattern finds.
    const name = `.${basename(path)}.${systemName()}.${process.pid}.${randomUUID()}${suffix}`;
    const partial = join(dirname(path), name);
    try {
      return new PartFile(path, partial, await open(partial, 'wx'), mark, constant);
    } catch (cause) {
      throw writeError(path, cause);
    }
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_WRITE`. */
  async add(row: ResultRow): Promise<void> {
    this.#rows.push(row);
    this.#digest.add(row as unknown as Record<string, unknown>);
    this.#images++;
    if (row.problem !== null) this.#unreadable++;
    this.#values +=
      (row.logits?.length ?? 0) + (row.kept?.length ?? 0) + (row.means?.length ?? 0) * 2 + 8;
    if (this.#values >= groupValues) await this.#writeGroup();
  }

  /**
   * Gives the finished file its name.
   *
   * @returns false where another process was faster: its file stays.
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`.
   */
  async commit(): Promise<boolean> {
    await this.#writeGroup();
    const mark: PartMark = {
      ...this.#mark,
      images: this.#images,
      unreadable: this.#unreadable,
      digest: this.#digest.hex,
    };
    this.#writer.kvMetadata = [{ key: resultMark, value: JSON.stringify(mark) }];
    try {
      await this.#writer.finish();
      await this.#flush();
      await this.#handle.sync();
      await this.#handle.close();
      await giveName(this.#partial, this.#path, false);
      await syncFolder(dirname(this.#path));
      return true;
    } catch (cause) {
      await this.discard();
      if (cause instanceof LtrpError && cause.code === 'ERR_LTRP_FILE_EXISTS') return false;
      throw writeError(this.#path, cause);
    }
  }

  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#partial, { force: true }).catch(() => undefined);
  }

  async #writeGroup(): Promise<void> {
    const rows = this.#rows;
    this.#rows = [];
    this.#values = 0;
    if (rows.length === 0) return;
    const columnData = columnsOf(this.#mark.kind).map((name) => ({
      name,
      data:
        name === 'model' || name === 'version'
          ? rows.map(() => this.#constant[name])
          : rows.map((row) => row[name as keyof ResultRow] ?? null),
    }));
    try {
      await this.#writer.write({ columnData, rowGroupSize: rows.length });
      await this.#flush();
    } catch (cause) {
      await this.discard();
      throw writeError(this.#path, cause);
    }
  }

  async #flush(): Promise<void> {
    await this.#handle.writeFile(this.#bytes.getBytes());
    this.#bytes.index = 0;
  }
}

/** So that the name survives a loss of power, too. Not every system can. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => undefined);
  await folder?.close();
}

/** Where process numbers mean the same: two containers of one host name may both have a process 7. */
const systemName = (): string => bytesDigest(Buffer.from(systemId() ?? hostname())).slice(0, 12);

/** Removes what processes of this machine left that are no more. */
export async function removeLeftovers(folder: string): Promise<void> {
  const marker = `.${systemName()}.`;
  for (const name of await readdir(folder)) {
    if (!name.startsWith('.part-') || !name.endsWith(suffix) || !name.includes(marker)) continue;
    const pid = Number(name.slice(name.indexOf(marker) + marker.length).split('.')[0]);
    try {
      process.kill(pid, 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') continue;
      await rm(join(folder, name), { force: true });
    }
  }
}
