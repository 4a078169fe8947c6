/** Unpacking a LibTorch out of a Python wheel or the official archive, and NVIDIA's libraries out of wheels (all zip files). */
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { LtrpError } from '../errors.js';
import { isWriteError } from './write-errors.js';

const openZip = promisify<string, yauzl.Options, ZipFile>(yauzl.open);

// What a LibTorch is: the wheel's Python sources and test programs are not part of it.
const wanted =
  /^(?:torch|libtorch)\/((?:lib|include|share\/cmake)\/.+|version\.py|build-version|build-hash)$/;
const unwanted = /\.pyi?$|^lib\/libtorch_python\.|^lib\/python|_test\./;

export interface UnpackOptions {
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes `lib/`, `include/`, `share/cmake/` and the version file of `archive` below `target`. Returns the number of files.
 * @throws LtrpError ERR_LTRP_LIBTORCH_ARCHIVE when the file is not a zip file, is truncated or holds no LibTorch; errors of
 * the disk as they are.
 */
export async function unpackLibtorch(
  archive: string,
  target: string,
  options: UnpackOptions = {},
): Promise<number> {
  const partOf = (entry: string): string | null => {
    const name = wanted.exec(entry)?.[1];
    return name !== undefined && isPart(name) ? name : null;
  };
  return unpack(archive, target, partOf, options);
}

/**
 * Writes the shared libraries of one of NVIDIA's wheels below `target`, as `<package>/lib/<name>`. Returns the number of files.
 * @throws LtrpError ERR_LTRP_LIBTORCH_ARCHIVE
 */
export async function unpackNvidia(
  archive: string,
  target: string,
  options: UnpackOptions = {},
): Promise<number> {
  // `.alt.` marks a second build of a library that nothing asks for.
  const partOf = (entry: string): string | null =>
    /^nvidia\/(\w+\/lib\/(?!.*\.alt\.)[^/]+\.so[.\d]*)$/.exec(entry)?.[1] ?? null;
  return unpack(archive, target, partOf, options);
}

/** Writes the entries that `partOf` gives a name; every one's length and CRC-32 is checked. */
async function unpack(
  archive: string,
  target: string,
  partOf: (entry: string) => string | null,
  options: UnpackOptions,
): Promise<number> {
  let zip: ZipFile;
  try {
    zip = await openZip(archive, { lazyEntries: true, autoClose: false });
  } catch (error) {
    throw archiveError(archive, error);
  }
  try {
    let files = 0;
    let read = 0;
    for await (const entry of entries(zip)) {
      options.signal?.throwIfAborted();
      read += 1;
      const name = entry.fileName.endsWith('/') ? null : partOf(entry.fileName);
      if (name !== null) {
        await extract(zip, entry, path.join(target, name));
        files += 1;
      }
      options.onProgress?.(read, zip.entryCount);
    }
    return files;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isWriteError(error)) throw error; // the archive may be as good as it gets
    throw archiveError(archive, error);
  } finally {
    zip.close();
  }
}

function isPart(name: string): boolean {
  return name === 'version.py' || !unwanted.test(name);
}

/** yauzl refuses absolute names and names with `..` by itself. */
async function* entries(zip: ZipFile): AsyncGenerator<Entry> {
  for (let i = 0; i < zip.entryCount; i++) {
    const entry = await new Promise<Entry | null>((resolve, reject) => {
      const settle = (): void => {
        zip.off('entry', onEntry).off('end', onEnd).off('error', onError);
      };
      const onEntry = (value: Entry): void => {
        settle();
        resolve(value);
      };
      const onEnd = (): void => {
        settle();
        resolve(null);
      };
      const onError = (error: Error): void => {
        settle();
        reject(error);
      };
      zip.on('entry', onEntry).on('end', onEnd).on('error', onError);
      zip.readEntry();
    });
    if (entry === null) return;
    yield entry;
  }
}

async function extract(zip: ZipFile, entry: Entry, file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const content = await new Promise<Readable>((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error !== null) reject(error);
      else resolve(stream);
    });
  });
  let crc = 0;
  const check = new Transform({
    transform(chunk: Buffer, _encoding, callback): void {
      // What is thrown here would leave the stream as an uncaught exception.
      try {
        crc = zlib.crc32(chunk, crc);
      } catch (error) {
        callback(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      callback(null, chunk);
    },
  });
  await pipeline(content, check, createWriteStream(file));
  if (crc !== entry.crc32) throw new Error(`the checksum of ${entry.fileName} is wrong`);
}

function archiveError(archive: string, error: unknown): LtrpError {
  const reason = (error instanceof Error ? error.message : String(error)).replace(/\.+$/, '');
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_ARCHIVE',
    `${archive} cannot be unpacked: ${reason}. Run the same command again to fetch it anew.`,
    { cause: error },
  );
}
