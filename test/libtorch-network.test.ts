/** What lies between us and LibTorch's server: proxies of the environment, packed answers, parts of earlier runs. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { connect } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { type ExecutionContext } from 'ava';
import { download } from '../lib/download/download.js';
import { installLibtorch } from '../lib/libtorch/install.js';
import { obstacle, proxyOf } from '../lib/download/proxy.js';
import { unpackLibtorch } from '../lib/libtorch/unpack.js';
import { findWheel } from '../lib/libtorch/wheel-index.js';
import { test } from './support/folder.js';
import { listen } from './support/listen.js';
import { makeArchive, release } from './support/made-libtorch.js';
import { zipBytes } from './support/zip.js';

const run = promisify(execFile);

const content = Buffer.alloc(200_000, 'as compressible as can be ');

/** A proxy for both kinds of requests, which leads every host to 127.0.0.1; `seen` has what it was asked for. */
async function proxy(t: ExecutionContext): Promise<{ url: string; seen: string[] }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '');
    seen.push(`${request.method ?? ''} ${url.href}`);
    const onward = { port: url.port, path: url.pathname, headers: request.headers };
    httpRequest({ host: '127.0.0.1', ...onward }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    }).end();
  });
  server.on('connect', (request, socket) => {
    seen.push(`CONNECT ${request.url ?? ''}`);
    const port = Number(/:(\d+)$/.exec(request.url ?? '')?.[1]);
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  return { url: await listen(t, server), seen };
}

const serving: RequestListener = (request, response) => {
  if (request.url === '/simple/torch/') {
    const files = [{ filename: 'torch.whl', url: '/files/torch.whl' }];
    response.writeHead(200, { 'content-type': 'application/vnd.pypi.simple.v1+json' });
    response.end(JSON.stringify({ files }));
  } else response.writeHead(200, { 'content-length': content.length }).end(content);
};

test('which proxy a request takes: the variables as curl reads them, then what npm is configured with', (t) => {
  const url = 'https://pypi.org/simple';
  const plain = 'http://pypi.org/simple';
  t.is(proxyOf(url, {}), null);
  t.is(
    proxyOf(url, { HTTPS_PROXY: 'http://a:1', npm_config_https_proxy: 'http://b:1' }),
    'http://a:1',
  );
  t.is(proxyOf(url, { HTTP_PROXY: 'http://a:1' }), null);
  t.is(proxyOf(plain, { HTTP_PROXY: 'http://a:1' }), 'http://a:1');
  t.is(proxyOf(url, { npm_config_https_proxy: 'http://b:1' }), 'http://b:1');
  t.is(
    proxyOf(url, { npm_config_https_proxy: 'null', npm_config_proxy: 'http://c:1' }),
    'http://c:1',
  );
  t.is(proxyOf(plain, { npm_config_proxy: 'http://c:1' }), 'http://c:1');
  for (const [address, list, direct] of [
    ['https://a.example/x', 'example', true],
    ['https://a.example/x', 'a.example:443', true],
    ['https://a.example:8443/x', 'a.example:443', false],
    ['http://[::1]:8080/', '::1', true],
    ['http://10.1.2.3/', '10.0.0.0/8', true],
    ['http://11.1.2.3/', '10.0.0.0/8, fe80::/10', false],
    ['http://[fe80::1]/', '10.0.0.0/8, fe80::/10', true],
  ] as const) {
    const proxied = proxyOf(address, { all_proxy: 'http://a:1', no_proxy: list });
    t.is(proxied, direct ? null : 'http://a:1', `${address}, no_proxy=${list}`);
  }
  t.is(proxyOf(url, { https_proxy: '', npm_config_proxy: 'http://c:1' }), null, 'none is wanted');
  t.is(proxyOf(url, { npm_config_proxy: 'http://c:1', npm_config_noproxy: 'pypi.org' }), null);
  for (const list of ['*', 'pypi.org', '.org', 'example.com, PyPI.org']) {
    t.is(proxyOf(url, { https_proxy: 'http://a:1', no_proxy: list }), null, list);
  }
  t.is(proxyOf(url, { https_proxy: 'x:1', no_proxy: 'ypi.org' }), 'x:1');
});

test('only pip can: a password of the index, a proxy of another kind', (t) => {
  const url = 'https://pypi.org/simple';
  t.is(obstacle(url, {}), null);
  t.regex(obstacle('https://me:secret@pypi.org/simple', {}) ?? '', /password/);
  t.is(obstacle(url, { https_proxy: 'http://proxy:3128' }), null);
  t.is(obstacle(url, { https_proxy: 'proxy:3128' }), null);
  const words = obstacle(url, { https_proxy: 'socks5://me:secret@proxy:1080' }) ?? '';
  t.regex(words, /socks5.* is not an HTTP proxy/);
  t.notRegex(words, /secret/);
  t.is(obstacle(url, { https_proxy: 'socks5://proxy:1080', no_proxy: 'pypi.org' }), null);
});

test('http goes through the proxy, the index as well as the file; not where no_proxy names the host', async (t) => {
  const file = path.join(t.context.folder, 'f');
  const { port } = new URL(await listen(t, createServer(serving)));
  const { url, seen } = await proxy(t);
  const index = `http://index.invalid:${port}/simple`;
  for (const env of [{ http_proxy: url }, { npm_config_proxy: url }]) {
    seen.length = 0;
    const wheel = await findWheel(index, 'torch', 'torch.whl', undefined, env);
    t.is(wheel.url, `http://index.invalid:${port}/files/torch.whl`);
    await download(wheel.url, file, { env });
    t.true((await readFile(file)).equals(content));
    t.deepEqual(seen, [
      `GET http://index.invalid:${port}/simple/torch/`,
      `GET http://index.invalid:${port}/files/torch.whl`,
    ]);
  }
  seen.length = 0;
  const env = { http_proxy: url, no_proxy: '127.0.0.1' };
  await download(`http://127.0.0.1:${port}/f`, file, { env });
  t.deepEqual(seen, []);
});

test('https goes through a tunnel of the proxy', async (t) => {
  const { folder } = t.context;
  const file = path.join(folder, 'f');
  const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
  const names = ['-subj', '/CN=files.invalid', '-addext', 'subjectAltName=DNS:files.invalid'];
  const made = await run('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'],
    ...['-keyout', key, '-out', cert],
    ...names,
  ]).catch(() => null);
  if (made === null) {
    t.log('skipped: there is no openssl here to make a certificate');
    t.pass();
    return;
  }
  const options = { key: await readFile(key), cert: await readFile(cert) };
  const { port } = new URL(await listen(t, createTlsServer(options, serving)));
  const { url, seen } = await proxy(t);
  // Certificates are read when a process starts.
  const script = `
    import { download } from ${JSON.stringify(new URL('../dist/download/download.js', import.meta.url).href)};
    await download('https://files.invalid:${port}/f', ${JSON.stringify(file)}, { attempts: 1 });`;
  const env = { NODE_EXTRA_CA_CERTS: cert, npm_config_https_proxy: url };
  const { stderr } = await run(process.execPath, ['--input-type=module', '-e', script], { env });
  t.is(stderr, '');
  t.true((await readFile(file)).equals(content));
  t.deepEqual(seen, [`CONNECT files.invalid:${port}`]);
});

test('an archive behind a proxy that cannot be used is not fetched past it', async (t) => {
  const { folder } = t.context;
  let asked = 0;
  const server = createServer((_request, response) => {
    asked += 1;
    response.end();
  });
  const archiveUrl = `${await listen(t, server)}/a.zip`;
  const env = { HOME: folder, PATH: folder, http_proxy: 'socks5://127.0.0.1:9' };
  const installing = installLibtorch({
    env,
    release: { ...release, archiveUrl },
    from: 'archive',
    unverified: true,
  });
  await t.throwsAsync(installing, { code: 'ERR_LTRP_DOWNLOAD', message: /is not an HTTP proxy/ });
  t.is(asked, 0);
});

test('a server that packs what it is asked for unpacked is believed all the same', async (t) => {
  const { folder } = t.context;
  const file = path.join(folder, 'f');
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const accepted = request.headers['accept-encoding'];
    asked.push(accepted);
    const packs = request.url === '/stubborn' || accepted?.includes('gzip') === true;
    const body = packs ? gzipSync(content) : content;
    const encoding = packs ? { 'content-encoding': 'gzip' } : {};
    response
      .writeHead(200, { 'content-length': body.length, etag: '"one"', ...encoding })
      .end(body);
  });
  const url = await listen(t, server);
  for (const name of ['polite', 'stubborn']) {
    await download(`${url}/${name}`, file, { attempts: 1 });
    t.true((await readFile(file)).equals(content), name);
  }
  t.deepEqual(asked, ['identity', 'identity']);
  t.deepEqual(await readdir(folder), ['f']);
});

test('a part that is complete already is taken; one that is too long is fetched again', async (t) => {
  const file = path.join(t.context.folder, 'f');
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const range = request.headers.range ?? '';
    asked.push(range);
    if (range === '') response.writeHead(200, { 'content-length': content.length }).end(content);
    else response.writeHead(416, { 'content-range': `bytes */${String(content.length)}` }).end();
  });
  const url = `${await listen(t, server)}/f`;
  const note = JSON.stringify({ validator: '"one"' });
  await writeFile(`${file}.part`, content);
  await writeFile(`${file}.part.json`, note);
  await download(url, file);
  t.true((await readFile(file)).equals(content));
  t.deepEqual(asked, [`bytes=${String(content.length)}-`], 'nothing was fetched');
  await writeFile(`${file}.part`, Buffer.concat([content, content]));
  await writeFile(`${file}.part.json`, note);
  await download(url, file);
  t.true((await readFile(file)).equals(content));
  t.is(asked.at(-1), '');
});

test('what the server says of a new file is written only once the old part is gone', async (t) => {
  const file = path.join(t.context.folder, 'f');
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': content.length, etag: '"new"' }).end(content);
  });
  const old = JSON.stringify({ validator: '"old"' });
  // A folder cannot be truncated: as if the run had been killed at that point.
  await mkdir(`${file}.part`);
  await writeFile(`${file}.part/x`, 'old');
  await writeFile(`${file}.part.json`, old);
  const downloading = download(`${await listen(t, server)}/f`, file, { attempts: 1 });
  await t.throwsAsync(downloading, { code: 'ERR_LTRP_DOWNLOAD', message: /EISDIR/ });
  t.is(await readFile(`${file}.part.json`, 'utf8'), old);
});

test('a piece from another place than was asked for is not appended', async (t) => {
  const file = path.join(t.context.folder, 'f');
  const server = createServer((request, response) => {
    const from = request.headers.range === undefined ? null : 7;
    const body = content.subarray(from ?? 0);
    const range = `bytes 7-${String(content.length - 1)}/${String(content.length)}`;
    response.writeHead(from === null ? 200 : 206, {
      'content-length': body.length,
      ...(from === null ? {} : { 'content-range': range }),
    });
    response.end(body);
  });
  await writeFile(`${file}.part`, content.subarray(0, 1000));
  await writeFile(`${file}.part.json`, JSON.stringify({ validator: '"one"' }));
  await download(`${await listen(t, server)}/f`, file);
  t.true((await readFile(file)).equals(content));
});

test('an archive whose names lead out of the folder is refused, and nothing is written there', async (t) => {
  const { folder } = t.context;
  const archive = path.join(folder, 'a.zip');
  await writeFile(archive, zipBytes([{ name: 'libtorch/lib/../../../evil', content: 'x' }]));
  await t.throwsAsync(unpackLibtorch(archive, path.join(folder, 'in', 'here', 'target')), {
    code: 'ERR_LTRP_LIBTORCH_ARCHIVE',
    message: /invalid relative path/,
  });
  t.deepEqual(await readdir(folder), ['a.zip']);
});

test.serial('a Node without crc32 is an error of the call, not of the process', async (t) => {
  const { folder } = t.context;
  const archive = await makeArchive(folder, 'a.zip', '2.13.0');
  const zlib = createRequire(import.meta.url)('node:zlib') as { crc32: unknown };
  const { crc32 } = zlib;
  zlib.crc32 = undefined;
  syncBuiltinESMExports();
  try {
    await t.throwsAsync(unpackLibtorch(archive, path.join(folder, 'target')), {
      code: 'ERR_LTRP_LIBTORCH_ARCHIVE',
      message: /crc32/,
    });
  } finally {
    zlib.crc32 = crc32;
    syncBuiltinESMExports();
  }
});

test('attempts are bounded although each begins anew and the next comes a little further than the last', async (t) => {
  let requests = 0;
  const server = createServer((_request, response) => {
    requests += 1;
    response.writeHead(200, { 'content-length': content.length });
    response.write(content.subarray(0, requests % 2 === 0 ? 60_000 : 50_000), () => {
      response.destroy();
    });
  });
  const url = await listen(t, server);
  await t.throwsAsync(download(url, path.join(t.context.folder, 'f'), { attempts: 2 }), {
    code: 'ERR_LTRP_DOWNLOAD',
  });
  t.true(requests <= 6, String(requests));
});
