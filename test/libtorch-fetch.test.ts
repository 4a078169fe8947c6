/**
 * `ltrp libtorch install` against a server of our own: interruption and resume, checksums, two at once, a holder that died,
 * a full or forbidden disk, Ctrl-C; and that nothing ever looks whole that is not.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { chmod, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { download } from '../lib/download/download.js';
import { inspectLibtorch } from '../lib/libtorch/inspect.js';
import { installLibtorch, removeLibtorch } from '../lib/libtorch/install.js';
import type { LibtorchRelease } from '../lib/libtorch/releases.js';
import { releaseFor } from '../lib/libtorch/releases.js';
import { unpackLibtorch } from '../lib/libtorch/unpack.js';
import { configuredIndexes } from '../lib/libtorch/pip.js';
import { findWheel } from '../lib/libtorch/wheel-index.js';
import { ltrp, test, type Environment, type Place } from './support/bare-user.js';
import { built, outcomeOf } from './support/command.js';
import { listen } from './support/listen.js';
import { makeArchive, release } from './support/made-libtorch.js';
import { until } from './support/runs.js';

const cacheOf = (folder: string): string => path.join(folder, 'home/.cache/ltrp');
const targetOf = (folder: string): string => path.join(cacheOf(folder), 'libtorch/2.13.0-cpu');
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The archive of a LibTorch. */
const archiveBytes = async ({ folder }: Place): Promise<Buffer> =>
  readFile(await makeArchive(path.join(folder, 'made'), 'a.zip', '2.13.0'));

interface Site {
  readonly url: string;
  /** `Range` of each request for a file, '' without one. */
  readonly ranges: string[];
  /** Resolves when a transfer is under way that `hold` keeps from ending. */
  readonly held: Promise<void>;
  /** Lets all transfers end. */
  release(): void;
}

/** A package index and its files, with ranges and ETags. The first `hold` transfers stop in the middle until released. */
async function site(
  t: ExecutionContext,
  files: Record<string, Buffer>,
  options: { hold?: number; html?: boolean; hash?: string } = {},
): Promise<Site> {
  const ranges: string[] = [];
  let hold = options.hold ?? 0;
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let reached: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (reached = resolve));
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const [name = ''] = decodeURIComponent(request.url ?? '')
      .split('/')
      .slice(-1);
    const content = files[name];
    if (request.url === '/simple/torch/') {
      const list = Object.entries(files).map(([filename, bytes]) => ({
        filename,
        url: `../../files/${encodeURIComponent(filename)}`,
        hashes: { sha256: options.hash ?? sha256(bytes) },
      }));
      const links = list.map(
        ({ filename, url, hashes }) =>
          `<a href="${url}#sha256=${hashes.sha256}" data-x="1">${filename}</a><br/>`,
      );
      response.setHeader(
        'content-type',
        options.html === true ? 'text/html' : 'application/vnd.pypi.simple.v1+json',
      );
      response.end(options.html === true ? links.join('\n') : JSON.stringify({ files: list }));
      return;
    }
    if (content === undefined) {
      response.writeHead(404).end();
      return;
    }
    const range = request.headers.range ?? '';
    ranges.push(range);
    const start = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0);
    const rest = content.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length, etag: '"one"' });
    if (hold-- > 0) {
      response.write(rest.subarray(0, Math.ceil(rest.length / 2)));
      reached();
      await released;
      response.end(rest.subarray(Math.ceil(rest.length / 2)));
    } else {
      response.end(rest);
    }
  };
  const server = createServer((request, response) => {
    void answer(request, response);
  });
  t.teardown(() => {
    release();
  });
  return { url: await listen(t, server), ranges, held, release };
}

const from = (url: string, more: Partial<LibtorchRelease> = {}): LibtorchRelease => ({
  ...release,
  archiveUrl: `${url}/files/a.zip`,
  ...more,
});

/** What `installLibtorch` does in a process of its own: prints its news, then the result or the error as JSON. */
function startInstall(
  release: LibtorchRelease,
  env: Environment,
): { child: ChildProcess; says: (text: string) => Promise<void>; ended: Promise<string> } {
  const script = `
    import { installLibtorch } from ${JSON.stringify(new URL('../dist/libtorch/install.js', import.meta.url).href)};
    const log = (line) => console.log(line);
    try {
      const { installed } = await installLibtorch({ release: ${JSON.stringify(release)}, unverified: true, log });
      console.log(installed ? 'INSTALLED' : 'THERE ALREADY');
    } catch (error) { console.log('FAILED ' + error.code + ' ' + error.message); }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { env });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return {
    child,
    says: (text) => until(() => output.includes(text)),
    ended: once(child, 'close').then(() => output),
  };
}

test('two processes at once: one fetches, the other says that it waits, both end well', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const server = await site(t, { 'a.zip': content }, { hold: 1 });
  const first = startInstall(from(server.url), env);
  await server.held;
  const second = startInstall(from(server.url), env);
  await second.says('Waiting for process ' + String(first.child.pid));
  t.false(existsSync(targetOf(folder)));
  server.release();
  t.regex(await first.ended, /\nINSTALLED\n$/);
  t.regex(await second.ended, /\nTHERE ALREADY\n$/);
  t.deepEqual(server.ranges, [''], 'one transfer for both');
  t.true(inspectLibtorch(targetOf(folder)).ok);
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), ['2.13.0-cpu']);
});

test('a holder that is killed in the middle: the one that waits takes over and fetches only the rest', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const server = await site(t, { 'a.zip': content }, { hold: 1 });
  const first = startInstall(from(server.url), env);
  await server.held;
  const part = path.join(cacheOf(folder), 'downloads/2.13.0-cpu/a.zip.part');
  await until(() => existsSync(part) && statSync(part).size > 0);
  const second = startInstall(from(server.url), env);
  await second.says('Waiting for process');
  first.child.kill('SIGKILL');
  await first.ended;
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), ['2.13.0-cpu.lock']);
  t.regex(await second.ended, /\nINSTALLED\n$/);
  t.is(server.ranges.length, 2);
  t.regex(server.ranges[1] ?? '', /^bytes=[1-9]\d*-$/);
  t.true(inspectLibtorch(targetOf(folder)).ok);
  t.deepEqual(await readdir(cacheOf(folder)), ['libtorch'], 'downloads are gone');
});

test('what a killed run left unpacked by half is no LibTorch, and is cleared away by the next', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const half = `${targetOf(folder)}.unpacking-1`;
  await mkdir(path.join(half, 'lib'), { recursive: true });
  await writeFile(path.join(half, 'lib', 'libc10.so'), 'half');
  const server = await site(t, { 'a.zip': content });
  t.true((await installLibtorch({ env, unverified: true, release: from(server.url) })).installed);
  t.false(existsSync(half));
});

test('an install that lost its lock while it was stopped puts nothing into place', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const server = await site(t, { 'a.zip': content }, { hold: 1 });
  const installing = startInstall(from(server.url), env);
  await server.held;
  const other = JSON.stringify({ pid: 1, host: 'elsewhere', token: 'other' });
  await writeFile(`${targetOf(folder)}.lock`, other);
  server.release();
  t.regex(await installing.ended, /FAILED ERR_LTRP_FILE_WRITE Another process took over/);
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), ['2.13.0-cpu.lock']);
});

test('a wheel of an index: found in both forms of the page; without a pin, by word of the user, it has the hash of the index', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const name = 'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl';
  const other = name.replace('cp311-cp311', 'cp312-cp312');
  const pip = { ...release.pip, platform: 'manylinux_2_28_x86_64' };
  for (const html of [true, false]) {
    const server = await site(t, { [other]: Buffer.from('x'), [name]: content }, { html });
    const lines: string[] = [];
    const result = await installLibtorch({
      env: { ...env, PIP_NO_INDEX: '0', PIP_INDEX_URL: `${server.url}/simple` },
      release: { ...release, pip },
      unverified: true,
      force: true,
      log: (line) => lines.push(line),
    });
    t.true(result.installed);
    t.is(server.ranges.length, 1);
    t.true(
      lines.some((line) => line.includes(encodeURIComponent(name))),
      lines.join('\n'),
    );
  }
  const wrong = await site(t, { [name]: content }, { hash: '0'.repeat(64) });
  const error = await t.throwsAsync(
    installLibtorch({
      env: { ...env, PIP_NO_INDEX: '0', PIP_INDEX_URL: `${wrong.url}/simple` },
      release: { ...release, pip },
      unverified: true,
      force: true,
    }),
    { code: 'ERR_LTRP_LIBTORCH_CHECKSUM' },
  );
  t.regex(error.message, new RegExp(`has SHA-256 ${sha256(content)}, expected 0{64}`));
  t.deepEqual(await readdir(path.join(cacheOf(folder), 'downloads/2.13.0-cpu')), []);
  t.true(inspectLibtorch(targetOf(folder)).ok, 'the one that was there stays');
});

test('the indexes that pip is configured with, and one that has no such project', async (t) => {
  const { env } = t.context;
  t.deepEqual(await configuredIndexes(env), ['https://pypi.org/simple']);
  t.deepEqual(
    await configuredIndexes({
      ...env,
      PIP_INDEX_URL: 'https://a.example/simple',
      PIP_EXTRA_INDEX_URL: 'file:///opt/simple https://b.example/simple',
    }),
    ['https://a.example/simple', 'https://b.example/simple'],
  );
  const server = await site(t, {});
  await t.throwsAsync(findWheel(`${server.url}/simple/`, 'absent', 'absent.whl', undefined), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: /\/simple\/absent\/ answered 404 Not Found$/,
  });
});

test('a server that ignores ranges, or whose file has changed, starts again and is not glued together', async (t) => {
  const { folder } = t.context;
  const content = Buffer.alloc(300_000, 'new content ');
  const server = createServer((request, response) => {
    t.is(request.headers['if-range'], '"old"');
    response.writeHead(200, { 'content-length': content.length, etag: '"new"' }).end(content);
  });
  const file = path.join(folder, 'f');
  await writeFile(`${file}.part`, 'old content ');
  await writeFile(`${file}.part.json`, JSON.stringify({ validator: '"old"' }));
  await download(`${await listen(t, server)}/f`, file);
  t.true((await readFile(file)).equals(content));
});

test('a full disk is one clear error at once, for the download and for unpacking, and keeps what arrived', async (t) => {
  if (!existsSync('/dev/full')) {
    t.log('skipped: there is no /dev/full here');
    t.pass();
    return;
  }
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  const server = await site(t, { 'a.zip': content });
  const downloads = path.join(cacheOf(folder), 'downloads/2.13.0-cpu');
  await mkdir(downloads, { recursive: true });
  await symlink('/dev/full', path.join(downloads, 'a.zip.part'));
  const error = await t.throwsAsync(
    installLibtorch({ env, unverified: true, release: from(server.url) }),
    {
      code: 'ERR_LTRP_FILE_WRITE',
      message: /ENOSPC.*Make room there/,
    },
  );
  t.true(error.message.includes(cacheOf(folder)), error.message);
  t.is(server.ranges.length, 1, 'not tried again and again');
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), []);

  const archive = path.join(folder, 'made/a.zip');
  const target = path.join(folder, 'target');
  await mkdir(path.join(target, 'lib'), { recursive: true });
  await symlink('/dev/full', path.join(target, 'lib', 'libc10.so'));
  await t.throwsAsync(unpackLibtorch(archive, target), { code: 'ENOSPC' });
  t.true(existsSync(archive));

  const large = { ...from(server.url), bytesNeeded: 1e18 };
  await t.throwsAsync(installLibtorch({ env, unverified: true, release: large }), {
    code: 'ERR_LTRP_FILE_WRITE',
    message: /needs 1000000000\.0 GB .* are free/,
  });
});

test('a folder that cannot be written to is named', async (t) => {
  const { folder, env } = t.context;
  await mkdir(path.join(folder, 'home'));
  await writeFile(path.join(folder, 'home/.cache'), 'a file where a folder should be');
  const error = await t.throwsAsync(
    installLibtorch({ env, unverified: true, release: from('http://127.0.0.1:9') }),
    {
      code: 'ERR_LTRP_FILE_WRITE',
      message: /ENOTDIR.*Make it writable/,
    },
  );
  t.true(error.message.includes(path.join(folder, 'home/.cache')), error.message);

  await chmod(folder, 0o755);
  await rm(path.join(folder, 'home/.cache'));
  await chmod(path.join(folder, 'home'), 0o555);
  const asRoot = process.getuid?.() === 0;
  const { code, stderr } = await ltrp(['libtorch', 'install'], env, asRoot ? 65_534 : undefined);
  await chmod(path.join(folder, 'home'), 0o755);
  t.is(code, 1, stderr);
  t.regex(stderr, /LibTorch cannot be written to .*home.* \(EACCES\)\. Make it writable/);
});

/** The wheel that the command asks for, as its index would offer it, with other bytes in it. */
const commandWheel = Object.keys(releaseFor(process.platform, process.arch)?.wheelSha256 ?? {})[0];

test('the command: Ctrl-C in the middle ends with 130, keeps the part, leaves no lock and nothing that looks whole', async (t) => {
  const { folder, env } = t.context;
  if (commandWheel === undefined) {
    t.log('skipped: no wheel is pinned for this platform');
    t.pass();
    return;
  }
  const content = Buffer.alloc(2_000_000, 'wheel ');
  const server = await site(t, { [commandWheel]: content }, { hold: 1 });
  const own = {
    ...env,
    PIP_NO_INDEX: '0',
    PIP_INDEX_URL: `${server.url}/simple`,
    // PyTorch's own index comes next: it is not to be asked by a test.
    https_proxy: 'http://127.0.0.1:9',
    NO_PROXY: '127.0.0.1',
  };
  const args = [built, 'libtorch', 'install', '--from', 'pip'];
  const child = spawn(process.execPath, args, { env: own });
  const ended = outcomeOf(child);
  await server.held;
  const downloads = path.join(cacheOf(folder), 'downloads/2.13.0-cpu');
  const part = path.join(downloads, `${commandWheel}.part`);
  await until(() => existsSync(part) && statSync(part).size > 0);
  const start = performance.now();
  child.kill('SIGINT');
  const { code, stderr } = await ended;
  t.true(performance.now() - start < 5000, 'at once');
  t.is(code, 130, stderr);
  t.regex(stderr, /Interrupted\./);
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), []);
  t.deepEqual((await readdir(downloads)).sort(), [
    `${commandWheel}.part`,
    `${commandWheel}.part.json`,
  ]);
  t.is((await ltrp(['libtorch', 'where'], own)).code, 1);

  // The same command again fetches the rest, finds that it is not what is pinned, and keeps nothing of it.
  const again = await ltrp(['libtorch', 'install', '--from', 'pip'], own);
  t.is(again.code, 1);
  t.regex(server.ranges[1] ?? '', /^bytes=[1-9]\d*-$/);
  t.regex(
    again.stderr,
    /has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; it is text that begins "wheel .*"\. It was removed/,
  );
  t.deepEqual(await readdir(downloads), []);
  t.deepEqual(await readdir(path.dirname(targetOf(folder))), []);
});

test('remove: builds, half builds, parts and the choice of one of them; what is being fetched is waited for', async (t) => {
  const { folder, env } = t.context;
  const content = await archiveBytes(t.context);
  t.deepEqual(await removeLibtorch({ env }), { folders: [], selection: null });
  const server = await site(t, { 'a.zip': content }, { hold: 1 });
  const installing = startInstall(from(server.url), env);
  await server.held;
  const lines: string[] = [];
  const removing = removeLibtorch({ env, log: (line) => lines.push(line) });
  await until(() => lines.length > 0);
  t.regex(lines.join(), /Waiting for process/);
  server.release();
  t.regex(await installing.ended, /INSTALLED/);
  t.deepEqual(await removing, { folders: [targetOf(folder)], selection: null });

  await installLibtorch({ env, unverified: true, release: from(server.url) });
  t.is((await ltrp(['libtorch', 'use', targetOf(folder)], env)).code, 0);
  await mkdir(`${targetOf(folder)}.unpacking-1`);
  await mkdir(path.join(cacheOf(folder), 'downloads/2.14.1-cu130'), { recursive: true });
  const { code, stdout } = await ltrp(['libtorch', 'remove'], env);
  t.is(code, 0);
  t.is(stdout.split('\n').filter((line) => line.startsWith('Removed')).length, 2, stdout);
  t.regex(stdout, /searched for in the usual places again/);
  t.deepEqual(await readdir(path.join(cacheOf(folder), 'libtorch')), []);
  t.false(existsSync(path.join(cacheOf(folder), 'downloads')));
});
