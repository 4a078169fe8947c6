/**
 * The package's install script. It downloads nothing. Where the package brings binaries for this system, there is nothing
 * to do (so `--ignore-scripts` loses nothing); elsewhere it compiles if a compiler, CMake and a LibTorch with headers are
 * there, and says what to do if they are not. An installation never fails on it, because everything that needs no tensor
 * works without binaries, and the first call that does need them says the same again; unless LTRP_BUILD_FROM_SOURCE=1
 * asked for a compiled one.
 *
 * Plain Node, no dependencies but headers: it is part of the package.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const off = ['', '0', 'false', 'no', 'off'];
const forced = !off.includes((process.env.LTRP_BUILD_FROM_SOURCE ?? '').trim().toLowerCase());

function say(text) {
  process.stderr.write(`ltrp: ${text}\n`);
}

/** Why the binaries in prebuilds/ are of no use here; null when they are. */
function refusal() {
  const platform = `${process.platform}-${process.arch}`;
  const folder = path.join(root, 'prebuilds', platform);
  const names = existsSync(folder) ? readdirSync(folder) : [];
  if (!names.includes('ltrp.node') || !names.some((name) => name.startsWith('libltrp_core-'))) {
    return `The package has no binaries for ${platform}`;
  }
  try {
    require(path.join(folder, 'ltrp.node'));
  } catch (error) {
    return `The package's binaries do not fit this system (${error.message})`;
  }
  return null;
}

/** Returns what is missing, after compiling an empty list. */
async function compile() {
  const has = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  const missing = [];
  if (!has('cmake')) missing.push('CMake 3.25 or newer (cmake)');
  if (!has('ninja')) missing.push('Ninja (ninja)');
  if (!has(process.env.CXX || 'c++')) missing.push('a C++20 compiler (c++)');
  const search = await compiled('libtorch/find.js');
  const accept = search.buildable.filter(({ variant }) => variant === 'cpu');
  const { chosen, error } = await search.decideLibtorch({ accept, needHeaders: true });
  if (error?.code === 'ERR_LTRP_LIBTORCH_UNSUPPORTED') throw Object.assign(error, { final: true });
  if (error?.code === 'ERR_LTRP_LIBTORCH_INVALID') {
    missing.push(error.message.replace(/\.$/, ''));
  } else if (chosen === null) {
    const minors = accept.map(({ minor }) => minor).join(' or ');
    missing.push(`LibTorch ${minors} with its headers (npx ltrp libtorch install)`);
  }
  if (missing.length > 0) return missing;

  const work = path.join(root, 'build', 'work');
  const release = path.join(root, 'build', 'Release');
  say(`Compiling for LibTorch ${chosen.version} in ${chosen.root}; this takes minutes.`);
  try {
    run('cmake', [
      ...['-S', root, '-B', work, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release'],
      ...['-DLTRP_BUILD_TESTS=OFF', `-DLTRP_LIBTORCH=${chosen.root}`],
      `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${release}`,
      `-DLTRP_NODE_API_HEADERS=${folderOf('node-api-headers')}/include;${folderOf('node-addon-api')}`,
    ]);
    run('cmake', ['--build', work, '--parallel', String(jobs())]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return [];
}

/** A compiler on LibTorch's headers takes up to 1.5 GB. */
function jobs() {
  const asked = Number(process.env.LTRP_BUILD_JOBS);
  if (Number.isInteger(asked) && asked > 0) return asked;
  const fitting = Math.floor(process.availableMemory() / 1.5e9);
  return Math.max(1, Math.min(availableParallelism(), fitting));
}

async function compiled(file) {
  return import(pathToFileURL(path.join(root, 'dist', file)).href);
}

/** On the disk under Yarn Plug'n'Play too, which unpacks packages that hold C headers. */
function folderOf(name) {
  return path.dirname(require.resolve(`${name}/package.json`));
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`${command} failed${error === undefined ? '' : `: ${error.message}`}`);
}

async function main() {
  // In a clone `npm run build` does it, which also fetches LibTorch.
  if (existsSync(path.join(root, 'scripts', 'setup.mjs'))) return;
  const reason = forced ? 'LTRP_BUILD_FROM_SOURCE asks to compile' : refusal();
  if (reason === null) return;
  const again = (await compiled('native/paths.js')).rebuildCommand();
  try {
    const missing = await compile();
    if (missing.length === 0) {
      say('Compiled.');
      return;
    }
    say(
      `${reason}, and compiling needs what is missing here: ${missing.join('; ')}. ` +
        `With those in place: ${again}`,
    );
  } catch (error) {
    if (error.final === true) say(`${reason}. ${error.message}`);
    else say(`${reason}, and compiling failed: ${error.message}. To try again: ${again}`);
  }
  if (forced) process.exitCode = 1;
}

await main();
