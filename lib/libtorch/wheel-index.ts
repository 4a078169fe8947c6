/**
 * Python package indexes read without Python: where a wheel lies and what its SHA-256 is, so that it can be downloaded with
 * progress and continued after an interruption, which `pip download` cannot.
 */
import { LtrpError, downloadFailed } from '../errors.js';
import { describe, quote, reasonOf } from '../download/failures.js';
import type { Environment } from './folders.js';
import { refusalOf, request, withinSeconds } from '../download/proxy.js';

export interface IndexedWheel {
  readonly name: string;
  readonly url: string;
  /** null where the index gives none. */
  readonly sha256: string | null;
}

/**
 * Where `index` has the file `name` of `project`; a `*` in the name stands for letters, digits and underscores.
 * @throws LtrpError ERR_LTRP_DOWNLOAD, with the answer, if the index does not answer or does not list the file.
 */
export async function findWheel(
  index: string,
  project: string,
  name: string,
  signal: AbortSignal | undefined,
  env: Environment = process.env,
): Promise<IndexedWheel> {
  const page = `${index.replace(/\/+$/, '')}/${project}/`;
  const failure = (reason: string, cause?: unknown): LtrpError =>
    downloadFailed(`${page} ${reason}`, cause);
  const headers = { Accept: 'application/vnd.pypi.simple.v1+json, text/html;q=0.5' };
  const { text, base } = await withinSeconds(signal, async (limited) => {
    const response = await request(page, { headers, signal: limited }, env);
    if (!response.ok) throw failure(await refusalOf(response));
    return { text: await response.text(), base: response.url };
  }).catch((error: unknown) => {
    signal?.throwIfAborted();
    if (error instanceof LtrpError) throw error;
    throw failure(`cannot be read: ${reasonOf(error)}`, error);
  });
  // By what it is, not by its content-type: mirrors that are folders of files call JSON anything.
  const links = /^\s*\{/.test(text) ? jsonLinks(text) : htmlLinks(text);
  if (links.length === 0) throw failure(`lists no files; it is ${describe(Buffer.from(text))}`);
  const found = links.find((link) => isNamed(link.name, name));
  if (found === undefined) throw failure(`lists ${links.length} files and no ${name}`);
  const url = URL.canParse(found.url, base) ? new URL(found.url, base) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw failure(`gives no web address of ${name}: ${quote(found.url)}`);
  }
  return { ...found, url: url.href };
}

/** True when a file's name is the one that was asked for (see {@link findWheel}); it is a base name then. */
export function isNamed(file: string, name: string): boolean {
  const pattern = name.split('*').map((part) => part.replace(/[^\w]/g, '\\$&'));
  return new RegExp(`^${pattern.join('[A-Za-z\\d_]+')}$`).test(file);
}

/** PEP 691. Entries that are not files are skipped. */
function jsonLinks(text: string): IndexedWheel[] {
  let files: unknown;
  try {
    ({ files } = JSON.parse(text) as { files?: unknown });
  } catch {
    return [];
  }
  return (Array.isArray(files) ? files : []).flatMap((file: unknown) => {
    const { filename, url, hashes } = (file ?? {}) as Record<string, unknown>;
    if (typeof filename !== 'string' || typeof url !== 'string') return [];
    const sha256 = (hashes as Record<string, unknown> | null | undefined)?.['sha256'];
    return [{ name: filename, url, sha256: asSha256(sha256) }];
  });
}

/** PEP 503: a list of links, the file's name the last part of the address, the hash behind `#`. */
function htmlLinks(text: string): IndexedWheel[] {
  const links = text.matchAll(/<a\s[^>]*?href\s*=\s*(?:"([^"]+)"|'([^']+)')/gi);
  return [...links].flatMap((match) => {
    const href = (match[1] ?? match[2] ?? '').replaceAll('&amp;', '&');
    const [url = '', fragment = ''] = href.split('#', 2);
    const file = /([^/]+)$/.exec(url.split('?', 1)[0] ?? '')?.[1];
    if (file === undefined) return [];
    const sha256 = asSha256(/^sha256=(.*)$/.exec(fragment)?.[1]);
    try {
      return [{ name: decodeURIComponent(file), url, sha256 }];
    } catch {
      return []; // no encoded text: not the name of a file
    }
  });
}

function asSha256(value: unknown): string | null {
  return typeof value === 'string' && /^[\da-f]{64}$/i.test(value) ? value.toLowerCase() : null;
}
