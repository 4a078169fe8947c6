/** Pictures by address, from origins that the operator allows and from no others. */
import { request } from '../download/proxy.js';
import { reasonOf } from '../download/failures.js';
import { invalid } from '../validation.js';
import type { FetchPicture } from './body.js';
import { Problem, tooLarge } from './problems.js';

/** `https://cdn.example.com` of an address. @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` */
export function readOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== '/') {
    throw invalid(`An allowed origin must be such as https://cdn.example.com; got ${text}.`);
  }
  return url.origin;
}

/** Fetches from `origins`. A redirect is refused: it may lead into the operator's own network. */
export function fetcherOf(origins: readonly string[], most: number): FetchPicture {
  const allowed = new Set(origins.map(readOrigin));
  return async (url, signal) => {
    if (!URL.canParse(url) || !allowed.has(new URL(url).origin)) {
      const list = [...allowed].join(', ');
      throw new Problem(400, 'ERR_SERVE_URL', `This service fetches from ${list} only.`);
    }
    try {
      const response = await request(url, { redirect: 'error', signal });
      if (!response.ok || response.body === null) {
        await response.body?.cancel();
        throw new Problem(400, 'ERR_SERVE_URL', `The address answered ${response.status}.`);
      }
      return await read(response.body as AsyncIterable<Uint8Array>, most);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Problem) throw error;
      throw new Problem(400, 'ERR_SERVE_URL', `The address cannot be fetched: ${reasonOf(error)}.`);
    }
  };
}

async function read(body: AsyncIterable<Uint8Array>, most: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > most) throw tooLarge(`The picture has more than ${most} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
