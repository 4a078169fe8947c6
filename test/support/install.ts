/** Projects in fresh folders into which the real tarball is installed, and the program that each of them then runs. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { decideLibtorch } from '../../lib/native/libtorch.js';
import { repository } from './paths.js';

export const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
  version: string;
};

/** The tarball that `npm run package` made. */
export const tarball = join(repository, 'build', 'packages', `ltrp-${version}.tgz`);

export interface Outcome {
  code: number | null;
  output: string;
}

export interface RunOptions {
  cwd: string;
  env?: Record<string, string | undefined>;
  /** Run as this user and group. */
  uid?: number;
}

/** Runs a program to its end; standard output and standard error together. */
export function run(
  command: string,
  args: readonly string[],
  { cwd, env, uid }: RunOptions,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...baseEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, output });
    });
  });
}

/** What a user's shell has: nothing of the npm that started the tests, nothing that names a build of ours. */
function baseEnvironment(): Record<string, string | undefined> {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'NODE_EXTRA_CA_CERTS', 'XDG_CACHE_HOME'];
  const proxies = Object.keys(process.env).filter((name) => /^(https?|no)_proxy$/i.test(name));
  const own = Object.fromEntries([...kept, ...proxies].map((name) => [name, process.env[name]]));
  const path = (own['PATH'] ?? '').split(delimiter);
  return {
    ...own,
    // `npm run` puts the repository's programs first.
    PATH: path.filter((folder) => !folder.includes('node_modules')).join(delimiter),
    npm_config_cache: npmCache,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    ...(process.env['npm_config_registry'] === undefined
      ? {}
      : { npm_config_registry: process.env['npm_config_registry'] }),
  };
}

/** Everything of a run of the suite: readable for other users, removed at its end. */
export const suiteFolder = await realpath(await mkdtemp(join(tmpdir(), 'ltrp-install-')));
await chmod(suiteFolder, 0o755);

/** A cache of its own, so that "offline" means what an earlier installation here left. */
const npmCache = join(suiteFolder, 'npm-cache');

/** npm as JavaScript: the one that started the tests, else the one beside this Node. */
const npmCli = [
  process.env['npm_execpath'],
  join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
].find((file) => file?.endsWith('npm-cli.js') === true && existsSync(file));

export function npm(args: readonly string[], options: RunOptions): Promise<Outcome> {
  return npmCli === undefined
    ? run('npm', args, options)
    : run(process.execPath, [npmCli, ...args], options);
}

export const pnpm = (args: readonly string[], options: RunOptions): Promise<Outcome> =>
  run(process.execPath, [join(repository, 'node_modules/pnpm/bin/pnpm.cjs'), ...args], options);

export const yarn = (args: readonly string[], options: RunOptions): Promise<Outcome> =>
  run(
    process.execPath,
    [join(repository, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js'), ...args],
    options,
  );

/** What the program below prints. */
export interface Ranking {
  version: string;
  logits: number[];
  indices: number[];
  /** Where the binaries that were loaded lie; null where the system does not tell. */
  binaries: string[] | null;
}

/** Ranks the photograph beside it with the embedded model. `specifier` is what it imports. */
const program = (specifier: string): string => `
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PatchRanker, readImages, selectPatches, version } from ${JSON.stringify(specifier)};

const ranker = await PatchRanker.load('tiny');
const images = await readImages([fileURLToPath(new URL('tiger.jpg', import.meta.url))], { size: 224 });
const { logits } = await ranker.rank(images);
const { indices } = await selectPatches(images, logits, { keepRatio: 0.5 });
ranker.dispose();
const maps = process.platform === 'linux' ? readFileSync('/proc/self/maps', 'utf8') : null;
const binaries = maps?.split('\\n').map((line) => /\\S+ \\S+ \\S+ \\S+ \\d+ +(.*)$/.exec(line)?.[1] ?? '')
  .filter((file) => /\\/(ltrp\\.node|libltrp_core-[^/]*)$/.test(file));
console.log(JSON.stringify({
  version, logits: [...logits], indices: [...indices], binaries: maps && [...new Set(binaries)],
}));
`;

/** A folder with a package.json, the photograph and the program (rank.mjs). */
export async function makeProject(
  name: string,
  manifest: Record<string, unknown> = {},
): Promise<string> {
  const folder = join(suiteFolder, name);
  await mkdir(folder, { recursive: true });
  const content = { name: 'somebodys-project', version: '1.0.0', private: true, ...manifest };
  await writeFile(join(folder, 'package.json'), JSON.stringify(content, null, 2));
  await writeFile(join(folder, 'rank.mjs'), program('ltrp'));
  await cp(join(repository, 'demo/photos/tiger.jpg'), join(folder, 'tiger.jpg'));
  return folder;
}

/** The last line of the program's output. */
export function readRanking({ output }: Outcome): Ranking {
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as Ranking;
}

/** The same from the working tree. */
export async function rankInWorkingTree(): Promise<Ranking> {
  const folder = await makeProject('working-tree');
  const file = join(folder, 'rank-working-tree.mjs');
  await writeFile(file, program(pathToFileURL(join(repository, 'dist/index.js')).href));
  const outcome = await run(process.execPath, [file], { cwd: folder });
  if (outcome.code !== 0) throw new Error(outcome.output);
  return readRanking(outcome);
}

/** The LibTorch that the package's core is for. */
export async function cpuLibtorch(): Promise<string> {
  const { chosen, error } = await decideLibtorch({ accept: [{ minor: '2.13', variant: 'cpu' }] });
  if (chosen === null) throw error ?? new Error('There is no LibTorch 2.13.');
  return chosen.root;
}
