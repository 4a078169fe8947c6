/** `ltrp libtorch`: what it refuses, what it warns of and how it tells progress; nothing here needs a network. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { withLock } from '../lib/folder-lock.js';
import { installLibtorch, removeLibtorch } from '../lib/libtorch/install.js';
import { decideLibtorch } from '../lib/libtorch/find.js';
import { releaseFor } from '../lib/libtorch/releases.js';
import { coreFiles, packageRoot } from '../lib/native/paths.js';
import { ltrp, test } from './support/bare-user.js';
import { run } from './support/command.js';
import { listen } from './support/listen.js';
import { makeArchive, makeLibtorch, release } from './support/made-libtorch.js';
import { until } from './support/runs.js';

const hasNextCore = coreFiles().some(({ minor, variant }) => minor === '2.14' && variant === 'cpu');

test('use: a minor that ltrp does not work with, and one without a core here, are refused by name', async (t) => {
  const { folder, env } = t.context;
  const old = await makeLibtorch(path.join(folder, 'old'), { version: '2.6.0' });
  const refused = await ltrp(['libtorch', 'use', old, '--force'], env);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /is LibTorch 2\.6\.0 \(cpu\); this version of ltrp works with 2\.13/);

  if (hasNextCore) {
    t.log('skipped: there is a core for every LibTorch for CPUs here');
    return;
  }
  const next = await makeLibtorch(path.join(folder, 'next'), { version: '2.14.1' });
  const file = path.join(folder, 'home/.config/ltrp/libtorch.json');
  const without = await ltrp(['libtorch', 'use', next], env);
  t.is(without.code, 1);
  t.regex(
    without.stderr,
    /is LibTorch 2\.14\.1 \(cpu\), for which this installation has no core \(it has 2\.13 \(cpu\).*\)\. .*--force/,
  );
  t.false(existsSync(file));
  const forced = await ltrp(['libtorch', 'use', next, '--force'], env);
  t.is(forced.code, 0, forced.stderr);
  t.regex(forced.stdout, /There is no core for LibTorch 2\.14 \(cpu\) yet/);
  t.true((await readFile(file, 'utf8')).includes(next));
  const where = await ltrp(['libtorch', 'where'], env);
  t.is(where.code, 1);
  t.regex(where.stderr, /`npx ltrp libtorch use auto` searches the usual places again/);
  t.notRegex(where.stderr, /leave it out/);
});

/** The LibTorch that the command fetches here, made up, in the cache and as a file for --from. */
const wanted = releaseFor(process.platform, process.arch);

test('install: a choice that overrides what it brought is told, and so is a file that is not needed', async (t) => {
  const { folder, env } = t.context;
  const version = wanted?.version ?? '';
  const target = path.join(folder, `home/.cache/ltrp/libtorch/${version}-cpu`);
  await makeLibtorch(target, { version });
  const other = path.join(folder, 'mine');
  await mkdir(path.join(folder, 'home/.config/ltrp'), { recursive: true });
  const selection = path.join(folder, 'home/.config/ltrp/libtorch.json');
  await writeFile(selection, JSON.stringify({ path: other }));
  const result = await ltrp(['libtorch', 'install', '--from', '/some/file.whl'], env);
  t.is(result.code, 0, result.stderr);
  t.true(result.stderr.includes(`${other} was chosen by`), result.stderr);
  t.regex(result.stderr, /\/some\/file\.whl is not used: .* is there already; --force/);
  await writeFile(selection, JSON.stringify({ path: target }));
  const again = await ltrp(['libtorch', 'install'], env);
  t.is(again.code, 0);
  t.is(again.stderr, '');
});

test('install: without a terminal there is a line every 10 %', async (t) => {
  const { folder, env } = t.context;
  const version = wanted?.version ?? '';
  const archive = await makeArchive(folder, 'a.zip', version);
  const { code, stderr } = await ltrp(['libtorch', 'install', '--from', archive], env);
  t.is(code, 0, stderr);
  const lines = [...stderr.matchAll(/^ {2}unpack (\d+)%$/gm)].map((match) => Number(match[1]));
  t.is(lines.at(-1), 100, stderr);
  t.deepEqual(
    lines,
    [...new Set(lines)].sort((a, b) => a - b),
  );
  t.true(lines.every((percent) => percent % 10 === 0));
  t.notRegex(stderr, /\r/);
});

test('install: what no SHA-256 is known of is not fetched unless somebody says so', async (t) => {
  const { folder, env } = t.context;
  const archive = await makeArchive(folder, 'a.zip', '2.13.0');
  const content = await readFile(archive);
  const wheel = 'torch-2.13.0+cpu-cp311-cp311-any.whl';
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    if (request.url !== '/simple/torch/') response.end(content);
    else {
      response.setHeader('content-type', 'text/html');
      response.end(`<a href="../../${encodeURIComponent(wheel)}">${wheel}</a>`);
    }
  });
  const url = await listen(t, server);
  const unpinned = { ...release, archiveUrl: `${url}/a.zip` };
  const own = { ...env, NO_PROXY: '*', PIP_NO_INDEX: '0', PIP_INDEX_URL: `${url}/simple` };
  for (const from of ['pip', 'archive'] as const) {
    asked.length = 0;
    await t.throwsAsync(installLibtorch({ env: own, release: unpinned, from, force: true }), {
      code: 'ERR_LTRP_LIBTORCH_CHECKSUM',
      message:
        /No SHA-256 of .* is known.*`npx ltrp libtorch install --unverified` takes it.*`--from FILE`/,
    });
    t.deepEqual(asked, []);
    const unverified = { env: own, release: unpinned, from, unverified: true, force: true };
    t.true((await installLibtorch(unverified)).installed);
  }
});

test('remove: downloads of a build are removed under its lock', async (t) => {
  const { folder, env } = t.context;
  const build = '2.13.0-cpu';
  const downloads = path.join(folder, 'home/.cache/ltrp/downloads', build);
  await mkdir(downloads, { recursive: true });
  const lock = path.join(folder, `home/.cache/ltrp/libtorch/${build}.lock`);
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let waits: () => void = () => undefined;
  const waiting = new Promise<void>((resolve) => (waits = resolve));
  const holding = withLock(lock, () => released);
  await until(() => existsSync(lock));
  const removing = removeLibtorch({ env, log: waits });
  await waiting;
  t.true(existsSync(downloads));
  release();
  await Promise.all([holding, removing]);
  t.false(existsSync(path.dirname(downloads)));
});

test('the install script passes on why there is no LibTorch to fetch, and does not send to what refuses', async (t) => {
  // A package with our script and a search that says what it says on musl.
  const { folder, env } = t.context;
  const own = path.join(folder, 'package');
  await mkdir(path.join(own, 'scripts'), { recursive: true });
  await mkdir(path.join(own, 'dist/native'), { recursive: true });
  await mkdir(path.join(own, 'dist/libtorch'), { recursive: true });
  await writeFile(path.join(own, 'package.json'), '{ "type": "module" }');
  await copyFile(
    path.join(packageRoot(), 'scripts/install.mjs'),
    path.join(own, 'scripts/install.mjs'),
  );
  const { error } = await decideLibtorch({ musl: true, accept: [] });
  const { code, message } = error ?? {};
  await writeFile(
    path.join(own, 'dist/libtorch/find.js'),
    `export const buildable = [{ minor: '2.13', variant: 'cpu' }];
     const error = Object.assign(new Error(${JSON.stringify(message)}), { code: ${JSON.stringify(code)} });
     export const decideLibtorch = () => Promise.resolve({ chosen: null, candidates: [], error });`,
  );
  await writeFile(
    path.join(own, 'dist/native/paths.js'),
    "export const rebuildCommand = () => 'rebuild';",
  );
  const script = path.join(own, 'scripts/install.mjs');
  const { stderr } = await run(process.execPath, [script], { env });
  t.true(stderr.includes(message ?? 'nothing'), stderr);
  t.notRegex(stderr, /libtorch install|compiling/);
});
