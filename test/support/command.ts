/** Child processes, the `ltrp` command above all. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './paths.js';

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** What a child writes to its pipes, and how it ends. */
export function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Runs a program to its end, whatever that is. */
export const run = (
  program: string,
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<Outcome> => outcomeOf(spawn(program, args, options));

/** The command that was built. */
export const built = join(repository, 'dist', 'cli', 'main.js');

/** Starts dist/cli/main.js. */
export function startLtrp(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; nodeArguments?: readonly string[] } = {},
): { child: ChildProcess; outcome: Promise<Outcome> } {
  if (!existsSync(built)) throw new Error('dist/cli/main.js is missing: run npm run build:ts.');
  const { cwd = repository, env = {}, nodeArguments = [] } = options;
  const child = spawn(process.execPath, [...nodeArguments, built, ...args], {
    cwd,
    env: { ...process.env, ...env },
  });
  return { child, outcome: outcomeOf(child) };
}

export const ltrp = (
  args: readonly string[],
  options?: Parameters<typeof startLtrp>[1],
): Promise<Outcome> => startLtrp(args, options).outcome;

/** The lines of standard output, each of which must be JSON. */
export const jsonLines = <T>({ stdout }: Outcome): T[] =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
