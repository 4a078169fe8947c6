/** What a reader of the README does first, from nothing: the real tarball, the real LibTorch, no compiler, no Python. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import test, { type ExecutionContext } from 'ava';
import { releaseFor } from '../../lib/libtorch/releases.js';
import { blocks, readDocument } from '../support/documents.js';
import {
  bareBin,
  cpuLibtorch,
  makeProject,
  npm,
  npx,
  run,
  suiteFolder,
  tarball,
} from '../support/install.js';
import { repository } from '../support/paths.js';

test.after.always(() => rm(suiteFolder, { recursive: true, force: true }));

async function listen(t: ExecutionContext, server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The wheel that `ltrp libtorch install` pins, from wherever this machine's pip has it; null where that is nowhere. */
async function pinnedWheel(): Promise<string | null> {
  const release = releaseFor(process.platform, process.arch);
  const requirement = release?.pip.sources[0]?.requirement;
  if (release === null || requirement === undefined) return null;
  const folder = join(suiteFolder, 'wheel');
  await mkdir(folder);
  const { platform, pythonVersion } = release.pip;
  const args = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--dest', folder];
  args.push('--platform', platform, '--implementation', 'cp', '--python-version', pythonVersion);
  args.push('--abi', `cp${pythonVersion.replace('.', '')}`, requirement);
  const settings = Object.entries(process.env).filter(([name]) => name.startsWith('PIP_'));
  const options = { cwd: folder, env: Object.fromEntries(settings) };
  const outcome = await run('python3', args, options).catch(() => null);
  const name = (await readdir(folder)).find((file) => file in release.wheelSha256);
  return outcome?.code === 0 && name !== undefined ? join(folder, name) : null;
}

/** A package index with one wheel. */
async function serveWheel(
  t: ExecutionContext,
  wheel: string,
): Promise<{ url: string; requests: string[] }> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(wheel), hash);
  const filename = wheel.slice(wheel.lastIndexOf('/') + 1);
  const hashes = { sha256: hash.digest('hex') };
  const page = { files: [{ filename, url: `/files/${encodeURIComponent(filename)}`, hashes }] };
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    requests.push(path);
    if (path === '/simple/torch/') {
      response.setHeader('content-type', 'application/vnd.pypi.simple.v1+json');
      response.end(JSON.stringify(page));
    } else if (path === `/files/${filename}`) {
      void pipeline(createReadStream(wheel), response).catch(() => undefined);
    } else {
      response.writeHead(404).end();
    }
  });
  return { url: await listen(t, server), requests };
}

test.serial('the README from its first command, with no compiler and no Python', async (t) => {
  const wheel = await pinnedWheel();
  if (wheel === null) {
    t.log('skipped: the pinned wheel of LibTorch cannot be had here');
    t.pass();
    return;
  }
  const readme = blocks(await readDocument('README.md'));
  const install = readme.find(
    ({ heading, language }) => heading === 'Install' && language === 'sh',
  );
  const commands = (install?.code ?? '')
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+#.*/, ''));
  t.deepEqual(commands, [
    'npm install ltrp',
    'npx ltrp libtorch install',
    'npx ltrp rank photo.jpg',
  ]);

  const folder = join(suiteFolder, 'from-nothing');
  await mkdir(join(folder, 'home'), { recursive: true });
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const bin = await bareBin(join(folder, 'home'));
  const project = join(folder, 'project');
  await mkdir(project);
  const cache = join(folder, 'cache');
  const index = await serveWheel(t, wheel);
  const settings = {
    cwd: project,
    env: {
      PATH: bin,
      HOME: join(folder, 'home'),
      XDG_CACHE_HOME: cache,
      npm_config_cache: join(folder, 'npm-cache'),
      PIP_INDEX_URL: `${index.url}/simple`,
      NO_PROXY: '127.0.0.1',
    },
  };

  const start = performance.now();
  const installed = await npm(['install', tarball], settings);
  const seconds = (performance.now() - start) / 1000;
  t.is(installed.code, 0, installed.output);
  t.log(`installed in ${seconds.toFixed(1)} s, every package fetched from the registry`);
  t.true(seconds < 60);

  const fetched = await npx(['ltrp', 'libtorch', 'install'], settings);
  t.is(fetched.code, 0, fetched.output);
  t.true(fetched.output.includes(join(cache, 'ltrp/libtorch')), fetched.output);
  t.deepEqual(index.requests.slice(0, 1), ['/simple/torch/']);
  t.is(index.requests.filter((path) => path.startsWith('/files/')).length, 1);

  await cp(join(repository, 'demo/photos/tiger.jpg'), join(project, 'photo.jpg'));
  const ranked = await npx(['ltrp', 'rank', 'photo.jpg'], settings);
  t.is(ranked.code, 0, ranked.output);
  t.true(ranked.output.includes('photo.jpg'), ranked.output);
  const json = await npx(['ltrp', 'rank', 'photo.jpg', '--json'], settings);
  t.is(json.code, 0, json.output);
  const scores = /"scores":\s*\[([^\]]*)\]/.exec(json.output)?.[1]?.split(',').map(Number) ?? [];
  t.true(scores.length > 100 && new Set(scores).size > 50, json.output.slice(0, 500));

  const program = readme.find(({ language }) => language === 'js');
  await writeFile(join(project, 'ten-lines.mjs'), program?.code ?? '');
  const outcome = await run(join(bin, 'node'), ['ten-lines.mjs'], settings);
  t.is(outcome.code, 0, outcome.output);
  t.regex(outcome.output, /^keep 98 of 196 patches: \d+( \d+){97}\n$/);
});

test.serial('through a proxy, which carries every package', async (t) => {
  const asked = await npm(['config', 'get', 'registry'], { cwd: suiteFolder });
  const registry = /https?:\S+/.exec(asked.output)?.[0] ?? '';
  const proxied = Object.keys(process.env).some((name) => /^https?_proxy$/i.test(name));
  if (!registry.startsWith('https:') || proxied) {
    t.log('skipped: the registry is not reached by TLS, or only by way of another proxy');
    t.pass();
    return;
  }
  const targets: string[] = [];
  const server = createServer((_, response) => {
    response.writeHead(501).end();
  });
  server.on('connect', (request, client, head) => {
    targets.push(request.url ?? '');
    const [host = '', port = '443'] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      upstream.write(head);
      upstream.pipe(client);
      client.pipe(upstream);
    });
    const end = (): void => {
      upstream.destroy();
      client.destroy();
    };
    upstream.on('error', end).on('close', end);
    client.on('error', end).on('close', end);
  });
  const url = await listen(t, server);
  const folder = await makeProject('proxy');
  const env = {
    npm_config_cache: join(folder, 'npm-cache'),
    npm_config_https_proxy: url,
    HTTPS_PROXY: url,
    NO_PROXY: '',
  };
  const outcome = await npm(['install', '--foreground-scripts', tarball], { cwd: folder, env });
  t.is(outcome.code, 0, outcome.output);
  t.log(`${targets.length} connections through the proxy`);
  const { hostname } = new URL(registry);
  t.true(targets.length > 0);
  t.deepEqual([...new Set(targets)], [`${hostname}:443`]);
  const ranked = await run(process.execPath, ['rank.mjs'], { cwd: folder, env });
  t.is(ranked.code, 0, ranked.output);
});

test.serial('without sharp’s binary (--omit=optional) everything but pictures works', async (t) => {
  const folder = await makeProject('omit-optional');
  const args = ['install', '--prefer-offline', '--omit=optional', tarball];
  const installed = await npm(args, { cwd: folder });
  t.is(installed.code, 0, installed.output);
  t.false(existsSync(join(folder, 'node_modules/@img/sharp-linux-x64')));
  const ltrp = join(folder, 'node_modules/.bin/ltrp');
  for (const command of [['doctor'], ['libtorch', 'where'], ['rank', '--help']]) {
    const { code, output } = await run(ltrp, command, { cwd: folder });
    t.is(code, 0, `${command.join(' ')}: ${output}`);
    if (command[0] === 'libtorch') t.true(output.startsWith(`${await cpuLibtorch()}\n`), output);
  }
  await writeFile(
    join(folder, 'without.mjs'),
    `import { PatchRanker, readImages, version } from 'ltrp';
     const ranker = await PatchRanker.load('tiny');
     const data = new Float32Array(3 * 224 * 224);
     const { shape } = await ranker.rank({ data, shape: [1, 3, 224, 224] });
     console.log(version, JSON.stringify(shape));
     await readImages(['tiger.jpg'], { size: 224 }).catch((error) => console.log(error.code, error.message));`,
  );
  const { code, output } = await run(process.execPath, ['without.mjs'], { cwd: folder });
  t.is(code, 0, output);
  t.regex(output, /^\d+\.\d+\.\d+ \[1,196\]\nERR_LTRP_\w+ [^]*\bsharp\b/);
  t.regex(output, /--include=optional|npm install/);
  const rank = await run(ltrp, ['rank', 'tiger.jpg'], { cwd: folder });
  t.is(rank.code, 1, rank.output);
  t.regex(rank.output, /\bsharp\b[^]*\[?ERR_LTRP_/);
  t.true((await readFile(join(folder, 'package.json'), 'utf8')).includes('ltrp'));
});
