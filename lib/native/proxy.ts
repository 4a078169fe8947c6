/**
 * Requests through the proxies that the user's environment names: http_proxy, https_proxy, all_proxy and no_proxy as curl
 * and pip read them, and where they are absent what npm is configured with.
 */
import { BlockList, isIP } from 'node:net';
import type { Dispatcher, RequestInit, Response } from 'undici';
import { LtrpError } from '../errors.js';
import type { Environment } from './paths.js';

/** The proxy for `url`, as it is written in the environment; null where the request goes out directly. */
export function proxyOf(url: string | URL, env: Environment): string | null {
  const parsed = new URL(url);
  const { protocol } = parsed;
  const list =
    env['no_proxy'] ?? env['NO_PROXY'] ?? npmSetting(env, 'noproxy') ?? npmSetting(env, 'no_proxy');
  if (bypasses(parsed, list ?? '')) return null;
  const name = protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const value =
    env[name] ??
    env[name.toUpperCase()] ??
    env['all_proxy'] ??
    env['ALL_PROXY'] ??
    (protocol === 'https:' ? npmSetting(env, 'https_proxy') : undefined) ??
    npmSetting(env, 'proxy') ??
    '';
  return value === '' ? null : value;
}

/** npm hands its settings to what it starts (`npx`, scripts); unset ones as empty, `null` or `false`. */
function npmSetting(env: Environment, name: string): string | undefined {
  const value = env[`npm_config_${name}`];
  return value === undefined || ['', 'null', 'false'].includes(value) ? undefined : value;
}

/** NO_PROXY: `*`, host names, domains, addresses and networks (`10.0.0.0/8`), names also with a port. */
function bypasses({ protocol, hostname, port }: URL, list: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, ''); // IPv6 addresses stand in brackets
  const named = `${name}:${port || (protocol === 'https:' ? '443' : '80')}`;
  return list
    .split(/[\s,]+/)
    .map((item) =>
      item
        .replace(/^\*?\./, '')
        .replace(/^\[|\]$/g, '')
        .toLowerCase(),
    )
    .some(
      (item) =>
        item === '*' ||
        (item !== '' &&
          (item === name || item === named || name.endsWith(`.${item}`) || inNetwork(name, item))),
    );
}

function inNetwork(address: string, network: string): boolean {
  const [base = '', bits] = network.split('/', 2);
  const family = isIP(address);
  const prefix = Number(bits);
  if (bits === undefined || family === 0 || isIP(base) !== family) return false;
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > (family === 4 ? 32 : 128)) return false;
  const kind = family === 4 ? 'ipv4' : 'ipv6';
  const members = new BlockList();
  members.addSubnet(base, prefix, kind);
  return members.check(address, kind);
}

/** The proxy's address; null for what is no HTTP proxy. */
function proxyUrl(value: string): string | null {
  const text = /^[a-z][a-z\d+.-]*:\/\//i.test(value) ? value : `http://${value}`;
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^https?:$/.test(url.protocol) && url.hostname !== '' ? text : null;
}

/** Why a request of ours would not get through although pip's may, or null. */
export function obstacle(url: string, env: Environment): string | null {
  const { username, password } = new URL(url);
  if (username !== '' || password !== '') return 'the index wants a password, which pip knows';
  const proxy = proxyOf(url, env);
  return proxy === null || proxyUrl(proxy) !== null ? null : unusable(proxy);
}

function unusable(proxy: string): string {
  // Not the address itself: it may hold a password.
  const kind = /^[a-z][a-z\d+.-]*(?=:\/\/)/i.exec(proxy)?.[0] ?? 'unreadable';
  return `the environment names a proxy (${kind}) that is no HTTP proxy`;
}

type Undici = Pick<typeof import('undici'), 'Agent' | 'Pool' | 'ProxyAgent'>;

/** One dispatcher an environment, so that connections are used again. */
const dispatchers = new WeakMap<Environment, Dispatcher>();

function dispatcherFor({ Agent, Pool, ProxyAgent }: Undici, env: Environment): Dispatcher {
  // Chosen for each origin, not for each request: a redirection may lead to a host with another proxy, or none.
  const factory = (origin: string | URL, options: object): Dispatcher => {
    const proxy = proxyOf(origin, env);
    if (proxy === null) return new Pool(origin, options);
    const uri = proxyUrl(proxy);
    if (uri === null) throw new LtrpError('ERR_LTRP_DOWNLOAD', `${unusable(proxy)}.`);
    return new ProxyAgent({ uri, proxyTunnel: false });
  };
  const dispatcher = dispatchers.get(env) ?? new Agent({ factory });
  dispatchers.set(env, dispatcher);
  return dispatcher;
}

/** `fetch` through the environment's proxies. Its library is loaded here, because only explicit commands download. */
export async function request(
  url: string,
  init: RequestInit,
  env: Environment = process.env,
): Promise<Response> {
  const undici = await import('undici');
  return undici.fetch(url, { ...init, dispatcher: dispatcherFor(undici, env) });
}

/** Why a request failed, in words: `fetch` hides it in causes. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return cause instanceof Error ? cause.message : String(cause);
}
