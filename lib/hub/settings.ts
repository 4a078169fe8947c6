/** The variables that Python's huggingface_hub reads, read in the same way. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { isOn, type Environment } from '../download/environment.js';
import { LtrpError } from '../errors.js';

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** Folder with `models--organisation--name`. */
  readonly cache: string;
  readonly token: string | undefined;
  readonly offline: boolean;
}

/**
 * `HF_ENDPOINT`, `HF_HUB_CACHE` (or `HF_HOME`), `HF_TOKEN` (or the file that `hf auth login` writes), `HF_HUB_OFFLINE`.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for an endpoint that is none.
 */
export function hubSettings(env: Environment = process.env): HubSettings {
  return {
    endpoint: endpointOf(filled(env['HF_ENDPOINT']) ?? 'https://huggingface.co'),
    cache: hubCache(env),
    token: tokenOf(env),
    offline: isOn(env['HF_HUB_OFFLINE']) || isOn(env['TRANSFORMERS_OFFLINE']),
  };
}

/** The folder of the cache. Nothing in the environment makes it fail. */
export function hubCache(env: Environment = process.env): string {
  const cache = filled(env['HF_HUB_CACHE']) ?? filled(env['HUGGINGFACE_HUB_CACHE']);
  return cache === undefined ? path.join(hubHome(env), 'hub') : expanded(cache, env);
}

function hubHome(env: Environment): string {
  const cacheHome = filled(env['XDG_CACHE_HOME']) ?? path.join(userHome(env), '.cache');
  return expanded(filled(env['HF_HOME']) ?? path.join(cacheHome, 'huggingface'), env);
}

function filled(value: string | undefined): string | undefined {
  const text = value?.trim();
  return text === '' ? undefined : text;
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new LtrpError(
      'ERR_LTRP_INVALID_ARGUMENT',
      `The environment variable HF_ENDPOINT must be a web address; got ${text.slice(0, 200)}.`,
    );
  }
  return url.href.replace(/\/+$/, '');
}

function userHome(env: Environment): string {
  return filled(env['HOME']) ?? homedir();
}

/** `~` as Python's `expanduser`. */
function expanded(folder: string, env: Environment): string {
  return path.resolve(folder.replace(/^~(?=\/|$)/, userHome(env)));
}

function tokenOf(env: Environment): string | undefined {
  // Every token here is implicit: there is no option for one.
  if (isOn(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return undefined;
  const given = filled(env['HF_TOKEN']) ?? filled(env['HUGGING_FACE_HUB_TOKEN']);
  if (given !== undefined) return given;
  const file = filled(env['HF_TOKEN_PATH']) ?? path.join(hubHome(env), 'token');
  try {
    return filled(readFileSync(file, 'utf8'));
  } catch {
    return undefined; // nobody has logged in
  }
}
