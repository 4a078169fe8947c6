/** Shards on web servers and in S3-compatible stores that stall, cut, refuse and change. */
import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Dataset } from '../lib/data/dataset.js';
import { remoteShards } from '../lib/shards/locations.js';
import { remoteSource } from '../lib/shards/remote.js';
import { jsonLines, ltrp } from './support/command.js';
import { listen } from './support/listen.js';
import { temporaryFolder, sharedFolder } from './support/paths.js';
import { writePictures } from './support/runs.js';
import { tarBytes, writeParquet } from './support/shards.js';

/** What happens to one request instead of an answer. */
type Fault = 'stall' | 'cut' | '503' | 'other' | 'whole' | '404';

interface Store {
  url: string;
  files: Map<string, Buffer>;
  /** Taken one by one by requests for more than the first byte; where there is none, requests are answered. */
  faults: Fault[];
  requests: IncomingMessage[];
  /** Connections that are open. */
  open: () => Promise<number>;
}

const etagOf = (bytes: Buffer): string => `"${createHash('md5').update(bytes).digest('hex')}"`;

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  fault?: Fault,
): void {
  const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const [from, to] = [Number(first), Math.min(Number(last), bytes.length - 1)];
  if (fault === '503' || fault === '404') {
    response.writeHead(Number(fault)).end('later, perhaps');
    return;
  }
  const etag = fault === 'other' ? '"another"' : etagOf(bytes);
  const match = request.headers['if-match'];
  if (match !== undefined && match !== etag) {
    response.writeHead(412).end('changed');
    return;
  }
  if (fault === 'whole') {
    response.writeHead(200, { etag, 'content-length': bytes.length }).end(bytes);
    return;
  }
  const piece = bytes.subarray(from, to + 1);
  response.writeHead(206, {
    etag,
    'content-length': piece.length,
    'content-range': `bytes ${from}-${to}/${bytes.length}`,
  });
  if (fault === undefined || fault === 'other') {
    response.end(piece);
    return;
  }
  response.write(piece.subarray(0, piece.length >> 1), () => {
    if (fault === 'cut') setTimeout(() => response.destroy(), 50);
  });
}

async function serve(t: ExecutionContext, bucket = ''): Promise<Store> {
  const store: Store = {
    url: '',
    files: new Map(),
    faults: [],
    requests: [],
    open: () => Promise.resolve(0),
  };
  const server = createServer((request, response) => {
    store.requests.push(request);
    const url = new URL(request.url ?? '', 'http://host');
    const name = decodeURIComponent(url.pathname).slice(1 + bucket.length);
    const bytes = store.files.get(name);
    if (url.searchParams.has('list-type')) list(response, store, url);
    else if (bytes === undefined) response.writeHead(404).end('no such file');
    else
      answer(
        request,
        response,
        bytes,
        request.headers.range === 'bytes=0-0' ? undefined : store.faults.shift(),
      );
  });
  store.url = await listen(t, server);
  store.open = () =>
    new Promise((resolve, reject) => {
      server.getConnections((error, count) => {
        if (error) reject(error);
        else resolve(count);
      });
    });
  return store;
}

/** Two keys a page. */
function list(response: ServerResponse, { files }: Store, url: URL): void {
  const prefix = url.searchParams.get('prefix') ?? '';
  const keys = [...files.keys()].filter((key) => key.startsWith(prefix)).sort();
  const from = Number(url.searchParams.get('continuation-token') ?? 0);
  const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const next =
    from + 2 < keys.length ? `<NextContinuationToken>${from + 2}</NextContinuationToken>` : '';
  const contents = keys
    .slice(from, from + 2)
    .map((key) => `<Contents><Key>${escape(key)}</Key></Contents>`);
  response.end(
    `<?xml version="1.0"?><ListBucketResult>${contents.join('')}${next}</ListBucketResult>`,
  );
}

const userCache = process.env['XDG_CACHE_HOME'] ?? '';
process.env['XDG_CACHE_HOME'] = sharedFolder();

const fast = { stallTimeout: 300, attempts: 3 };
const noise = (length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 7919) % 251));

test.serial(
  'a piece arrives whole from a server that stalls, cuts and refuses; what has arrived is not asked for again',
  async (t) => {
    const store = await serve(t);
    const bytes = noise(400_000);
    store.files.set('a.bin', bytes);
    const source = await remoteSource(`${store.url}/a.bin?X-Amz-Signature=secret`, fast);
    t.deepEqual([source.size, source.name], [400_000, `${store.url}/a.bin`]);
    store.faults.push('503', '503', 'stall', 'cut', '503', 'cut');
    t.true((await source.read(1000, 300_000)).equals(bytes.subarray(1000, 301_000)));
    t.deepEqual(store.faults, []);
    const pieces = store.requests.slice(1).map(({ headers }) => headers.range);
    t.is(pieces.length, 7);
    t.deepEqual(pieces.slice(0, 4), [
      ...Array.from({ length: 3 }, () => 'bytes=1000-300999'),
      'bytes=151000-300999',
    ]);
    t.true(store.requests.slice(1).every(({ headers }) => headers['if-match'] === etagOf(bytes)));
  },
);

test.serial(
  'a server that stays down, or sends something else, is an error that names the file',
  async (t) => {
    const store = await serve(t);
    store.files.set('a.tar', noise(5000));
    const source = await remoteSource(`${store.url}/a.tar`, fast);
    store.faults.push('503', '503', '503');
    await t.throwsAsync(source.read(10, 100), {
      code: 'ERR_LTRP_DOWNLOAD',
      message: /a\.tar cannot be read: it answered 503/,
    });
    store.faults.push('404');
    await t.throwsAsync(source.read(10, 100), { code: 'ERR_LTRP_DOWNLOAD', message: /404/ });
    store.faults.push('whole');
    await t.throwsAsync(source.read(10, 100), {
      code: 'ERR_LTRP_FILE_READ',
      message: /changed|another piece/,
    });
    // The content changes: in an answer, and between the pieces of one body.
    store.faults.push('other');
    await t.throwsAsync(source.read(10, 100), {
      code: 'ERR_LTRP_FILE_READ',
      message: /a\.tar changed while/,
    });
    store.faults.push('cut', 'other');
    await t.throwsAsync(source.read(10, 100), {
      code: 'ERR_LTRP_FILE_READ',
      message: /a\.tar changed while/,
    });
    store.files.set('a.tar', noise(5001));
    await t.throwsAsync(source.read(10, 100), {
      code: 'ERR_LTRP_FILE_READ',
      message: /a\.tar changed while/,
    });
    await t.throwsAsync(remoteSource(`${store.url}/none.tar`, fast), {
      code: 'ERR_LTRP_DOWNLOAD',
      message: /404/,
    });
    await t.throwsAsync(remoteSource('http://127.0.0.1:65534/a.tar', { attempts: 2 }), {
      code: 'ERR_LTRP_DOWNLOAD',
      message: /ECONNREFUSED/,
    });
    const stop = AbortSignal.timeout(100);
    store.faults.push('stall');
    const reading = remoteSource(`${store.url}/a.tar`).then((other) => other.read(0, 5000, stop));
    const reason: unknown = await reading.catch((error: unknown) => error);
    t.is(reason, stop.reason);
  },
);

test.serial('refused bodies are not left open', async (t) => {
  const store = await serve(t);
  store.files.set('a.tar', noise(2_000_000));
  const source = await remoteSource(`${store.url}/a.tar`, { ...fast, attempts: 30 });
  for (let i = 0; i < 20; i++) {
    store.faults.push('other');
    await t.throwsAsync(source.read(0, 2_000_000));
  }
  t.true((await source.read(5, 10)).equals(noise(15).subarray(5)));
  t.true((await store.open()) <= 3, `${await store.open()}`);
});

/** By the definition of Signature Version 4, from what the server received. */
function isSigned({ method = '', url = '', headers }: IncomingMessage, secret: string): boolean {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      headers.authorization ?? '',
    );
  const [, , scope = '', names = '', signature = ''] = match ?? [];
  const { pathname, searchParams } = new URL(url, 'http://host');
  const encode = (text: string): string =>
    encodeURIComponent(text).replace(
      /[!'()*]/g,
      (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
    );
  const query = [...searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');
  const canonical = [
    method,
    pathname,
    query,
    ...names.split(';').map((name) => `${name}:${String(headers[name])}`),
    '',
    names,
    headers['x-amz-content-sha256'],
  ].join('\n');
  const hash = createHash('sha256').update(canonical).digest('hex');
  const hmac = (key: string | Buffer, text: string): Buffer =>
    createHmac('sha256', key).update(text).digest();
  const key = scope.split('/').reduce<string | Buffer>(hmac, `AWS4${secret}`);
  const text = `AWS4-HMAC-SHA256\n${String(headers['x-amz-date'])}\n${scope}\n${hash}`;
  return hmac(key, text).toString('hex') === signature;
}

test.serial('s3: lists of several pages, odd names, signatures; tar and Parquet', async (t) => {
  const folder = await temporaryFolder(t);
  const photos = await writePictures(join(folder, 'photos'), 3);
  const png = await Promise.all([1, 2, 3].map((i) => readFile(join(photos, `${i}.png`))));
  const store = await serve(t, 'bucket/');
  const tar = await tarBytes(png.map((bytes, i) => [`${i}.png`, bytes]));
  store.files.set('set/a & b+c.tar', tar);
  store.files.set('set/b.tar', tar);
  store.files.set(
    'set/deep/c.parquet',
    await readFile(await writeParquet(join(folder, 'c.parquet'), photos)),
  );
  store.files.set('set/readme.txt', noise(9));
  store.files.set('settings.tar', tar);
  const env = {
    AWS_ENDPOINT_URL: store.url,
    AWS_ACCESS_KEY_ID: 'key',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_REGION: 'eu-central-1',
  };
  Object.assign(process.env, env);
  t.teardown(() => {
    for (const name of Object.keys(env)) Reflect.deleteProperty(process.env, name);
  });
  t.deepEqual(await remoteShards('s3://bucket/set/'), [
    ...['s3://bucket/set/a & b+c.tar', 's3://bucket/set/b.tar', 's3://bucket/set/deep/c.parquet'],
  ]);
  const dataset = await Dataset.open(['s3://bucket/set/']);
  t.is(dataset.size, 9);
  t.deepEqual(dataset.sources[0]!.names.slice(3, 7), [
    'b.tar/0.png',
    'b.tar/1.png',
    'b.tar/2.png',
    'deep/c.parquet/0',
  ]);
  t.true(store.requests.length > 6);
  for (const request of store.requests)
    t.true(isSigned(request, 'secret'), `${request.url} ${JSON.stringify(request.headers)}`);
  t.false(store.requests.some((request) => isSigned(request, 'other')));
  await t.throwsAsync(remoteShards('s3://bucket/none/'), { code: 'ERR_LTRP_DATA_EMPTY' });
  await t.throwsAsync(remoteShards('s3:///x'), { code: 'ERR_LTRP_INVALID_ARGUMENT' });
  await t.throwsAsync(remoteShards('https://host/folder/'), { code: 'ERR_LTRP_INVALID_ARGUMENT' });
  t.deepEqual(
    await remoteShards('https://host/{08..11}.{tar,parquet}'),
    [8, 9, 10, 11].flatMap((i) =>
      ['tar', 'parquet'].map((kind) => `https://host/${String(i).padStart(2, '0')}.${kind}`),
    ),
  );
});

test.serial('ltrp rank over HTTP: a store that answers 503 and cuts loses nothing', async (t) => {
  process.env['XDG_CACHE_HOME'] = userCache;
  const folder = await temporaryFolder(t);
  const photos = await writePictures(join(folder, 'photos'), 3);
  const png = await Promise.all([1, 2, 3].map((i) => readFile(join(photos, `${i}.png`))));
  const store = await serve(t);
  for (const name of ['0.tar', '1.tar'])
    store.files.set(name, await tarBytes(png.map((bytes, i) => [`${i}.png`, bytes])));
  store.faults.push('503', 'cut', '503', 'cut');
  const outcome = await ltrp(['rank', `${store.url}/{0..1}.tar`, '--json'], { cwd: folder });
  t.is(outcome.code, 0, outcome.stderr);
  t.deepEqual(
    jsonLines<{ image: string }>(outcome).map(({ image }) => image),
    ['0', '1'].flatMap((shard) =>
      ['0', '1', '2'].map((key) => `${store.url}/${shard}.tar/${key}.png`),
    ),
  );
  t.deepEqual(store.faults, []);
});
