/**
 * Requests through the proxies that the user's environment names: http_proxy, https_proxy, all_proxy and no_proxy as curl
 * and pip read them, and where they are absent what npm is configured with.
 */
import { BlockList, isIP } from 'node:net';
import type { Dispatcher, RequestInit, Response } from 'undici';
import { downloadFailed } from '../errors.js';
import { describe, startOf } from './failures.js';
import type { Environment } from './environment.js';

/** The proxy for `url`, as written in the environment; null for a direct request. */
export function proxyOf(url: string | URL, env: Environment): string | null {
  const target = new URL(url);
  // npm hands its settings to what it starts (`npx`, scripts); unset ones as empty, `null` or `false`.
  const npm = (name: string): string | undefined => {
    const value = env[`npm_config_${name}`] ?? '';
    return ['', 'null', 'false'].includes(value) ? undefined : value;
  };
  const list = env['no_proxy'] ?? env['NO_PROXY'] ?? npm('noproxy') ?? npm('no_proxy') ?? '';
  if (bypasses(target, list)) return null;
  const isTls = target.protocol === 'https:';
  const name = isTls ? 'https_proxy' : 'http_proxy';
  const value = env[name] ?? env[name.toUpperCase()] ?? env['all_proxy'] ?? env['ALL_PROXY'];
  const proxy = value ?? (isTls ? npm('https_proxy') : undefined) ?? npm('proxy') ?? '';
  return proxy === '' ? null : proxy;
}

/** NO_PROXY: `*`, host names, domains, addresses and networks (`10.0.0.0/8`), names also with a port. */
function bypasses({ protocol, hostname, port }: URL, list: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, ''); // IPv6 addresses stand in brackets
  const named = `${name}:${port || (protocol === 'https:' ? '443' : '80')}`;
  const items = list.toLowerCase().split(/[\s,]+/);
  return items.some((text) => {
    const item = text.replace(/^\*?\./, '').replace(/^\[|\]$/g, '');
    if (item === '' || item === '*') return item === '*';
    return [name, named].includes(item) || name.endsWith(`.${item}`) || inNetwork(name, item);
  });
}

function inNetwork(address: string, network: string): boolean {
  const [base = '', bits = ''] = network.split('/', 2);
  if (bits === '' || isIP(address) === 0 || isIP(address) !== isIP(base)) return false;
  const kind = isIP(address) === 4 ? 'ipv4' : 'ipv6';
  const members = new BlockList();
  try {
    members.addSubnet(base, Number(bits), kind);
  } catch {
    return false; // no length of a prefix
  }
  return members.check(address, kind);
}

/** The proxy's address; null if it is not an HTTP proxy. */
function proxyUrl(value: string): string | null {
  const text = /^[a-z][a-z\d+.-]*:\/\//i.test(value) ? value : `http://${value}`;
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^https?:$/.test(url.protocol) && url.hostname !== '' ? text : null;
}

/** Why our request would fail although pip's may succeed, or null. */
export function obstacle(url: string, env: Environment): string | null {
  const { username, password } = new URL(url);
  if (username !== '' || password !== '') return 'the index wants a password, which pip knows';
  const proxy = proxyOf(url, env);
  return proxy === null || proxyUrl(proxy) !== null ? null : unusable(proxy);
}

function unusable(proxy: string): string {
  // Not the address itself: it may hold a password.
  const kind = /^[a-z][a-z\d+.-]*(?=:\/\/)/i.exec(proxy)?.[0] ?? 'unreadable';
  return `the environment names a proxy (${kind}) that is not an HTTP proxy`;
}

/** One dispatcher an environment, so that connections are used again. */
const dispatchers = new WeakMap<Environment, Dispatcher>();

type Undici = Pick<typeof import('undici'), 'Agent' | 'Pool' | 'ProxyAgent'>;

function dispatcherFor({ Agent, Pool, ProxyAgent }: Undici, env: Environment): Dispatcher {
  // Chosen for each origin, not for each request: a redirection may lead to a host with another proxy, or none.
  const factory = (origin: string | URL, options: object): Dispatcher => {
    const proxy = proxyOf(origin, env);
    if (proxy === null) return new Pool(origin, options);
    const uri = proxyUrl(proxy);
    if (uri === null) throw downloadFailed(`${unusable(proxy)}.`);
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

/** Runs `work` with a signal that is aborted with `signal`, or after 15 seconds. */
export async function withinSeconds<Result>(
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  // Not AbortSignal.timeout(): once somebody listens to it, it keeps the process alive to its end.
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(new Error('no answer within 15 s')), 15_000);
  try {
    return await work(AbortSignal.any([silent.signal, ...(signal === undefined ? [] : [signal])]));
  } finally {
    clearTimeout(timer);
  }
}

/** A server's refusal: `answered 403 Forbidden: an HTML page that begins "…"`. */
export async function refusalOf(response: Response): Promise<string> {
  const start = await startOf(response.body).catch(() => Buffer.alloc(0));
  const status = `answered ${response.status} ${response.statusText}`.trim();
  return start.length === 0 ? status : `${status}: ${describe(start)}`;
}
