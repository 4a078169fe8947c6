/** Programs that `npm run test:hosts` has fetched, and a folder of a user's that has the package in its node_modules. */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { cacheFolder } from '../../lib/native/paths.js';
import { repository } from './paths.js';

export const hostModules = path.join(cacheFolder(), 'hosts', 'node_modules');

const platform = `${process.platform}-${process.arch}`;

/** Major releases of Node that have to be tried; `latest` is the newest of them. */
export const nodeMajors = [20, 22, 24, 26] as const;

/** The binary of a fetched Node, or null where there is none. */
export function nodeBinary(major: number): string | null {
  const file = path.join(hostModules, `node-${platform}-${String(major)}`, 'bin', 'node');
  return existsSync(file) ? file : null;
}

/** Bun's binary, or null. */
export function bunBinary(): string | null {
  const folder = path.join(hostModules, '@oven');
  const name = existsSync(folder) ? readdirSync(folder)[0] : undefined;
  const file = path.join(folder, name ?? 'none', 'bin', 'bun');
  return existsSync(file) ? file : null;
}

/** A user's folder with `ltrp` installed and the programs of test/hosts/programs in it. Removed after the test. */
export async function userFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ltrp-user-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await mkdir(path.join(folder, 'node_modules'));
  await symlink(repository, path.join(folder, 'node_modules', 'ltrp'), 'dir');
  await writeFile(path.join(folder, 'package.json'), '{"name":"user","private":true}\n');
  const programs = path.join(repository, 'test', 'hosts', 'programs');
  for (const name of readdirSync(programs)) {
    await copyFile(path.join(programs, name), path.join(folder, name));
  }
  return folder;
}

export interface Output {
  code: number | string | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end; killed with SIGKILL after two minutes. */
export function output(command: string, args: readonly string[], cwd: string): Promise<Output> {
  return new Promise((resolve) => {
    execFile(
      command,
      args,
      { cwd, timeout: 120_000, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : (error.code ?? null);
        resolve({ code, signal: error?.signal ?? null, stdout: stdout.trim(), stderr });
      },
    );
  });
}
