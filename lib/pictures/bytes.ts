/** The one place that reads the bytes of picture files. */
import { Buffer } from 'node:buffer';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { LtrpError, undecodable } from '../errors.js';
import { cut, described } from '../described.js';
import { memberOf } from '../shards/member.js';
import { checkAttached, checkPath, invalid } from '../validation.js';
import { Budget, checkMemory } from './limits.js';

/** What names a picture: a path, a `file:` URL, or the bytes of an image file. */
export type PictureSource = string | URL | Uint8Array;

/**
 * The path or the bytes of a source. It looks at members, because a URL or an array of another realm is not an instance of ours.
 * Bytes are copied, so their owner may change them afterwards.
 *
 * @param which - what the source is called in messages, such as `sources[3]`.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` if it is not a picture.
 */
export function pathOrBytes(source: unknown, which: string, also = ''): string | Uint8Array {
  // A Buffer of this realm, as sharp tells buffers by their constructor.
  if (types.isUint8Array(source)) {
    checkAttached(which, source);
    return Buffer.from(source);
  }
  if (typeof source === 'string' && source !== '') {
    checkPath(which, source, 'a path');
    return source;
  }
  if (typeof source === 'object' && source !== null && 'href' in source && 'protocol' in source) {
    const href = String(source.href);
    if (source.protocol !== 'file:') {
      throw invalid(
        `${which} is ${cut(href)}, but only file: URLs are read; fetch it and give its bytes.`,
      );
    }
    try {
      return fileURLToPath(href);
    } catch (cause) {
      throw invalid(
        `${which} is ${cut(href)}, which names no file here: ${(cause as Error).message}.`,
      );
    }
  }
  throw invalid(
    `${which} must be a path, a file: URL${also === '' ? ' or' : ','} the bytes of an image file (Uint8Array)${also}; got ${described(source)}.`,
  );
}

/** What people call a source in messages: its path, or the position of a buffer. */
export function sourceName(source: string | Uint8Array, index = 0): string {
  return typeof source === 'string' ? source : `buffer ${index} (${source.byteLength} bytes)`;
}

/** Files that are read but not decoded yet. */
const reading = new Budget();

/**
 * Runs `work` with the bytes of a picture file, or of a picture in a shard, of which a bounded number is in memory at a time.
 *
 * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`; `ERR_LTRP_IMAGE_DECODE` for what is empty, no file or cannot be read;
 *   `ERR_LTRP_OUT_OF_MEMORY` for a file larger than decoding may take; of a picture in a shard as {@link memberOf} and
 *   reading it, `ERR_LTRP_DOWNLOAD` and `ERR_LTRP_FILE_READ` among them; `signal.reason`.
 */
export async function withBytes<Result>(
  path: string,
  name: string,
  signal: AbortSignal | undefined,
  work: (bytes: Buffer) => Promise<Result>,
): Promise<Result> {
  const member = await memberOf(path);
  if (member !== undefined) {
    checkMemory(`The image ${name}`, member.size, 'read');
    return reading.run(member.size, async () => {
      signal?.throwIfAborted();
      return work(await member.read(signal));
    });
  }
  const handle = await unlessUnreadable(name, signal, () => openPatiently(path));
  let closed = false;
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await handle.close();
  };
  try {
    const { size } = await unlessUnreadable(name, signal, async () => {
      const stats = await handle.stat();
      if (stats.isDirectory()) throw new Error('it is a folder');
      if (!stats.isFile()) {
        throw new Error('it is a pipe or a device; write it to a file first');
      }
      return stats;
    });
    checkMemory(`The file ${name}`, size, 'read');
    return await reading.run(size, async () => {
      signal?.throwIfAborted();
      const bytes = await unlessUnreadable(name, signal, () => readAll(handle, size, signal));
      await close(); // before the picture waits for its turn
      return work(bytes);
    });
  } finally {
    await close();
  }
}

/** With a file handle to spare: too many may be open for a moment. */
async function openPatiently(path: string): Promise<FileHandle> {
  for (let attempt = 1; ; attempt++) {
    try {
      // Opening a pipe would wait for somebody to write into it.
      return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'EMFILE' && code !== 'ENFILE') || attempt === 10) throw error;
      await delay(50 * attempt);
    }
  }
}

async function readAll(
  handle: FileHandle,
  size: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  while (filled < size) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(bytes, filled, Math.min(size - filled, 2 ** 22));
    if (bytesRead === 0) break; // it has become shorter
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}

async function unlessUnreadable<Result>(
  name: string,
  signal: AbortSignal | undefined,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    signal?.throwIfAborted();
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new LtrpError('ERR_LTRP_IMAGE_NOT_FOUND', `There is no image ${name}.`, { cause });
    }
    // Of "EACCES: permission denied, open '…'" the path is in the sentence already.
    const [why = message] = code === undefined ? [message] : message.split(', ');
    throw undecodable(`The image ${name} cannot be read: ${why}.`, cause);
  }
}
