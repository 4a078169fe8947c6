/**
 * Python package indexes read without Python: where a wheel lies and what its SHA-256 is, so that it can be downloaded with
 * progress and continued after an interruption, which `pip download` cannot.
 */
import { execFile } from 'node:child_process';
import { LtrpError } from '../errors.js';
import type { Environment } from './paths.js';
import { reasonOf, request } from './proxy.js';

export interface IndexedWheel {
  readonly name: string;
  readonly url: string;
  /** null where the index gives none. */
  readonly sha256: string | null;
}

const pypi = 'https://pypi.org/simple';

/** The indexes that pip is configured with, as far as they are on the web. Without pip: its variables, or PyPI. */
export async function configuredIndexes(env: Environment): Promise<string[]> {
  const settings = await pipSettings(env);
  const main = env['PIP_INDEX_URL'] ?? settings.get('index-url') ?? pypi;
  const more = env['PIP_EXTRA_INDEX_URL'] ?? settings.get('extra-index-url') ?? '';
  return [main, ...more.split(/\s+/)].filter((url) => /^https?:\/\//.test(url));
}

/** `download.` settings of pip win over `global.` ones. */
async function pipSettings(env: Environment): Promise<Map<string, string>> {
  const output = await new Promise<string>((resolve) => {
    const args = ['-m', 'pip', 'config', 'list'];
    execFile('python3', args, { env, timeout: 15_000 }, (error, stdout) => {
      resolve(error === null ? stdout : '');
    });
  });
  const settings = new Map<string, string>();
  for (const section of ['global', 'download']) {
    for (const line of output.split('\n')) {
      const match = /^(\w+)\.([\w-]+)='(.*)'$/.exec(line.trim());
      if (match?.[1] === section) settings.set(match[2] ?? '', match[3] ?? '');
    }
  }
  return settings;
}

/**
 * The first wheel of `project` that `fits`, or null when the index has none.
 * @throws LtrpError ERR_LTRP_DOWNLOAD when the index does not answer.
 */
export async function findWheel(
  index: string,
  project: string,
  fits: (name: string) => boolean,
  signal: AbortSignal | undefined,
  env: Environment = process.env,
): Promise<IndexedWheel | null> {
  const page = `${index.replace(/\/+$/, '')}/${project}/`;
  let text: string;
  let type: string;
  let base: string;
  // Not AbortSignal.timeout(): once somebody listens to it, it keeps the process alive to its end.
  const silent = new AbortController();
  const timer = setTimeout(() => {
    silent.abort(new Error('no answer within 15 s'));
  }, 15_000);
  try {
    const init = {
      headers: { Accept: 'application/vnd.pypi.simple.v1+json, text/html;q=0.5' },
      signal: signal === undefined ? silent.signal : AbortSignal.any([signal, silent.signal]),
    };
    const response = await request(page, init, env);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`it answered ${String(response.status)}`);
    type = response.headers.get('content-type') ?? '';
    base = response.url;
    text = await response.text();
  } catch (error) {
    signal?.throwIfAborted();
    throw new LtrpError('ERR_LTRP_DOWNLOAD', `${page} cannot be read: ${reasonOf(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
  const links = type.includes('json') ? jsonLinks(text) : htmlLinks(text);
  const found = links.find(({ name }) => fits(name));
  return found === undefined ? null : { ...found, url: new URL(found.url, base).href };
}

/** PEP 691. */
function jsonLinks(text: string): IndexedWheel[] {
  const { files } = JSON.parse(text) as {
    files: { filename: string; url: string; hashes?: { sha256?: string } }[];
  };
  return files.map(({ filename, url, hashes }) => ({
    name: filename,
    url,
    sha256: hashes?.sha256 ?? null,
  }));
}

/** PEP 503: a list of links, their text the file's name, the hash behind `#`. */
function htmlLinks(text: string): IndexedWheel[] {
  return [...text.matchAll(/<a\s[^>]*?href\s*=\s*"([^"]+)"[^>]*>/gi)].flatMap((match) => {
    const href = (match[1] ?? '').replaceAll('&amp;', '&');
    const [url = '', fragment = ''] = href.split('#', 2);
    const file = /([^/?]+)(?:\?.*)?$/.exec(url)?.[1];
    if (file === undefined) return [];
    const sha256 = /^sha256=([0-9a-f]{64})$/.exec(fragment)?.[1] ?? null;
    return [{ name: decodeURIComponent(file), url, sha256 }];
  });
}
