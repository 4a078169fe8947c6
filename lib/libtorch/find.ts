/**
 * The one place that decides which LibTorch is used.
 *
 * Order: the API's option; LIBTORCH_LIB, LIBTORCH; the folder set by `ltrp libtorch use`; Python's torch (VIRTUAL_ENV,
 * CONDA_PREFIX, python3), an error instead of a skip when LIBTORCH_USE_PYTORCH=1 asks for it; system folders; the user's
 * cache. What somebody asked for and is wrong is an error; what merely lies around and is wrong is skipped, with its reason.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isNonGlibcLinuxSync } from 'detect-libc';
import { LtrpError, libtorchInvalid } from '../errors.js';
import { librariesOf, missingLibraries } from './libraries.js';
import { inspectLibtorch, type LibtorchFolder } from './inspect.js';
import {
  configFolder,
  isOn,
  libtorchCacheFolder,
  listFolder,
  type Environment,
} from './folders.js';
import { askPython3, torchOfPrefix } from './python-torch.js';

/** Minor releases that the sources build on; the binaries that are there may be fewer. */
export const supportedMinors: readonly string[] = ['2.13', '2.14'];

/** LibTorch builds that the sources compile with: the CPU builds of {@link supportedMinors}, and CUDA's of 2.14. */
export const buildable: readonly { readonly minor: string; readonly variant: string }[] = [
  ...supportedMinors.map((minor) => ({ minor, variant: 'cpu' })),
  { minor: '2.14', variant: 'cu130' },
];

export interface Libtorch extends LibtorchFolder {
  /** Which step of the search order found it, for example `LIBTORCH`. */
  readonly source: string;
}

export interface LibtorchCandidate {
  readonly source: string;
  /** null: the step had no folder to look at. */
  readonly path: string | null;
  readonly explicit: boolean;
  /** `unused`: not looked at, an earlier one was chosen. */
  readonly verdict: 'chosen' | 'refused' | 'absent' | 'unused';
  /** Empty for the chosen one. */
  readonly reason: string;
  readonly version: string | null;
}

export interface LibtorchDecision {
  readonly chosen: Libtorch | null;
  readonly candidates: readonly LibtorchCandidate[];
  /** The reason if no LibTorch was chosen. */
  readonly error: LtrpError | null;
}

export interface LibtorchSearch {
  /** The API's `libtorch` option. */
  readonly explicit?: string | undefined;
  readonly env?: Environment | undefined;
  /** `2.13-cpu` and so on: what a core exists for, or what may be built. */
  readonly accept: readonly { readonly minor: string; readonly variant: string }[];
  /** For building: headers have to be there too. */
  readonly needHeaders?: boolean | undefined;
  /** For tests. */
  readonly systemFolders?: readonly string[] | undefined;
  readonly musl?: boolean | undefined;
  readonly gpu?: boolean | undefined;
}

/** Folders to look at, or the reason for none. */
type Looked = readonly string[] | string;

interface Step {
  readonly source: string;
  readonly explicit: boolean;
  /** Asked only when the search gets there: asking Python takes a process. */
  readonly look: () => Looked | Promise<Looked>;
}

/** The decision with everything that was looked at; does not reject. */
export async function decideLibtorch(search: LibtorchSearch): Promise<LibtorchDecision> {
  const env = search.env ?? process.env;
  if (search.musl ?? isNonGlibcLinuxSync())
    return { chosen: null, candidates: [], error: muslError() };
  const candidates: LibtorchCandidate[] = [];
  let chosen: Libtorch | null = null;
  let error: LtrpError | null = null;
  for (const step of searchSteps(search, env)) {
    const { source, explicit } = step;
    const passOver = (verdict: 'unused' | 'absent', reason: string): void => {
      candidates.push({ source, explicit, path: null, verdict, reason, version: null });
    };
    if (chosen !== null || error !== null) {
      passOver('unused', `an earlier one ${chosen !== null ? 'was chosen' : 'is an error'}`);
      continue;
    }
    const looked = await step.look();
    if (typeof looked === 'string') passOver('absent', looked);
    for (const folder of typeof looked === 'string' ? [] : looked) {
      const [candidate, found] = examine(step, folder, search);
      candidates.push(candidate);
      chosen = found;
      if (found !== null) break;
    }
    if (chosen === null && explicit) {
      error = invalidError(
        source,
        candidates.filter((candidate) => candidate.source === source),
      );
    }
  }
  if (chosen === null) error ??= notFoundError(candidates);
  return { chosen, candidates, error };
}

/** As {@link decideLibtorch}; rejects with ERR_LTRP_LIBTORCH_INVALID, _NOT_FOUND or _UNSUPPORTED. */
export async function findLibtorch(search: LibtorchSearch): Promise<Libtorch> {
  const { chosen, error } = await decideLibtorch(search);
  if (chosen !== null) return chosen;
  throw error ?? new LtrpError('ERR_LTRP_INTERNAL', 'The search for LibTorch gave no answer.');
}

function examine(
  { source, explicit }: Step,
  folder: string,
  search: LibtorchSearch,
): [LibtorchCandidate, Libtorch | null] {
  const common = { source, path: folder, explicit };
  const inspection = inspectLibtorch(folder);
  if (!inspection.ok) {
    const verdict = inspection.present || explicit ? 'refused' : 'absent';
    return [{ ...common, verdict, reason: inspection.reason, version: null }, null];
  }
  const { libtorch } = inspection;
  const { version } = libtorch;
  const reason = mismatch(libtorch, search);
  if (reason !== null) return [{ ...common, verdict: 'refused', reason, version }, null];
  return [
    { ...common, verdict: 'chosen', reason: '', version },
    { ...libtorch, source },
  ];
}

function mismatch(libtorch: LibtorchFolder, search: LibtorchSearch): string | null {
  const name = `it is LibTorch ${libtorch.version} (${libtorch.variant})`;
  const wanted = search.accept.map(({ minor, variant }) => `${minor}-${variant}`).join(', ');
  const purpose =
    search.needHeaders === true ? 'this package builds on' : 'this installation has a core for';
  const matches = search.accept.some(
    ({ minor, variant }) => minor === libtorch.minor && variant === libtorch.variant,
  );
  if (!matches) return `${name}, ${purpose} ${wanted === '' ? 'none' : wanted}`;
  if (search.needHeaders === true && libtorch.includeFolder === null) {
    return `${name}, but its headers (include/) are not there`;
  }
  if (search.needHeaders !== true) {
    const { missing } = librariesOf(libtorch, search.env ?? process.env);
    if (missing.length > 0) return `${name}; ${missingLibraries(missing)}`;
  }
  return null;
}

function searchSteps(search: LibtorchSearch, env: Environment): Step[] {
  const named = (source: string, value: string | null | undefined): Step => {
    const looked = value == null || value === '' ? 'not set' : [path.resolve(value)];
    return { source, explicit: looked !== 'not set', look: () => looked };
  };
  const prefixes = ['VIRTUAL_ENV', 'CONDA_PREFIX'];
  const ofPrefix = (variable: string): Looked => {
    const prefix = env[variable] ?? '';
    const found = torchOfPrefix(prefix);
    if (found.length > 0) return found;
    return prefix === '' ? 'not set' : `${prefix} has no torch installed`;
  };
  const python3 = async (): Promise<Looked> => {
    const { torch, reason } = await askPython3(env);
    return torch === null ? reason : [torch];
  };
  const anyPython = async (): Promise<Looked> => {
    const looked = [...prefixes.map(ofPrefix), await python3()];
    const found = looked.flatMap((item) => (typeof item === 'string' ? [] : item));
    if (found.length > 0) return [...new Set(found)];
    const reasons = [...prefixes, 'python3'].map((name, i) => `${name}: ${String(looked[i])}`);
    return `no Python with torch was found (${reasons.join('; ')})`;
  };
  const cache = (): Looked => {
    const found = cachedFolders(env, search.gpu ?? hasNvidiaDriver());
    if (found.length > 0) return found;
    return `nothing in ${libtorchCacheFolder(env)}; \`npx ltrp libtorch install\` fetches it`;
  };
  const around = (source: string, look: Step['look']): Step => ({ source, explicit: false, look });
  const { explicit, systemFolders = systemFoldersHere() } = search;
  const option = explicit === '' ? 'an empty path' : 'not given';
  return [
    {
      source: 'option libtorch',
      explicit: explicit !== undefined,
      look: () => ((explicit ?? '') === '' ? option : [path.resolve(explicit ?? '')]),
    },
    named('LIBTORCH_LIB', env['LIBTORCH_LIB']),
    named('LIBTORCH', env['LIBTORCH']),
    ...(isOn(env['LIBTORCH_USE_PYTORCH'])
      ? [{ source: 'LIBTORCH_USE_PYTORCH', explicit: true, look: anyPython }]
      : []),
    named('ltrp libtorch use', selectedLibtorch(env)),
    ...prefixes.map((variable) => around(variable, () => ofPrefix(variable))),
    around('python3', python3),
    around('system', () => systemFolders),
    around('cache', cache),
  ];
}

/** File written by `ltrp libtorch use`. */
export function selectionFile(env: Environment = process.env): string {
  return path.join(configFolder(env), 'libtorch.json');
}

/** The folder that `ltrp libtorch use` wrote down; an unreadable file is an answer too: its path, to be refused by name. */
export function selectedLibtorch(env: Environment): string | null {
  const file = selectionFile(env);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null;
  }
  try {
    const value = (JSON.parse(text) as { path?: unknown } | null)?.path;
    return typeof value === 'string' && value !== '' ? value : file;
  } catch {
    return file;
  }
}

function systemFoldersHere(): string[] {
  const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return process.platform === 'darwin'
    ? ['/opt/homebrew/lib', '/usr/local/lib', '/usr/local/libtorch', '/opt/libtorch']
    : [
        '/usr/local/lib',
        `/usr/lib/${multiarch}`,
        '/usr/lib64',
        '/usr/lib',
        '/usr/local/libtorch',
        '/opt/libtorch',
      ];
}

/**
 * Newest first; without a GPU the CPU builds before the CUDA ones, which would only take longer to open. Folders still being
 * unpacked carry a suffix and do not match.
 */
function cachedFolders(env: Environment, gpu: boolean): string[] {
  const folder = libtorchCacheFolder(env);
  const rank = (name: string): number => (!gpu && !name.endsWith('-cpu') ? 1 : 0);
  return listFolder(folder)
    .filter((name) => /^\d+\.\d+\.\d+-(cpu|cu\d+)$/.test(name))
    .sort((a, b) => rank(a) - rank(b) || b.localeCompare(a, 'en', { numeric: true }))
    .map((name) => path.join(folder, name));
}

/** Device files made by NVIDIA's kernel module, or by WSL for it. The core asks the driver whether the GPU can be used. */
export function hasNvidiaDriver(): boolean {
  return ['/dev/nvidiactl', '/dev/dxg'].some((file) => existsSync(file));
}

export function muslError(): LtrpError {
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_UNSUPPORTED',
    'LibTorch is built for glibc and does not load on musl (Alpine). Use a glibc system, for example the image node:20-bookworm-slim.',
  );
}

function invalidError(source: string, looked: readonly LibtorchCandidate[]): LtrpError {
  const details = looked
    .map((item) => (item.path === null ? item.reason : `${item.path}: ${item.reason}`))
    .join('; ');
  const what = source === 'option libtorch' ? 'The libtorch option' : source;
  const remedy =
    source === 'ltrp libtorch use'
      ? '`npx ltrp libtorch use auto` searches the usual places again.'
      : 'Correct it, or leave it out to search the usual places.';
  return libtorchInvalid(`${what} does not lead to a usable LibTorch: ${details}. ${remedy}`);
}

function notFoundError(candidates: readonly LibtorchCandidate[]): LtrpError {
  const lines = candidates.map(
    (item) => `  ${item.source}${item.path === null ? '' : ` ${item.path}`}: ${item.reason}`,
  );
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_NOT_FOUND',
    `No usable LibTorch was found. \`npx ltrp libtorch install\` fetches one into the user's cache; LIBTORCH=<folder> names one. Tried:\n${lines.join('\n')}`,
  );
}
