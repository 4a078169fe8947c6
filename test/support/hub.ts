/** A hub on loopback: its addresses, headers, redirects to a storage, refusals and faults. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { ExecutionContext } from 'ava';
import { listen } from './listen.js';

export const commit = 'a'.repeat(40);
export const newer = 'b'.repeat(40);

export interface HubFile {
  content: Buffer;
  /** Kept in the storage, under its SHA-256; else answered by the hub itself, under Git's hash. */
  large?: boolean;
}

export interface Hub {
  url: string;
  /** The storage that large files are redirected to: another origin. */
  storage: string;
  /** What was asked, in order: `GET /facebook/x/resolve/main/config.json range`. */
  asked: string[];
  /** Headers of the same requests. */
  headers: IncomingMessage['headers'][];
  files: Record<string, HubFile>;
  /** Branches and tags. */
  revisions: Record<string, string>;
  /** Answers instead of the hub; returns whether it did. */
  intercept: (
    request: IncomingMessage,
    response: ServerResponse,
    where: 'hub' | 'storage',
  ) => boolean;
}

export const sha256 = (content: Buffer): string =>
  createHash('sha256').update(content).digest('hex');

export const gitHash = (content: Buffer): string =>
  createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');

export const etagOf = ({ content, large = false }: HubFile): string =>
  large ? sha256(content) : gitHash(content);

/** A hub with one model, `facebook/small`. */
export async function startHub(t: ExecutionContext, files: Record<string, HubFile>): Promise<Hub> {
  const hub: Hub = {
    url: '',
    storage: '',
    asked: [],
    headers: [],
    files,
    revisions: { main: commit },
    intercept: () => false,
  };
  const note = (request: IncomingMessage): void => {
    const range = request.headers.range === undefined ? '' : ` ${request.headers.range}`;
    hub.asked.push(`${request.method ?? ''} ${request.url ?? ''}${range}`);
    hub.headers.push(request.headers);
  };
  hub.storage = await listen(
    t,
    createServer((request, response) => {
      note(request);
      if (hub.intercept(request, response, 'storage')) return;
      const file = Object.values(hub.files).find(
        ({ content }) => request.url === `/blobs/${sha256(content)}?signature=1`,
      );
      if (file === undefined) response.writeHead(403).end('<Error>expired</Error>');
      else sendFile(request, response, file.content, '"storage-etag"');
    }),
  );
  hub.url = await listen(
    t,
    createServer((request, response) => {
      note(request);
      if (!hub.intercept(request, response, 'hub')) answer(hub, request, response);
    }),
  );
  return hub;
}

function answer(hub: Hub, request: IncomingMessage, response: ServerResponse): void {
  const refuse = (status: number, code: string): void => {
    response.writeHead(status, { 'x-error-code': code, 'x-error-message': `${code} here` }).end();
  };
  const [, model, revision, name] =
    /^\/(.+)\/resolve\/([^/]+)\/([^/]+)$/.exec(request.url ?? '')?.map(decodeURIComponent) ?? [];
  if (model === 'old/name') {
    response
      .writeHead(307, { location: (request.url ?? '').replace('/old/name/', '/facebook/small/') })
      .end();
    return;
  }
  if (model !== 'facebook/small') {
    refuse(request.headers.authorization === undefined ? 401 : 404, 'RepoNotFound');
    return;
  }
  const at =
    hub.revisions[revision ?? ''] ?? (/^[ab]{40}$/.test(revision ?? '') ? revision : undefined);
  if (at === undefined) {
    refuse(404, 'RevisionNotFound');
    return;
  }
  const file = hub.files[name ?? ''];
  response.setHeader('x-repo-commit', at);
  if (file === undefined) refuse(404, 'EntryNotFound');
  else if (file.large === true) {
    const hash = sha256(file.content);
    response
      .writeHead(302, {
        location: `${hub.storage}/blobs/${hash}?signature=1`,
        'x-linked-etag': `"${hash}"`,
        'x-linked-size': String(file.content.length),
        etag: '"of-the-redirect"',
        'content-length': '0',
      })
      .end();
  } else sendFile(request, response, file.content, `"${gitHash(file.content)}"`);
}

/** A file, or the range of it that is asked for. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  content: Buffer,
  etag: string,
): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? NaN);
  const head = request.method === 'HEAD';
  response.setHeader('etag', etag);
  if (Number.isNaN(from)) {
    response.writeHead(200, { 'content-length': content.length }).end(head ? undefined : content);
  } else if (from >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
  } else {
    response
      .writeHead(206, {
        'content-length': content.length - from,
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      })
      .end(content.subarray(from));
  }
}
