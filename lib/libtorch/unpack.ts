/** Unpacking a LibTorch out of a Python wheel or the official archive, and NVIDIA's libraries out of wheels (all zip files). */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { LtrpError, messageOf } from '../errors.js';
import { describe, isWriteError, startOf } from '../download/failures.js';

// The parts of a LibTorch; the wheel's Python sources and test programs are not needed.
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
    return name === 'version.py' || (name !== undefined && !unwanted.test(name)) ? name : null;
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
  let zip: ZipFile | undefined;
  try {
    zip = await yauzl.openPromise(archive, { lazyEntries: true, autoClose: false });
    let files = 0;
    let read = 0;
    const written = new Set<string>();
    // yauzl refuses absolute names and names with `..`.
    for await (const entry of zip.eachEntry()) {
      options.signal?.throwIfAborted();
      read += 1;
      const name = entry.fileName.endsWith('/') ? null : partOf(entry.fileName);
      if (name !== null) {
        checkEntry(entry, name, written);
        await extract(zip, entry, path.join(target, name));
        files += 1;
      }
      options.onProgress?.(read, zip.entryCount);
    }
    return files;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isWriteError(error)) throw error; // the archive may be as good as it gets
    throw await archiveError(archive, error);
  } finally {
    zip?.close();
  }
}

/** A file without conflict in the archive: not a link, and neither it nor a folder of its path occurs twice. */
function checkEntry(entry: Entry, name: string, written: Set<string>): void {
  const kind = (entry.externalFileAttributes >>> 16) & 0o170000; // 0 where it was made without Unix
  if (kind !== 0 && kind !== 0o100000) throw new Error(`${entry.fileName} is not a regular file`);
  let taken = written.has(name) || written.has(`${name}/`);
  for (let up = path.posix.dirname(name); up !== '.'; up = path.posix.dirname(up)) {
    taken ||= written.has(up);
    written.add(`${up}/`);
  }
  if (taken) throw new Error(`${entry.fileName} is there twice`);
  written.add(name);
}

async function extract(zip: ZipFile, entry: Entry, file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  let crc = 0;
  const check = async function* (content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of content) {
      crc = zlib.crc32(chunk, crc);
      yield chunk;
    }
  };
  await pipeline(await zip.openReadStreamPromise(entry), check, createWriteStream(file));
  if (crc !== entry.crc32) throw new Error(`the checksum of ${entry.fileName} is wrong`);
}

async function archiveError(archive: string, error: unknown): Promise<LtrpError> {
  const reason = messageOf(error).replace(/\.+$/, '');
  const start = await startOf(createReadStream(archive)).catch(() => null);
  const content = start === null ? '' : ` It is ${describe(start)}.`;
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_ARCHIVE',
    `${archive} cannot be unpacked: ${reason}.${content}`,
    { cause: error },
  );
}
