/** A command that finds no LibTorch: on a terminal it offers to fetch one, `--yes` agrees beforehand, elsewhere it is an error. */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { findLibtorch } from '../lib/libtorch/find.js';
import { releaseFor } from '../lib/libtorch/releases.js';
import { coreFiles } from '../lib/native/paths.js';
import { listen } from './support/made-libtorch.js';
import { repository } from './support/paths.js';

type Environment = Record<string, string | undefined>;

const test = anyTest as TestFn<{ folder: string }>;
const run = promisify(execFile);
const main = path.join(repository, 'dist/cli/main.js');
const picture = path.join(repository, 'demo/photos/tiger.jpg');
const rank = ['rank', picture, '--json'];

const release = releaseFor(process.platform, process.arch);
const wheel = Object.keys(release?.wheelSha256 ?? {})[0];
const hasPython = await run('python3', ['-c', 'import pty']).then(
  () => true,
  () => false,
);

test.beforeEach(async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'ltrp-offer-'));
  await mkdir(path.join(folder, 'empty'));
  t.context = { folder };
});

test.afterEach.always(async (t) => {
  await rm(t.context.folder, { recursive: true, force: true });
});

/** A machine without LibTorch, and an index that offers the wanted wheel with other bytes in it; `asked` has its requests. */
async function machine(
  t: ExecutionContext<{ folder: string }>,
): Promise<{ folder: string; env: Environment; asked: string[] }> {
  const { folder } = t.context;
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const files = [{ filename: wheel, url: '/f' }];
    response.end(request.url === '/f' ? 'no wheel' : JSON.stringify({ files }));
  });
  const env = {
    HOME: path.join(folder, 'home'),
    PATH: path.join(folder, 'empty'),
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
  const child = spawn('python3', ['-c', script, process.execPath, main, ...args], {
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

async function withoutTerminal(args: readonly string[], env: Environment): Promise<Ending> {
  return run(process.execPath, [main, ...args], { env }).then(
    ({ stderr }) => ({ code: 0, output: stderr }),
    (error: unknown) => {
      const { code, stderr } = error as { code: number; stderr: string };
      return { code, output: stderr };
    },
  );
}

function canAsk(t: ExecutionContext): boolean {
  if (hasPython && wheel !== undefined) return true;
  t.log(
    'skipped: there is no python3 here to make a terminal, or no wheel is pinned for this system',
  );
  t.pass();
  return false;
}

const cacheOf = (folder: string): string => path.join(folder, 'home/.cache/ltrp/libtorch');

test('on a terminal size and place are said; n, Ctrl-D and Ctrl-C fetch nothing', async (t) => {
  if (!canAsk(t)) return;
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
});

test('Enter fetches it, and why that did not work is the error', async (t) => {
  if (!canAsk(t)) return;
  const { folder, env, asked } = await machine(t);
  const { code, output } = await onTerminal(rank, env, () => '\n');
  t.is(code, 1, output);
  t.regex(output, /has SHA-256 [0-9a-f]{64}, expected/);
  t.true(asked.includes('/f'), asked.join());
  t.deepEqual(await readdir(cacheOf(folder)), []);
});

test('once LibTorch is there the same command goes on', async (t) => {
  if (!canAsk(t)) return;
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
  const refused = await withoutTerminal(rank, env);
  t.is(refused.code, 1);
  t.regex(refused.output, /No usable LibTorch was found\. `npx ltrp libtorch install` fetches/);
  t.notRegex(refused.output, /\[Y\/n\]/);
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
    const agreed = await withoutTerminal([...args, '--yes'], env);
    t.is(agreed.code, 1);
    t.regex(agreed.output, /has SHA-256 [0-9a-f]{64}, expected/);
    t.true(asked.includes('/f'), asked.join());
  }
  // A LibTorch that was named and is wrong is no reason to fetch another.
  asked.length = 0;
  const named = await withoutTerminal([...rank, '--yes', '--libtorch', '/nowhere'], env);
  t.is(named.code, 1);
  t.regex(named.output, /does not lead to a usable LibTorch/);
  t.deepEqual(asked, []);
});
