/** `pip download` of one wheel. Nothing is installed into Python. */
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Environment } from './paths.js';

export interface WheelRequest {
  /** For example `torch==2.13.0`. */
  readonly requirement: string;
  readonly platforms: readonly string[];
  readonly pythonVersion: string;
  /** Beginning of the wheel's file name. */
  readonly filePrefix: string;
  /** Whether a file of an index is the one that is meant. */
  readonly fits: (name: string) => boolean;
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
  const args = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--dest', folder];
  args.push('--disable-pip-version-check', '--implementation', 'cp');
  for (const platform of platforms) args.push('--platform', platform);
  args.push('--python-version', pythonVersion, '--abi', `cp${pythonVersion.replace('.', '')}`);
  if (index !== null) args.push('--index-url', index);
  args.push(requirement);
  const output = await run('python3', args, env, signal);
  const names = (await readdir(folder)).filter((name) => name.startsWith(wheel.filePrefix));
  const found = names.find((name) => name.endsWith('.whl'));
  if (found === undefined) throw new Error(`pip brought no wheel: ${lastLine(output)}`);
  return path.join(folder, found);
}

async function run(
  command: string,
  args: readonly string[],
  env: Environment,
  signal: AbortSignal | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: env,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(signal === undefined ? {} : { signal }),
    });
    let output = '';
    const collect = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-20_000);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? new Error(`${command} is not on the PATH`) : error);
    });
    child.on('close', (status) => {
      if (status === 0) resolve(output);
      else reject(new Error(lastLine(output)));
    });
  });
}

function lastLine(output: string): string {
  const lines = output.trim().split('\n');
  return (lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? '').trim();
}
