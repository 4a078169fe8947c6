/** One file over HTTP, resumable: what has arrived stays in `<file>.part` and the next run asks for the rest. */
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Headers } from 'undici';
import { LtrpError, downloadFailed } from '../errors.js';
import { describe, isWriteError, reasonOf, startOf } from './failures.js';
import type { Environment } from './environment.js';
import { refusalOf, request } from './proxy.js';

export interface DownloadOptions {
  readonly onProgress?: ((done: number, total: number | null) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Names the proxies. Default `process.env`. */
  readonly env?: Environment | undefined;
  /** Attempts in a row without progress that make it an error. Default 5. */
  readonly attempts?: number | undefined;
  /** Milliseconds without a byte after which a connection counts as lost. Default 60 s. */
  readonly stallTimeout?: number | undefined;
  /** Sent to the server, and left out where it leads to another one. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * The file's name stands for its content, and the caller checks it: a part is continued even if the server names no version of
   * its file. Default false.
   */
  readonly sameContent?: boolean | undefined;
}

/** What another attempt may mend. */
export class Passing extends Error {
  constructor(
    message: string,
    /** That the server asks for. */
    readonly seconds = 0,
  ) {
    super(message);
  }
}

/**
 * Downloads `url` to `file`. Throws LtrpError ERR_LTRP_DOWNLOAD, and errors of the disk as they are; the part stays for the
 * next try.
 */
export async function download(
  url: string,
  file: string,
  options: DownloadOptions = {},
): Promise<void> {
  const attempts = options.attempts ?? 5;
  const part = `${file}.part`;
  let failures = 0;
  let most = await sizeOf(part);
  for (;;) {
    try {
      await transfer(url, part, options);
      await rename(part, file);
      await rm(`${part}.json`, { force: true });
      return;
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof LtrpError || isWriteError(error)) throw error;
      // Progress is more bytes than ever before: without a validator each attempt starts over.
      const size = await sizeOf(part);
      failures = size > most ? 0 : failures + 1;
      most = Math.max(most, size);
      if (failures >= attempts) {
        throw downloadFailed(
          `${url} could not be downloaded (${reasonOf(error)}). What has arrived is kept: run the same command again to continue.`,
          error,
        );
      }
      const asked = error instanceof Passing ? error.seconds * 1000 : 0;
      const pause = Math.min(30_000, Math.max(asked, 500 * 2 ** failures));
      await sleep(pause, undefined, { signal: options.signal });
    }
  }
}

async function transfer(url: string, part: string, options: DownloadOptions): Promise<void> {
  const stalled = new AbortController();
  const signals = [stalled.signal, ...(options.signal === undefined ? [] : [options.signal])];
  const stallTimeout = options.stallTimeout ?? 60_000;
  let timer = setTimeout(() => undefined, 0);
  const restart = (): void => {
    clearTimeout(timer);
    timer = setTimeout(
      () => stalled.abort(new Error(`no data for ${stallTimeout / 1000} s`)),
      stallTimeout,
    );
  };
  try {
    restart();
    const have = await sizeOf(part);
    const validator = have > 0 ? await readValidator(part) : null;
    // A packed answer has another length than the file, and no place to continue at.
    const headers: Record<string, string> = { ...options.headers, 'accept-encoding': 'identity' };
    // Without a validator the server's file may have changed in between: start again.
    if (have > 0 && (validator !== null || options.sameContent === true)) {
      headers['range'] = `bytes=${have}-`;
      if (options.sameContent !== true && validator !== null) headers['if-range'] = validator;
    }
    const signal = AbortSignal.any(signals);
    const response = await request(url, { headers, signal }, options.env);
    if (response.status === 416) {
      await response.body?.cancel();
      // All of it had arrived, and the run was killed before it could say so.
      const size = /^bytes \*\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
      if (size !== undefined && Number(size) === have) return;
      await rm(part, { force: true }); // longer than the server's file: not the same one
      throw new Error('the part kept from an earlier run does not fit; starting again');
    }
    if (!response.ok || response.body === null) {
      const refusal = await refusalOf(response);
      if (response.status >= 500 || response.status === 429) {
        throw new Passing(`it ${refusal}`, retryAfter(response.headers));
      }
      throw downloadFailed(`${url} ${refusal}.`);
    }
    // A page instead of the file, as from a network that wants a password first: keep the bytes that came before.
    if (/^text\/html\b/i.test(response.headers.get('content-type') ?? '')) {
      const start = await startOf(response.body as AsyncIterable<Uint8Array>);
      throw downloadFailed(`${url} is not the file but ${describe(start)}.`);
    }
    const resumed = response.status === 206;
    const packed = !/^(identity)?$/i.test(response.headers.get('content-encoding') ?? '');
    const from = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
    if (resumed && (packed || (from !== undefined && Number(from) !== have))) {
      await response.body.cancel();
      await rm(`${part}.json`, { force: true }); // so that the next try asks for all of it
      throw new Error('the server sent another piece than the missing one');
    }
    const start = resumed ? have : 0;
    const length = packed ? null : response.headers.get('content-length');
    const total = length === null ? null : start + Number(length);
    let done = start;
    // One chunk after the other, so that what has arrived is on disk when the connection breaks.
    const handle = await open(part, resumed ? 'a' : 'w');
    try {
      // After the old part is gone: the new validator beside the old bytes would glue two files together.
      await writeValidator(part, packed ? null : response.headers);
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        restart();
        await handle.writeFile(chunk);
        done += chunk.length;
        options.onProgress?.(done, total);
      }
    } finally {
      await handle.close();
    }
    if (total !== null && done !== total) {
      throw new Error(`${done} of ${total} bytes arrived`);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Seconds that a refusal asks to wait; 0 if it does not say, or names a date. */
export function retryAfter(headers: Headers): number {
  const seconds = Number(headers.get('retry-after') ?? NaN);
  return seconds > 0 ? seconds : 0;
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => null))?.size ?? 0;
}

async function readValidator(part: string): Promise<string | null> {
  try {
    const note = JSON.parse(await readFile(`${part}.json`, 'utf8')) as { validator?: unknown };
    return typeof note.validator === 'string' ? note.validator : null;
  } catch {
    return null;
  }
}

async function writeValidator(part: string, headers: Headers | null): Promise<void> {
  const etag = headers?.get('etag') ?? null;
  // If-Range takes strong validators only.
  const validator = etag !== null && !etag.startsWith('W/') ? etag : headers?.get('last-modified');
  if (validator == null) await rm(`${part}.json`, { force: true });
  else await writeFile(`${part}.json`, JSON.stringify({ validator }));
}
