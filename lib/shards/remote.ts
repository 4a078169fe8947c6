/** Files on web servers and in S3-compatible stores, of which pieces are read. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Headers, Response } from 'undici';
import { Passing, retryAfter } from '../download/download.js';
import type { Environment } from '../download/environment.js';
import { reasonOf } from '../download/failures.js';
import { refusalOf, request } from '../download/proxy.js';
import { LtrpError, downloadFailed } from '../errors.js';
import { changedError, type ByteSource } from './byte-source.js';
import { signed } from './s3.js';

export interface RemoteOptions {
  signal?: AbortSignal | undefined;
  /** Names proxies and credentials. Default `process.env`. */
  env?: Environment | undefined;
  /** Milliseconds without a byte after which a connection counts as lost. Default 30 s. */
  stallTimeout?: number | undefined;
  /** Attempts in a row without a byte that make it an error. Default 6. */
  attempts?: number | undefined;
}

/** A query may hold a signature: messages and keys have the address without it. */
export const publicName = (url: string): string => url.replace(/[?#].*$/, '');

/**
 * Opens a file by asking for its first byte: not every server answers HEAD, and none may that only signs GET.
 *
 * @param url - `http:`, `https:` or `s3:`.
 * @throws {LtrpError} `ERR_LTRP_DOWNLOAD`; `ERR_LTRP_INVALID_ARGUMENT` for an `s3:` address that cannot be used.
 */
export async function remoteSource(url: string, options: RemoteOptions = {}): Promise<ByteSource> {
  const name = publicName(url);
  const first = await persistently(name, options, async (attempt) =>
    attempt.open(url, { range: 'bytes=0-0' }, async (response) => {
      await response.body?.cancel();
      const empty = /^bytes \*\/0$/.test(response.headers.get('content-range') ?? '');
      if (response.status === 416 && empty) return { size: 0, validator: validatorOf(response) };
      if (response.status === 200) {
        throw downloadFailed(`${name}: the server does not support range requests.`);
      }
      const size = totalOf(response);
      if (Number.isNaN(size)) {
        throw downloadFailed(`${name}: the server does not say how large it is.`);
      }
      return { size, validator: validatorOf(response) };
    }),
  );
  const { size, validator } = first;
  return {
    name,
    size,
    version: `${size} ${validator}`,
    chunk: 2 ** 23,
    read: (offset, length, signal) =>
      readPiece(
        url,
        { offset, length, size, validator },
        { ...options, signal: signal ?? options.signal },
      ),
  };
}

interface Piece {
  offset: number;
  length: number;
  size: number;
  validator: string;
}

async function readPiece(
  url: string,
  { offset, length, size, validator }: Piece,
  options: RemoteOptions,
): Promise<Buffer> {
  const name = publicName(url);
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  if (length === 0) return bytes;
  await persistently(name, options, async (attempt) => {
    const from = offset + filled;
    const headers = {
      range: `bytes=${from}-${offset + length - 1}`,
      // Weak tags do not count there; then what is answered is compared.
      ...(validator.startsWith('"') && { 'if-match': validator }),
    };
    await attempt.open(url, headers, async (response) => {
      const range = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
      const isOther = validatorOf(response) !== validator || totalOf(response) !== size;
      if (response.status === 412 || response.status === 416 || isOther) {
        await response.body?.cancel();
        throw changedError(name);
      }
      if (response.status !== 206 || Number(range) !== from || response.body === null) {
        await response.body?.cancel();
        throw downloadFailed(`${name}: the server sent another piece than the one asked for.`);
      }
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        attempt.alive();
        // Longer than what was asked for; leaving the loop destroys the rest.
        if (filled + chunk.length > length) throw new Passing('more bytes than were asked for');
        bytes.set(chunk, filled);
        filled += chunk.length;
        attempt.progressed();
      }
      if (filled < length) throw new Passing(`${filled} of ${length} bytes arrived`);
    });
  });
  return bytes;
}

const validatorOf = ({ headers }: { headers: Headers }): string =>
  headers.get('etag') ?? headers.get('last-modified') ?? '';

function totalOf({ status, headers }: Response): number {
  const total = /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1];
  return status === 206 && total !== undefined ? Number(total) : NaN;
}

/** One request, and its clock. */
class Attempt {
  readonly #stalled = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  hasProgressed = false;

  constructor(private readonly options: RemoteOptions) {}

  /** Something arrived. */
  alive(): void {
    const { stallTimeout = 30_000 } = this.options;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.#stalled.abort(new Passing(`no data for ${stallTimeout / 1000} s`)),
      stallTimeout,
    );
  }

  progressed(): void {
    this.hasProgressed = true;
  }

  /** An answer as a text. */
  text(url: string, headers: Record<string, string>): Promise<string> {
    return this.#answer(url, headers, (response) => response.text());
  }

  /** The answer as far as it concerns `use`: refusals that may pass or stay are thrown. No body is left unread. */
  async open<Result>(
    url: string,
    headers: Record<string, string>,
    use: (response: Response) => Promise<Result>,
  ): Promise<Result> {
    // With a range, fetch itself asks for an answer that is not packed; a header of ours would be doubled after it was signed.
    const ready = await signed(url, headers, this.options.env);
    return this.#answer(ready.url, ready.headers, use);
  }

  async #answer<Result>(
    url: string,
    headers: Record<string, string>,
    use: (response: Response) => Promise<Result>,
  ): Promise<Result> {
    const { signal, env } = this.options;
    this.alive();
    try {
      const both = [this.#stalled.signal, ...(signal === undefined ? [] : [signal])];
      const response = await request(url, { headers, signal: AbortSignal.any(both) }, env);
      if ([200, 206, 412, 416].includes(response.status)) return await use(response);
      const refusal = await refusalOf(response);
      if (response.status >= 500 || [408, 425, 429].includes(response.status)) {
        throw new Passing(`it ${refusal}`, retryAfter(response.headers));
      }
      throw downloadFailed(`${publicName(url)} ${refusal}.`);
    } finally {
      clearTimeout(this.#timer);
    }
  }
}

/** Tries again what may pass, after longer and longer pauses. */
export async function persistently<Result>(
  name: string,
  options: RemoteOptions,
  work: (attempt: Attempt) => Promise<Result>,
): Promise<Result> {
  const { signal, attempts = 6 } = options;
  let failures = 0;
  for (;;) {
    const attempt = new Attempt(options);
    try {
      return await work(attempt);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof LtrpError) throw error;
      failures = attempt.hasProgressed ? 1 : failures + 1;
      if (failures >= attempts) {
        throw downloadFailed(`${name} cannot be read: ${reason(error)}.`, error);
      }
      // Many readers that were refused together must not come back together.
      const backoff = 250 * 2 ** failures * (0.5 + Math.random() / 2);
      const asked = error instanceof Passing ? error.seconds * 1000 : 0;
      await sleep(Math.min(30_000, Math.max(asked, backoff)), undefined, { signal });
    }
  }
}

const reason = (error: unknown): string =>
  error instanceof Passing ? error.message : reasonOf(error);
