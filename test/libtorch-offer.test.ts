/** A command that finds no LibTorch: on a terminal it offers to fetch one, `--yes` agrees beforehand, elsewhere it is an error. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { findLibtorch } from '../lib/libtorch/find.js';
import { releaseFor } from '../lib/libtorch/releases.js';
import { coreFiles } from '../lib/native/paths.js';
import { ltrp, test, withPython, type Environment, type Place } from './support/bare-user.js';
import { built } from './support/command.js';
import { listen } from './support/listen.js';
import { repository } from './support/paths.js';

const picture = path.join(repository, 'demo/photos/tiger.jpg');
const rank = ['rank', picture, '--json'];

const release = releaseFor(process.platform, process.arch);
const wheel = Object.keys(release?.wheelSha256 ?? {})[0];
/** Needs a python3 to make a terminal, and a wheel that is pinned for this system. */
const onceAsked = wheel === undefined ? test.skip : withPython;

/** A machine without LibTorch, and an index that offers the wanted wheel with other bytes in it; `asked` has its requests. */
async function machine(
  t: ExecutionContext<Place>,
): Promise<{ folder: string; env: Environment; asked: string[] }> {
  const { folder, env: bare } = t.context;
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const files = [{ filename: wheel, url: '/f' }];
    response.end(request.url === '/f' ? 'no wheel' : JSON.stringify({ files }));
  });
  const env = {
    ...bare,
    PIP_NO_INDEX: '0',
    LTRP_BINARIES: process.env['LTRP_BINARIES'],
    PIP_INDEX_URL: `${await listen(t, server)}/simple`,
    NO_PROXY: '127.0.0.1',
    // PyTorch's own index comes next: it is not to be asked by a test.
    https_proxy: 'http://127.0.0.1:9',
  };
  return { folder, env, asked };
}

interface Ending {
  code: number | null;
  output: string;
}

/** Runs the command on a terminal of Python's making; `answers` gets what was printed, and returns what is typed then. */
async function onTerminal(
  args: readonly string[],
  env: Environment,
  answers: (output: string) => Promise<string> | string,
): Promise<Ending> {
  const script = `
import os, pty, sys
end = pty.spawn(sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(end))`;
  const child = spawn('python3', ['-c', script, process.execPath, built, ...args], {
    env: { ...env, PATH: `${env['PATH'] ?? ''}:${process.env['PATH'] ?? ''}` },
  });
  let output = '';
  let answered = false;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (answered || !output.includes('[Y/n]')) return;
    answered = true;
    void Promise.resolve(answers(output)).then((text) => child.stdin.write(text));
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

const cacheOf = (folder: string): string => path.join(folder, 'home/.cache/ltrp/libtorch');

onceAsked(
  'on a terminal size and place are said; n, Ctrl-D and Ctrl-C fetch nothing',
  async (t) => {
    const { folder, env, asked } = await machine(t);
    for (const [typed, code, words] of [
      ['n\n', 1, /No usable LibTorch was found\. `npx ltrp libtorch install` fetches/],
      ['\x04', 1, /No usable LibTorch was found/],
      ['\x03', 130, /Interrupted\./],
    ] as const) {
      const ending = await onTerminal(rank, env, () => typed);
      t.is(ending.code, code, ending.output);
      t.regex(ending.output, words);
      const place = cacheOf(folder).replace(/[.]/g, '\\.');
      const question = `Fetch LibTorch ${release?.version ?? ''} \\(CPU, about 200 MB\\) into ${place}\\?`;
      t.regex(ending.output, new RegExp(question));
    }
    t.deepEqual(asked, []);
    t.false(existsSync(cacheOf(folder)));
  },
);

onceAsked('Enter fetches it, and why that did not work is the error', async (t) => {
  const { folder, env, asked } = await machine(t);
  const { code, output } = await onTerminal(rank, env, () => '\n');
  t.is(code, 1, output);
  t.regex(output, /has SHA-256 [0-9a-f]{64}, expected/);
  t.true(asked.includes('/f'), asked.join());
  t.deepEqual(await readdir(cacheOf(folder)), []);
});

onceAsked('once LibTorch is there the same command goes on', async (t) => {
  const { folder, env } = await machine(t);
  const accept = coreFiles().filter(({ variant }) => variant === 'cpu');
  const { root, version } = await findLibtorch({ accept, needHeaders: true });
  if (version !== release?.version) {
    t.log(`skipped: LibTorch ${version} is here, and the command fetches another one`);
    t.pass();
    return;
  }
  const { code, output } = await onTerminal(rank, env, async () => {
    // As if it had been fetched.
    await mkdir(cacheOf(folder), { recursive: true });
    await symlink(root, path.join(cacheOf(folder), `${version}-cpu`));
    return 'Y\n';
  });
  t.is(code, 0, output);
  t.regex(output, /is there already: .*[^]*\{"image":".*tiger\.jpg"/);
});

test('--yes agrees beforehand, without a terminal too; without either nothing is fetched', async (t) => {
  const { env, asked } = await machine(t);
  const refused = await ltrp(rank, env);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /No usable LibTorch was found\. `npx ltrp libtorch install` fetches/);
  t.notRegex(refused.stderr, /\[Y\/n\]/);
  t.deepEqual(asked, []);
  if (wheel === undefined) {
    t.log('skipped: no wheel is pinned for this system');
    return;
  }
  for (const args of [
    rank,
    ['convert', 'tiny', path.join(t.context.folder, 'x.onnx'), '--kind=ranker'],
  ]) {
    asked.length = 0;
    const agreed = await ltrp([...args, '--yes'], env);
    t.is(agreed.code, 1);
    t.regex(agreed.stderr, /has SHA-256 [0-9a-f]{64}, expected/);
    t.true(asked.includes('/f'), asked.join());
  }
  // A LibTorch that was named and is wrong is no reason to fetch another.
  asked.length = 0;
  const named = await ltrp([...rank, '--yes', '--libtorch', '/nowhere'], env);
  t.is(named.code, 1);
  t.regex(named.stderr, /does not lead to a usable LibTorch/);
  t.deepEqual(asked, []);
});
