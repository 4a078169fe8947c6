/** What the hub says of a file before it is fetched: its commit, its hash, its size. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Response } from 'undici';
import { retryAfter } from '../download/download.js';
import type { Environment } from '../download/environment.js';
import { quote, reasonOf } from '../download/failures.js';
import { request, withinSeconds } from '../download/proxy.js';
import { LtrpError, downloadFailed, notFound } from '../errors.js';
import type { HubSettings } from './settings.js';
import { isCommit, sourceText, type HubSource } from './source.js';

export interface Asking {
  readonly settings: HubSettings;
  readonly env: Environment;
  readonly signal: AbortSignal | undefined;
}

export interface RemoteFile {
  readonly name: string;
  readonly commit: string;
  /** The blob's name. Of the hub itself: SHA-256 of large files, Git's hash of small ones. */
  readonly etag: string;
  /** Bytes; null where it is not said. */
  readonly size: number | null;
  readonly url: string;
}

/** What the hub says of a name. */
export interface Asked {
  /** The revision's commit; null where a refusal does not say. */
  readonly commit: string | null;
  /** Null: the revision has no such file. */
  readonly file: RemoteFile | null;
}

/** The hub, or the way to it, does not answer: what is in the cache has to do. */
export class Unreachable extends LtrpError {}

/** Where a file of a revision is. */
export function fileUrl({ endpoint }: HubSettings, { model, revision }: HubSource, name: string) {
  return `${endpoint}/${model}/resolve/${encodeURIComponent(revision)}/${encodeURIComponent(name)}`;
}

/** With the user's token, which goes to the endpoint only. */
export function headersOf({ token }: HubSettings): Record<string, string> {
  return {
    'user-agent': 'ltrp',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
}

/** Renamed models lead on within the hub. */
const mostRedirects = 5;
const attempts = 4;

/**
 * Asks for a file of `source`.
 *
 * @throws {LtrpError} `ERR_LTRP_DOWNLOAD`, `ERR_LTRP_FILE_NOT_FOUND` (no such model or revision); {@link Unreachable}.
 */
export async function askFor(name: string, source: HubSource, asking: Asking): Promise<Asked> {
  const { settings } = asking;
  const url = fileUrl(settings, source, name);
  const response = await headOf(url, asking);
  const { headers, status } = response;
  const said = headers.get('x-repo-commit');
  if (status === 404 && isMissingFile(headers.get('x-error-code'))) {
    return { commit: said !== null && isCommit(said) ? said : null, file: null };
  }
  if (status >= 400) throw refusal(response, source, settings);
  const commit = said ?? source.revision;
  if (!isCommit(commit)) {
    throw downloadFailed(
      `${url} does not report its commit, as the hub does; is HF_ENDPOINT right?`,
    );
  }
  const etag = plain(headers.get('x-linked-etag') ?? headers.get('etag') ?? '');
  if (!/^[\w-]{8,128}$/.test(etag)) {
    throw downloadFailed(`${url} has no usable ETag: ${quote(etag)}.`);
  }
  const moved = status >= 300;
  const size = headers.get('x-linked-size') ?? (moved ? null : headers.get('content-length'));
  const pinned = { ...source, revision: commit };
  const file = {
    ...{ name, commit, etag },
    size: size === null || !/^\d+$/.test(size) ? null : Number(size),
    url: fileUrl(settings, pinned, name),
  };
  return { commit, file };
}

/** `W/"x"` as `x`. */
function plain(etag: string): string {
  return etag.replace(/^W\//, '').replaceAll('"', '');
}

/** Mirrors give no code. */
function isMissingFile(code: string | null): boolean {
  return code === null || code === 'EntryNotFound';
}

async function headOf(url: string, asking: Asking): Promise<Response> {
  const { signal, settings } = asking;
  for (let attempt = 1; ; attempt++) {
    let reason: string;
    let pause = 500 * 2 ** attempt;
    let cause: unknown;
    try {
      const response = await followed(url, asking);
      if (response.status < 500 && response.status !== 429) return response;
      reason = `answered ${response.status}`;
      pause = Math.max(pause, retryAfter(response.headers) * 1000);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof LtrpError) throw error;
      reason = `cannot be reached (${reasonOf(error)})`;
      cause = error;
    }
    // Who is offline is not to wait.
    if (attempt === attempts || cause !== undefined) {
      throw new Unreachable('ERR_LTRP_DOWNLOAD', `${settings.endpoint} ${reason}.`, { cause });
    }
    await sleep(Math.min(30_000, pause), undefined, { signal });
  }
}

function followed(url: string, { settings, env, signal }: Asking): Promise<Response> {
  const headers = { ...headersOf(settings), 'accept-encoding': 'identity' };
  return withinSeconds(signal, async (limited) => {
    const init = { method: 'HEAD', redirect: 'manual', headers, signal: limited } as const;
    let at = url;
    for (let hop = 0; ; hop++) {
      const response = await request(at, init, env);
      const next = withinHub(response, at);
      if (next === null || hop === mostRedirects) return response;
      at = next;
    }
  });
}

/**
 * Where an answer leads on the same host, or null. To a storage of files it leads by a whole address, and what counts is said before.
 * The token goes along, so `//other.host` is not followed either.
 */
function withinHub({ status, headers }: Response, at: string): string | null {
  const location = headers.get('location');
  if (status < 300 || status >= 400 || location?.startsWith('/') !== true) return null;
  if (!URL.canParse(location, at)) return null;
  const { href, origin } = new URL(location, at);
  return origin === new URL(at).origin ? href : null;
}

function refusal(
  { status, headers }: Response,
  source: HubSource,
  settings: HubSettings,
): LtrpError {
  const name = sourceText(source);
  const code = headers.get('x-error-code');
  const says = headers.get('x-error-message');
  const because = says === null ? '' : `: ${quote(says)}`;
  if (code === 'RevisionNotFound') {
    return notFound(`${settings.endpoint} has no revision ${source.revision} of ${source.model}.`);
  }
  if (code === 'GatedRepo') {
    return downloadFailed(
      `${name} needs its owner's permission: ask for it on ${settings.endpoint}/${source.model}, then set HF_TOKEN to a token of your account.`,
    );
  }
  if (status === 404) {
    return notFound(`${settings.endpoint} has no model ${source.model}.`);
  }
  if (status === 401 || status === 403) {
    const about =
      settings.token === undefined
        ? 'it does not exist, or needs a token: set HF_TOKEN, or run `hf auth login`'
        : 'it does not exist, or your token does not allow it';
    return downloadFailed(`${name} was refused (${status}): ${about}${because}.`);
  }
  return downloadFailed(`${name} was refused (${status})${because}.`);
}
