/**
 * The one place that decides which LibTorch is used.
 *
 * Order: the API's option; LIBTORCH_LIB, LIBTORCH; the folder set by `ltrp libtorch use`; Python's torch (VIRTUAL_ENV,
 * CONDA_PREFIX, python3), an error instead of a skip when LIBTORCH_USE_PYTORCH=1 asks for it; system folders; the user's
 * cache. What somebody asked for and is wrong is an error; what merely lies around and is wrong is skipped, with its reason.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { LtrpError } from '../errors.js';
import { librariesOf, missingLibraries } from './libraries.js';
import { inspectLibtorch, type LibtorchFolder } from './libtorch-inspect.js';
import { configFolder, libtorchCacheFolder, type Environment } from './paths.js';
import { torchOfPrefix, torchOfPython3 } from './python-torch.js';

/** Minor releases that the sources build on; the binaries that are there may be fewer. */
export const supportedMinors: readonly string[] = ['2.13', '2.14'];

/** What the sources build on: the CPU builds of {@link supportedMinors}, and CUDA's of 2.14. */
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
  /** Why nothing was chosen. */
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

interface Step {
  readonly source: string;
  readonly explicit: boolean;
  /** Looked up only when the search gets there: asking Python takes a process. */
  readonly folders: () => readonly string[] | Promise<readonly string[]>;
  readonly absent: string;
}

/** The decision with everything that was looked at; does not reject. */
export async function decideLibtorch(search: LibtorchSearch): Promise<LibtorchDecision> {
  const env = search.env ?? process.env;
  if (search.musl ?? isMusl()) {
    const message =
      'LibTorch is built for glibc and does not load on musl (Alpine). Use a glibc system, for example the image node:20-bookworm-slim.';
    return {
      chosen: null,
      candidates: [],
      error: new LtrpError('ERR_LTRP_LIBTORCH_UNSUPPORTED', message),
    };
  }
  const candidates: LibtorchCandidate[] = [];
  let chosen: Libtorch | null = null;
  let error: LtrpError | null = null;
  for (const step of searchSteps(search, env)) {
    const common = { source: step.source, explicit: step.explicit, version: null };
    if (chosen !== null || error !== null) {
      const reason = chosen !== null ? 'an earlier one was chosen' : 'an earlier one is an error';
      candidates.push({ ...common, path: null, verdict: 'unused', reason });
      continue;
    }
    const folders = await step.folders();
    if (folders.length === 0) {
      candidates.push({ ...common, path: null, verdict: 'absent', reason: step.absent });
    }
    for (const folder of folders) {
      const [candidate, found] = examine(step, folder, search);
      candidates.push(candidate);
      if (found !== null) {
        chosen = found;
        break;
      }
    }
    if (chosen === null && step.explicit) {
      error = invalidError(
        step,
        candidates.filter((candidate) => candidate.source === step.source),
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
  step: Step,
  folder: string,
  search: LibtorchSearch,
): [LibtorchCandidate, Libtorch | null] {
  const common = { source: step.source, path: folder, explicit: step.explicit };
  const inspection = inspectLibtorch(folder);
  if (!inspection.ok) {
    const verdict = inspection.present || step.explicit ? 'refused' : 'absent';
    return [{ ...common, verdict, reason: inspection.reason, version: null }, null];
  }
  const { libtorch } = inspection;
  const reason = mismatch(libtorch, search);
  if (reason !== null) {
    return [{ ...common, verdict: 'refused', reason, version: libtorch.version }, null];
  }
  return [
    { ...common, verdict: 'chosen', reason: '', version: libtorch.version },
    { ...libtorch, source: step.source },
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
  const one = (value: string | undefined) => () =>
    value === undefined || value === '' ? [] : [path.resolve(value)];
  const wantsPython = isOn(env['LIBTORCH_USE_PYTORCH']);
  const selected = selectedLibtorch(env);
  const steps: Step[] = [];
  const add = (
    source: string,
    explicit: boolean,
    folders: Step['folders'],
    absent = 'not set',
  ): void => {
    steps.push({ source, explicit, folders, absent });
  };
  add('option libtorch', search.explicit !== undefined, one(search.explicit), 'not given');
  for (const variable of ['LIBTORCH_LIB', 'LIBTORCH']) {
    const value = env[variable];
    add(variable, value !== undefined && value !== '', one(value));
  }
  if (wantsPython) {
    add('LIBTORCH_USE_PYTORCH', true, () => pythonFolders(env), 'no Python with torch was found');
  }
  add('ltrp libtorch use', selected !== null, one(selected ?? undefined));
  add('VIRTUAL_ENV', false, () => torchOfPrefix(env['VIRTUAL_ENV']), 'not set, or without torch');
  add('CONDA_PREFIX', false, () => torchOfPrefix(env['CONDA_PREFIX']), 'not set, or without torch');
  add(
    'python3',
    false,
    () => torchOfPython3(env),
    'python3 is not on the PATH, or has no torch installed',
  );
  add('system', false, () => search.systemFolders ?? systemFolders());
  add(
    'cache',
    false,
    () => cachedFolders(env, search.gpu ?? hasNvidiaDriver()),
    `nothing in ${libtorchCacheFolder(env)}; \`ltrp libtorch install\` fetches it`,
  );
  return steps;
}

function isOn(value: string | undefined): boolean {
  return value !== undefined && !['', '0', 'false', 'no'].includes(value.toLowerCase());
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
    return typeof value === 'string' ? value : file;
  } catch {
    return file;
  }
}

async function pythonFolders(env: Environment): Promise<string[]> {
  return [
    ...new Set([
      ...torchOfPrefix(env['VIRTUAL_ENV']),
      ...torchOfPrefix(env['CONDA_PREFIX']),
      ...(await torchOfPython3(env)),
    ]),
  ];
}

function systemFolders(): string[] {
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

/** What NVIDIA's kernel module makes, or WSL for it. Whether the GPU can be used is asked of the driver, by the core. */
function hasNvidiaDriver(): boolean {
  return ['/dev/nvidiactl', '/dev/dxg'].some((file) => existsSync(file));
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** True on a Linux whose C library is not glibc: Node was then not linked to it either. */
export function isMusl(): boolean {
  if (process.platform !== 'linux') return false;
  // Without this the report looks up the names of open connections' peers, which takes seconds.
  const settings = process.report as { excludeNetwork?: boolean };
  const before = settings.excludeNetwork;
  settings.excludeNetwork = true;
  const report = process.report.getReport() as unknown as {
    header?: { glibcVersionRuntime?: string };
  };
  // Reports are the user's: what they say of the network too.
  settings.excludeNetwork = before ?? false;
  return report.header?.glibcVersionRuntime === undefined;
}

function invalidError(step: Step, looked: readonly LibtorchCandidate[]): LtrpError {
  const details = looked
    .map((item) => (item.path === null ? item.reason : `${item.path}: ${item.reason}`))
    .join('; ');
  const what = step.source === 'option libtorch' ? 'The libtorch option' : step.source;
  const remedy =
    step.source === 'ltrp libtorch use'
      ? '`npx ltrp libtorch use auto` searches the usual places again.'
      : 'Correct it, or leave it out to search the usual places.';
  return new LtrpError(
    'ERR_LTRP_LIBTORCH_INVALID',
    `${what} does not lead to a usable LibTorch: ${details}. ${remedy}`,
  );
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
