/** A file of which pieces are read: on disk, or elsewhere. */
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { LtrpError, unreadable } from '../errors.js';

export interface ByteSource {
  /** What messages call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Changes when the content does: size and date, or the ETag. */
  readonly version: string;
  /** Bytes that are read in about the time that one byte takes. */
  readonly chunk: number;
  /**
   * Exactly `length` bytes from `offset` on.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_READ`, also for a file that has changed since it was opened; `ERR_LTRP_DOWNLOAD`;
   *   `signal.reason`.
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Buffer>;
}

const readError = (name: string, why: string, cause?: unknown): LtrpError =>
  unreadable(`${name} cannot be read: ${why}.`, cause);

export const changedError = (name: string): LtrpError =>
  unreadable(
    `${name} changed while it was being read. Run the command again once it no longer changes.`,
  );

/** @throws {LtrpError} `ERR_LTRP_FILE_READ` for what is no file. */
export async function localSource(path: string): Promise<ByteSource> {
  const file = resolve(path);
  const versionOf = ({ size, mtimeMs }: { size: number; mtimeMs: number }): string =>
    `${size} ${mtimeMs}`;
  const info = await stat(file).catch((cause: unknown) => {
    throw readError(path, (cause as Error).message.split(', ')[0] ?? '', cause);
  });
  if (!info.isFile()) throw readError(path, 'it is not a file');
  const version = versionOf(info);
  return {
    name: path,
    size: info.size,
    version,
    chunk: 2 ** 16,
    read: async (offset, length, signal) => {
      signal?.throwIfAborted();
      try {
        // Opened anew for each piece: a data set may have more shards than a process may have open files.
        const handle = await open(file, constants.O_RDONLY);
        try {
          if (versionOf(await handle.stat()) !== version) throw changedError(path);
          const bytes = Buffer.allocUnsafeSlow(length);
          let filled = 0;
          while (filled < length) {
            signal?.throwIfAborted();
            const piece = Math.min(length - filled, 2 ** 22);
            const { bytesRead } = await handle.read(bytes, filled, piece, offset + filled);
            if (bytesRead === 0) throw readError(path, 'it has become shorter');
            filled += bytesRead;
          }
          return bytes;
        } finally {
          await handle.close();
        }
      } catch (cause) {
        if (cause instanceof LtrpError || signal?.aborted === true) throw cause;
        throw readError(path, (cause as Error).message, cause);
      }
    },
  };
}
