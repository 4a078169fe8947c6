/**
 * Servers that lie: other files than the one that is known by its SHA-256, names that lead elsewhere, pages in place of
 * files. Nothing of it is taken or written outside the folder of downloads, and the message says what came.
 */
import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import { type ExecutionContext } from 'ava';
import { inspectLibtorch } from '../lib/libtorch/inspect.js';
import { installLibtorch, type InstallOptions } from '../lib/libtorch/install.js';
import type { LibtorchRelease } from '../lib/libtorch/releases.js';
import { installNvidia } from '../lib/libtorch/nvidia-install.js';
import { unpackLibtorch, unpackNvidia } from '../lib/libtorch/unpack.js';
import { isNamed } from '../lib/libtorch/wheel-index.js';
import { test, type Place } from './support/bare-user.js';
import { listen } from './support/listen.js';
import { makeArchive, release as unpinned } from './support/made-libtorch.js';
import { sharedFolder } from './support/paths.js';
import { zipBytes } from './support/zip.js';

const wheel = 'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl';
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A LibTorch whose SHA-256 is known, and one of the right version whose SHA-256 is another. */
let good: Buffer;
let evil: Buffer;
let release: LibtorchRelease;

test.before(async () => {
  good = await readFile(await makeArchive(sharedFolder(), 'good.zip', '2.13.0'));
  // A comment at the end: unpacks to the same.
  evil = Buffer.concat([good, Buffer.from('evil')]);
  evil.writeUInt16LE(4, good.length - 2);
  const pip = { ...unpinned.pip, platform: 'manylinux_2_28_x86_64' };
  release = { ...unpinned, pip, wheelSha256: { [wheel]: sha256(good) } };
});

test.beforeEach((t) => {
  Object.assign(t.context.env, { PIP_NO_INDEX: '0', NO_PROXY: '*' });
});

type Answer = Buffer | string | ((request: IncomingMessage, response: ServerResponse) => void);

/** A server with these answers by path; `*` for all others, else 404. `asked` has the paths. */
async function site(
  t: ExecutionContext,
  answers: Record<string, Answer>,
): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = request.url ?? '';
    asked.push(url);
    const answer = answers[url] ?? answers['*'];
    if (answer === undefined) response.writeHead(404).end();
    else if (typeof answer === 'function') answer(request, response);
    else response.end(answer);
  });
  return { url: await listen(t, server), asked };
}

const page = '/simple/torch/';
const encoded = encodeURIComponent(wheel);

const json = (files: unknown): string => JSON.stringify({ files });

/** An index that offers `bytes` under `name`, with their true SHA-256, in both forms. */
function offers(name: string, bytes: Buffer, url = `/files/${encoded}`): string[] {
  return [
    json([{ filename: name, url, hashes: { sha256: sha256(bytes) } }]),
    `<a href="${name}#sha256=${sha256(bytes)}">${wheel}</a>`,
  ];
}

async function install(
  t: ExecutionContext<Place>,
  url: string,
  more: InstallOptions = {},
): Promise<{ lines: string[]; error: (Error & { code?: string }) | null }> {
  const lines: string[] = [];
  const error = await installLibtorch({
    env: { ...t.context.env, PIP_INDEX_URL: `${url}/simple` },
    release,
    log: (line) => lines.push(line),
    ...more,
  }).then(
    () => null,
    (error: unknown) => error as Error & { code?: string },
  );
  return { lines, error };
}

const cacheOf = ({ folder }: Place): string => path.join(folder, 'home/.cache/ltrp');
const targetOf = (context: Place): string => path.join(cacheOf(context), 'libtorch/2.13.0-cpu');

/** Nothing is there but the folder of downloads, with nothing in it. */
async function isClean(t: ExecutionContext<Place>, message: string): Promise<void> {
  const { folder } = t.context;
  t.deepEqual((await readdir(folder)).sort(), ['empty', 'home'], message);
  t.deepEqual((await readdir(cacheOf(t.context))).sort(), ['downloads', 'libtorch'], message);
  t.deepEqual(await readdir(path.join(cacheOf(t.context), 'libtorch')), [], message);
  t.deepEqual(await readdir(path.join(cacheOf(t.context), 'downloads')), ['2.13.0-cpu'], message);
  const downloads = path.join(cacheOf(t.context), 'downloads/2.13.0-cpu');
  t.deepEqual(await readdir(downloads), [], message);
}

test('a file of another name is not taken, whatever hash the index gives', async (t) => {
  const names = [
    wheel.replace('cp311-cp311', 'cp311-abi3'),
    wheel.replace('cp311-cp311', 'cp311-cp311d'),
    wheel.replace('cp311-cp311', 'cp311-none'),
    wheel.replace('cp311-cp311', '1-cp311-cp311'),
    wheel.replace('manylinux_2_28', 'manylinux_2_35'),
    wheel.replace('_28_x86', '_28_evil.manylinux_2_28_x86'),
    wheel.replace('+cpu', '+cpu.1'),
    wheel.replace('torch-', 'Torch-'),
    `../../../${wheel}`,
    `/tmp/${wheel}`,
    `..%2F..%2F${encoded}`,
    `..\\${wheel}`,
    `${wheel}/..`,
    `${wheel}/../../../../evil`,
    `${wheel}\0`,
    `${wheel}\n`,
    `${wheel}?x`,
    `.${wheel}`,
    `${encoded}%2F..%2Fevil`,
    '..',
    '',
  ];
  for (const name of names) {
    for (const [form, list] of offers(name, evil).entries()) {
      const { url, asked } = await site(t, { [page]: list, '*': evil });
      for (const unverified of [false, true]) {
        const { error } = await install(t, url, { unverified });
        const message = `${JSON.stringify(name)}, form ${String(form)}: ${error?.message ?? 'taken'}`;
        // In a page of links `..`, `/`, `?` and `#` belong to the address: the right name, of other content.
        const rightName = form === 1 && asked.some((place) => place !== page);
        t.is(error?.code, rightName ? 'ERR_LTRP_LIBTORCH_CHECKSUM' : 'ERR_LTRP_DOWNLOAD', message);
        if (!rightName) t.deepEqual([...new Set(asked)], [page], message);
        await isClean(t, message);
      }
    }
  }
  t.true(isNamed(wheel, wheel));
  t.true(
    isNamed(
      'torch-2.13.0-cp311-none-macosx_14_0_arm64.whl',
      'torch-2.13.0-cp311-*-macosx_*_arm64.whl',
    ),
  );
  t.false(
    isNamed(
      'torch-2.13.0-cp311-/../x-macosx_14_0_arm64.whl',
      'torch-2.13.0-cp311-*-macosx_*_arm64.whl',
    ),
  );
});

test('the known SHA-256 decides, not that of the index: neither for nor against a file', async (t) => {
  for (const list of [
    ...offers(wheel, evil),
    ...offers(wheel, good).map((text) => text.replace(sha256(good), sha256(evil))),
  ]) {
    for (const unverified of [false, true]) {
      const { url } = await site(t, {
        [page]: list,
        [`/files/${encoded}`]: evil,
        [`${page}${wheel}`]: evil,
        [`${page}${encoded}`]: evil,
      });
      const { error } = await install(t, url, { unverified });
      t.is(error?.code, 'ERR_LTRP_LIBTORCH_CHECKSUM', error?.message);
      t.true(
        error?.message.includes(
          `${wheel} has SHA-256 ${sha256(evil)}, expected ${sha256(good)}; it is a zip file`,
        ),
      );
      await isClean(t, list);
    }
  }
  const wrongHash = json([{ filename: wheel, url: '/files/x', hashes: { sha256: sha256(evil) } }]);
  const { url } = await site(t, { [page]: wrongHash, '/files/x': good });
  t.is((await install(t, url)).error, null);
  t.true(inspectLibtorch(targetOf(t.context)).ok);
});

test('a redirection and Content-Disposition change neither the name nor what is checked', async (t) => {
  for (const content of [evil, good]) {
    const { url } = await site(t, {
      [page]: json([{ filename: wheel, url: '/files/a' }]),
      '/files/a': (_request, response) =>
        response.writeHead(302, { location: '/files/..%2f..%2fevil.whl' }).end(),
      '/files/..%2f..%2fevil.whl': (_request, response) =>
        response
          .writeHead(200, { 'content-disposition': 'attachment; filename="../../../evil.whl"' })
          .end(content),
    });
    const { error } = await install(t, url);
    if (content === evil) {
      t.is(error?.code, 'ERR_LTRP_LIBTORCH_CHECKSUM', error?.message);
      await isClean(t, 'evil');
    } else t.is(error, null);
  }
  t.deepEqual(await readdir(cacheOf(t.context)), ['libtorch']);
});

test('addresses that are none of the web are not asked, and what came is said: a page, an error, nothing', async (t) => {
  const { folder } = t.context;
  await writeFile(path.join(folder, 'home-file'), 'x');
  const portal = `<!DOCTYPE html>\n<html><title>Hotel</title>${'x'.repeat(1000)}`;
  const cases: [list: string | Answer, file: Answer, words: RegExp][] = [
    ...['file:///etc/passwd', 'ftp://a/b', 'data:,x', 'http://[', 'javascript:1'].map(
      (url): [string, Answer, RegExp] => [
        json([{ filename: wheel, url }]),
        '',
        /gives no web address of torch-2\.13\.0\+cpu-.*: "/,
      ],
    ),
    [
      portal,
      '',
      /lists no files; it is an HTML page that begins "<!DOCTYPE html> <html><title>Hotel/,
    ],
    ['', '', /lists no files; it is nothing \(0 bytes\)/],
    ['{"detail": "quota"}', '', /lists no files; it is JSON that begins "\{"detail": "quota"\}"/],
    ['{"files": [null, 5, {"filename": 7}, {"filename": "a", "url": [] }]}', '', /lists no files/],
    ['{"files": [', '', /lists no files; it is JSON that begins/],
    [
      '\x00\x01\x02\x03\x04\x05\x06\x07\x08',
      '',
      /lists no files; it is bytes that begin with 0001020304050607/,
    ],
    ['<a href="%zz.whl">x</a><a href="b.whl">b</a>', '', /lists 1 files and no torch-2\.13/],
    [
      (_request, response) => response.writeHead(403).end('{"error":"no licence"}'),
      '',
      /answered 403 Forbidden: JSON that begins "\{"error":"no licence"\}"/,
    ],
    [
      (_request, response) => response.destroy(),
      '',
      /cannot be read: (other side closed|read ECONNRESET)/,
    ],
    [
      json([{ filename: wheel, url: '/f' }]),
      (_request, response) =>
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(portal),
      /\/f is not the file but an HTML page that begins "<!DOCTYPE html>/,
    ],
    [
      json([{ filename: wheel, url: '/f' }]),
      portal,
      /expected [0-9a-f]{64}; it is an HTML page that begins/,
    ],
    [
      json([{ filename: wheel, url: '/f' }]),
      '',
      /expected [0-9a-f]{64}; it is nothing \(0 bytes\)/,
    ],
    [
      json([{ filename: wheel, url: '/f' }]),
      (_request, response) => response.writeHead(404).end(portal),
      /\/f answered 404 Not Found: an HTML page that begins/,
    ],
  ];
  for (const [list, file, words] of cases) {
    const { url } = await site(t, { [page]: list, '/f': file });
    const { error } = await install(t, url);
    t.regex(error?.message ?? '', words);
    const quotes = error?.message.match(/"[^]*?"(?=[.;\n]|$)/g) ?? [];
    for (const quoted of quotes) t.true(quoted.length <= 210, quoted);
    t.regex(error?.code ?? '', /^ERR_LTRP_(DOWNLOAD|LIBTORCH_CHECKSUM)$/);
  }
});

test('a page in place of the file does not cost what had arrived', async (t) => {
  const downloads = path.join(cacheOf(t.context), 'downloads/2.13.0-cpu');
  await mkdir(downloads, { recursive: true });
  await writeFile(path.join(downloads, `${wheel}.part`), good.subarray(0, 500));
  await writeFile(path.join(downloads, `${wheel}.part.json`), '{"validator":"\\"one\\""}');
  let portal = true;
  const ranges: string[] = [];
  const { url } = await site(t, {
    [page]: json([{ filename: wheel, url: '/f' }]),
    '/f': (request, response) => {
      ranges.push(request.headers.range ?? '');
      if (portal) response.writeHead(200, { 'content-type': 'text/html' }).end('<html>pay</html>');
      else response.writeHead(206, { etag: '"one"' }).end(good.subarray(500));
    },
  });
  t.is((await install(t, url)).error?.code, 'ERR_LTRP_DOWNLOAD');
  portal = false;
  t.is((await install(t, url)).error, null);
  t.deepEqual(ranges, ['bytes=500-', 'bytes=500-']);
});

test('what pip brings is held to the same name and SHA-256, and what lies around is not taken for it', async (t) => {
  const { folder, env } = t.context;
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  await writeFile(path.join(bin, 'good'), good);
  await writeFile(path.join(bin, 'evil'), evil);
  const other = wheel.replace('cp311-cp311', 'cp311-abi3');
  const python = async (script: string): Promise<void> => {
    // The folder is the argument behind --dest.
    const text = `#!/bin/sh\ncase "$*" in *"config list"*) exit 1;; *--version) echo pip 1; exit;; esac\nwhile [ "$1" != --dest ]; do shift; done\n${script}\n`;
    await writeFile(path.join(bin, 'python3'), text);
    await chmod(path.join(bin, 'python3'), 0o755);
  };
  const downloads = path.join(cacheOf(t.context), 'downloads/2.13.0-cpu');
  const own = { env: { ...env, PATH: `${bin}:/usr/bin:/bin`, PIP_NO_INDEX: '1' } };
  for (const [script, code, words] of [
    [
      `cp ${bin}/evil "$2/${wheel}"`,
      'ERR_LTRP_LIBTORCH_CHECKSUM',
      /it is a zip file\. It was removed/,
    ],
    [
      `cp ${bin}/evil "$2/${other}"`,
      'ERR_LTRP_DOWNLOAD',
      /pip brought torch-.*abi3.* instead of torch-.*cp311-cp311/,
    ],
    ['exit 0', 'ERR_LTRP_DOWNLOAD', /pip brought nothing instead of/],
    ['echo ERROR: no luck; exit 1', 'ERR_LTRP_DOWNLOAD', /pip ended with 1: "ERROR: no luck"/],
    ['kill -9 $$', 'ERR_LTRP_DOWNLOAD', /pip ended with SIGKILL: ""/],
  ] as const) {
    await python(script);
    await mkdir(downloads, { recursive: true });
    await writeFile(path.join(downloads, other), evil); // of an earlier run
    for (const unverified of [false, true]) {
      const { error } = await install(t, 'http://127.0.0.1:9', { ...own, unverified });
      t.is(error?.code, code, error?.message);
      t.regex(error?.message ?? '', words);
      t.deepEqual(await readdir(downloads), [other]);
      t.false(existsSync(targetOf(t.context)));
    }
  }
  // It answers nothing that makes sense, or nothing at all.
  const odd: [script: string, words: RegExp][] = [
    ['echo hello', /pip: python3 -m pip --version gave text that begins "hello"/],
    ['echo No module named pip >&2; exit 1', /python3 -m pip ended with 1: "No module named pip"/],
  ];
  for (const [script, words] of odd) {
    await writeFile(path.join(bin, 'python3'), `#!/bin/sh\n${script}\n`);
    t.regex((await install(t, 'http://127.0.0.1:9', own)).error?.message ?? '', words);
  }
  const noAddress = { ...own.env, PIP_NO_INDEX: '', PIP_INDEX_URL: 'http://[' };
  const { error: bad } = await install(t, '', { env: noAddress });
  t.regex(bad?.message ?? '', /"http:\/\/\[" is not a web address; pip: python3 -m pip ended/);
  await python(`cp ${bin}/good "$2/${wheel}"`);
  t.is((await install(t, 'http://127.0.0.1:9', own)).error, null);
  await rm(path.join(bin, 'python3'));
  const closed = createServer();
  const url = await listen(t, closed);
  await new Promise((resolve) => closed.close(resolve));
  const { error } = await install(t, url, { force: true });
  t.regex(
    error?.message ?? '',
    /127\.0\.0\.1:\d+.*ECONNREFUSED.*; pip: python3 is not on the PATH/,
  );
});

test("NVIDIA's packages are held to their names and SHA-256 too", async (t) => {
  const { folder, env } = t.context;
  const name = 'nvidia_x-1.0-py3-none-manylinux_2_27_x86_64.whl';
  const item = { name: 'nvidia-x', version: '1.0', size: 1, wheel: name, libraries: [] };
  const downloads = path.join(folder, 'downloads');
  for (const [listed, words] of [
    [name.replace('py3', 'py2.py3'), /lists 1 files and no nvidia_x-1\.0-py3/],
    [`../../${name}`, /lists 1 files and no nvidia_x-1\.0-py3/],
    [name, /has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; it is a zip file/],
  ] as const) {
    const list = json([{ filename: listed, url: '/f', hashes: { sha256: sha256(evil) } }]);
    const { url } = await site(t, { '/simple/nvidia-x/': list, '/f': evil });
    const installing = installNvidia(
      [{ ...item, sha256: sha256(good) }],
      { downloads, target: path.join(folder, 'target') },
      {
        env: { ...env, PIP_INDEX_URL: `${url}/simple` },
        log: () => undefined,
        checkSpace: () => Promise.resolve(),
        check: () => Promise.resolve(),
      },
    );
    await t.throwsAsync(installing, { message: words });
    t.deepEqual(await readdir(downloads), []);
    t.deepEqual(await readdir(path.join(folder, 'target', 'nvidia')), []);
    t.deepEqual((await readdir(folder)).sort(), ['downloads', 'empty', 'target']);
  }
});

test('a bad file of an earlier run is fetched again, not believed', async (t) => {
  const downloads = path.join(cacheOf(t.context), 'downloads/2.13.0-cpu');
  await mkdir(downloads, { recursive: true });
  await writeFile(path.join(downloads, wheel), evil);
  const { url } = await site(t, { [page]: json([{ filename: wheel, url: '/f' }]), '/f': good });
  const { error, lines } = await install(t, url);
  t.is(error, null);
  t.true(lines.some((line) => line.includes(`has SHA-256 ${sha256(evil)}, expected`)));
});

test('archives with links, names twice, files where folders are, and names that lead out are refused', async (t) => {
  const { folder } = t.context;
  /** Names and modes, in turn. */
  const make = (file: string, words: readonly string[]): Promise<void> =>
    writeFile(
      file,
      zipBytes(
        words.flatMap((name, i) =>
          i % 2 === 0 ? [{ name, content: '/etc/passwd', mode: parseInt(words[i + 1]!, 8) }] : [],
        ),
      ),
    );
  const cases: [entries: string[], words: RegExp][] = [
    [['lib/libc10.so', '120777'], /libtorch\/lib\/libc10\.so is not a regular file/],
    [['include/a', '060644'], /is not a regular file/],
    [['lib/a', '100644', 'lib/a', '100644'], /lib\/a is there twice/],
    [['lib/a', '100644', 'lib/a/b', '100644'], /lib\/a\/b is there twice/],
    [['lib/a/b', '100644', 'lib/a', '100644'], /lib\/a is there twice/],
    [['lib/../../../evil', '0'], /invalid relative path/],
    [['lib\\..\\..\\..\\evil', '0'], /invalid relative path/],
    [['lib/a/../../../../evil', '0'], /invalid relative path/],
    [['lib/\0a', '0'], /./],
  ];
  const archive = path.join(folder, 'a.zip');
  for (const [entries, words] of cases) {
    const names = entries.map((text, i) => (i % 2 === 0 ? `libtorch/${text}` : text));
    await make(archive, names);
    await t.throwsAsync(
      unpackLibtorch(archive, path.join(folder, 'in', 'here', 'target')),
      { code: 'ERR_LTRP_LIBTORCH_ARCHIVE', message: words },
      entries.join(),
    );
    await rm(path.join(folder, 'in'), { recursive: true, force: true });
    t.deepEqual((await readdir(folder)).sort(), ['a.zip', 'empty']);
  }
  await make(path.join(folder, 'b.zip'), ['nvidia/x/lib/a.so.1', '120777']);
  await t.throwsAsync(unpackNvidia(path.join(folder, 'b.zip'), path.join(folder, 'in')), {
    code: 'ERR_LTRP_LIBTORCH_ARCHIVE',
    message: /is not a regular file/,
  });
  const portal = path.join(folder, 'p.zip');
  await writeFile(portal, '<html>pay</html>');
  await t.throwsAsync(unpackLibtorch(portal, path.join(folder, 'in')), {
    message:
      /p\.zip cannot be unpacked: .*\. It is an HTML page that begins "<html>pay<\/html>"\.$/,
  });
});
