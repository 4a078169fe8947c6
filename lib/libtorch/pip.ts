/** pip: which indexes it is configured with, and `pip download` of one wheel. Nothing is installed into Python. */
import { execFile, type ExecFileException } from 'node:child_process';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, quote } from '../download/failures.js';
import type { Environment } from './folders.js';
import { isNamed } from './wheel-index.js';

const run = promisify(execFile);

/** Milliseconds for what needs no network. */
const quick = { timeout: 15_000 };

/** What `python3 -m pip` printed. Rejects with an error that says how it ended. */
async function pip(
  args: readonly string[],
  env: Environment,
  options: { timeout?: number; signal?: AbortSignal | undefined },
): Promise<string> {
  const limits = { killSignal: 'SIGKILL', maxBuffer: Infinity, ...options } as const;
  try {
    return (await run('python3', ['-m', 'pip', ...args], { env, ...limits })).stdout;
  } catch (cause) {
    const { code, killed, signal, stdout, stderr } = cause as ExecFileException;
    const lines = `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n');
    const last = lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? '';
    const problem =
      code === 'ENOENT'
        ? 'is not on the PATH'
        : killed === true
          ? `gave no answer within ${quick.timeout / 1000} s`
          : `-m pip ended with ${String(code ?? signal)}: ${quote(last)}`;
    throw new Error(`python3 ${problem}`, { cause });
  }
}

/** The indexes that pip is configured with, as far as they are on the web. Without pip: its variables, or PyPI. */
export async function configuredIndexes(env: Environment): Promise<string[]> {
  const output = await pip(['config', 'list'], env, quick).catch(() => '');
  const settings = new Map<string, string>();
  // `download.` settings of pip win over `global.` ones.
  for (const section of ['global', 'download']) {
    for (const line of output.split('\n')) {
      const match = /^(\w+)\.([\w-]+)='(.*)'$/.exec(line.trim());
      if (match?.[1] === section) settings.set(match[2] ?? '', match[3] ?? '');
    }
  }
  const main = env['PIP_INDEX_URL'] ?? settings.get('index-url') ?? 'https://pypi.org/simple';
  const more = env['PIP_EXTRA_INDEX_URL'] ?? settings.get('extra-index-url') ?? '';
  return [main, ...more.split(/\s+/)].filter((url) => /^https?:\/\//.test(url));
}

export interface WheelRequest {
  /** For example `torch==2.13.0`. */
  readonly requirement: string;
  readonly platforms: readonly string[];
  readonly pythonVersion: string;
  /** The wheel's file name; a `*` stands for letters, digits and underscores. */
  readonly name: string;
  /** null: the configured index. */
  readonly index: string | null;
}

/** Brings the wheel into `folder` and returns its path. pip keeps its own cache and verifies the index's hashes. */
export async function pipDownload(
  wheel: WheelRequest,
  folder: string,
  env: Environment,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { requirement, platforms, pythonVersion, index } = wheel;
  // A separate folder tells its download from other files.
  const own = path.join(folder, 'pip');
  await rm(own, { recursive: true, force: true });
  await mkdir(own, { recursive: true });
  const args = ['download', '--no-deps', '--only-binary=:all:', '--dest', own];
  args.push('--disable-pip-version-check', '--implementation', 'cp');
  for (const platform of platforms) args.push('--platform', platform);
  args.push('--python-version', pythonVersion, '--abi', `cp${pythonVersion.replace('.', '')}`);
  if (index !== null) args.push('--index-url', index);
  try {
    // A download has no time limit, so what would never begin has to be known before.
    const version = await pip(['--version'], env, quick);
    if (!/^pip \d/.test(version)) {
      throw new Error(`python3 -m pip --version gave ${describe(Buffer.from(version))}`);
    }
    await pip([...args, requirement], env, { signal });
    const names = await readdir(own);
    const found = names.find((name) => isNamed(name, wheel.name));
    if (found === undefined) {
      throw new Error(`pip brought ${names.join(', ') || 'nothing'} instead of ${wheel.name}`);
    }
    const file = path.join(folder, found);
    await rename(path.join(own, found), file);
    return file;
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}
