/** Programs that `npm run test:hosts` has fetched, and a folder of a user's that has the package in its node_modules. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { cacheFolder } from '../../lib/libtorch/folders.js';
import { run, type Outcome } from './command.js';
import { npm, suiteFolder, tarball } from './install.js';
import { repository } from './paths.js';

export const hostModules = path.join(cacheFolder(), 'hosts', 'node_modules');

const platform = `${process.platform}-${process.arch}`;

/** Releases of Node that have to be tried: the first of 20 and 22 that ltrp is for, and the newest of each that lives. */
export const nodeReleases = ['20-first', '20', '22-first', '22', '24', '26'] as const;

/** The binary of a fetched Node, or null where there is none. */
export function nodeBinary(release: string): string | null {
  const file = path.join(hostModules, `node-${platform}-${release}`, 'bin', 'node');
  return existsSync(file) ? file : null;
}

/** Bun's binary, or null. */
export function bunBinary(): string | null {
  const folder = path.join(hostModules, '@oven');
  const name = existsSync(folder) ? readdirSync(folder)[0] : undefined;
  const file = path.join(folder, name ?? 'none', 'bin', 'bun');
  return existsSync(file) ? file : null;
}

let installed: Promise<string> | undefined;

/** A folder, far from the repository's node_modules, into which npm has installed the tarball; once per test file. */
async function installation(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ltrp-hosts-'));
  process.once('exit', () => {
    for (const each of [folder, suiteFolder]) rmSync(each, { recursive: true, force: true });
  });
  await writeFile(path.join(folder, 'package.json'), '{"name":"user","private":true}\n');
  const { code, output: said } = await npm(
    ['install', '--prefer-offline', '--ignore-scripts', '--loglevel=error', tarball],
    { cwd: folder, env: { npm_config_cache: undefined } },
  );
  if (code !== 0) throw new Error(`The tarball cannot be installed: ${said}`);
  return folder;
}

/** A user's folder below one where the tarball is installed, with the programs of test/hosts/programs in it. Removed after the test. */
export async function userFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(await (installed ??= installation()), 'project-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await mkdir(path.join(folder, 'node_modules'));
  await writeFile(path.join(folder, 'package.json'), '{"name":"project","private":true}\n');
  const programs = path.join(repository, 'test', 'hosts', 'programs');
  for (const name of readdirSync(programs)) {
    await copyFile(path.join(programs, name), path.join(folder, name));
  }
  return folder;
}

/** The installed package's folder as a project sees it. */
export const packageOf = (project: string): string =>
  path.join(path.dirname(project), 'node_modules', 'ltrp');

/** Runs a program to its end; killed with SIGKILL after two minutes. */
export async function output(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<Outcome> {
  const limits = { timeout: 120_000, killSignal: 'SIGKILL' } as const;
  const outcome = await run(command, args, { cwd, ...limits });
  return { ...outcome, stdout: outcome.stdout.trim() };
}
