/** Projects in fresh folders into which the real tarball is installed, and the program that each of them then runs. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, realpath, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { decideLibtorch } from '../../lib/libtorch/find.js';
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

/** The words that start npm. */
export const npmProgram: readonly [string, ...string[]] =
  npmCli === undefined ? ['npm'] : [process.execPath, npmCli];

export function npm(args: readonly string[], options: RunOptions): Promise<Outcome> {
  const [program, ...words] = npmProgram;
  return run(program, [...words, ...args], options);
}

/** What comes with npm and runs programs of installed packages. */
export function npx(args: readonly string[], options: RunOptions): Promise<Outcome> {
  return npmCli === undefined
    ? run('npx', args, options)
    : run(process.execPath, [join(dirname(npmCli), 'npx-cli.js'), ...args], options);
}

export const pnpm = (args: readonly string[], options: RunOptions): Promise<Outcome> =>
  run(process.execPath, [join(repository, 'node_modules/pnpm/bin/pnpm.cjs'), ...args], options);

export const yarn = (args: readonly string[], options: RunOptions): Promise<Outcome> =>
  run(
    process.execPath,
    [join(repository, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js'), ...args],
    options,
  );

/** How each package manager installs from files into a project, and runs the command there. */
export interface Manager {
  readonly name: string;
  add(folder: string, tarballs: readonly string[], env?: RunOptions['env']): Promise<Outcome>;
  /** Runs the package's install script again. */
  rebuild(folder: string, env?: RunOptions['env']): Promise<Outcome>;
  ltrp(folder: string, args: readonly string[]): Promise<Outcome>;
}

const pnpmStore = join(suiteFolder, 'pnpm-store');
const pnpmSettings = { XDG_DATA_HOME: pnpmStore, XDG_STATE_HOME: pnpmStore, CI: '1' };
const yarnSettings = {
  YARN_GLOBAL_FOLDER: join(suiteFolder, 'yarn-global'),
  YARN_NODE_LINKER: 'pnp',
  YARN_ENABLE_TELEMETRY: '0',
  YARN_ENABLE_GLOBAL_CACHE: '0',
  YARN_ENABLE_IMMUTABLE_INSTALLS: '0',
  YARN_ENABLE_SCRIPTS: '1',
  YARN_ENABLE_INLINE_BUILDS: '1',
};
const inBin = (folder: string, args: readonly string[]): Promise<Outcome> =>
  run(join(folder, 'node_modules/.bin/ltrp'), args, { cwd: folder });

export const managers: readonly Manager[] = [
  {
    name: 'npm',
    add: (cwd, tarballs, env) =>
      npm(['install', '--prefer-offline', '--foreground-scripts', ...tarballs], {
        cwd,
        env: { ...env },
      }),
    rebuild: (cwd, env) =>
      npm(['rebuild', 'ltrp', '--foreground-scripts'], { cwd, env: { ...env } }),
    ltrp: inBin,
  },
  {
    name: 'pnpm',
    add: (cwd, tarballs, env) =>
      pnpm(['add', '--store-dir', pnpmStore, ...tarballs], {
        cwd,
        env: { ...pnpmSettings, ...env },
      }),
    rebuild: (cwd, env) =>
      run(process.execPath, ['node_modules/ltrp/scripts/install.mjs'], { cwd, env: { ...env } }),
    ltrp: inBin,
  },
  {
    name: 'Yarn Plug’n’Play',
    add: async (cwd, tarballs, env) => {
      await writeFile(join(cwd, 'yarn.lock'), '');
      const names = tarballs.map(
        (file) => `${/(ltrp|ltrp-cuda)-[\d.]+\.tgz$/.exec(file)?.[1]}@file:${file}`,
      );
      return yarn(['add', ...names], { cwd, env: { ...yarnSettings, ...env } });
    },
    rebuild: (cwd, env) => yarn(['rebuild', 'ltrp'], { cwd, env: { ...yarnSettings, ...env } }),
    ltrp: (cwd, args) => yarn(['run', 'ltrp', ...args], { cwd, env: yarnSettings }),
  },
];

/** The tarball as a system gets it for which nothing was built: without prebuilds/. Returns its path. */
export async function tarballWithoutBinaries(): Promise<string> {
  const folder = join(suiteFolder, 'without-binaries');
  const file = join(folder, `ltrp-${version}.tgz`);
  if (existsSync(file)) return file;
  await mkdir(folder);
  const commands: [string, ...string[]][] = [
    ['tar', '-xzf', tarball, '-C', folder],
    ['rm', '-r', join(folder, 'package', 'prebuilds')],
    ['tar', '-czf', file, '-C', folder, 'package'],
  ];
  for (const [command, ...args] of commands) {
    const { code, output } = await run(command, args, { cwd: folder });
    if (code !== 0) throw new Error(output);
  }
  return file;
}

/** A folder for PATH with Node, a shell and nothing else. */
export async function bareBin(folder: string): Promise<string> {
  const bin = join(folder, 'bin');
  await mkdir(bin);
  await symlink(process.execPath, join(bin, 'node'));
  await symlink('/bin/sh', join(bin, 'sh'));
  return bin;
}

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
