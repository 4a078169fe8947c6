/**
 * Serves the page of this folder on loopback, with onnxruntime-web and the embedded ranker as ONNX:
 *
 *   npm install ltrp onnxruntime-web
 *   node serve.mjs [port]
 *
 * Everything comes from here, so that the policy forbids all else. Of onnxruntime-web a site needs the three files that the page
 * asks for.
 */
import { mkdtemp, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const runtime = dirname(createRequire(import.meta.url).resolve('onnxruntime-web'));
const types = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.onnx': 'application/octet-stream',
};
const policy = `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'; \
img-src 'self' data:`;
/** Without these, browsers give a page no shared memory, and onnxruntime-web one thread. */
const isolation = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

/** Serves with `model`, the path of the ranker; returns the server and its URL. */
export async function start(model, { port = 0, isolated = true } = {}) {
  const fileOf = (path) => {
    if (path === '/') return join(here, 'index.html');
    if (path === '/page.js' || path === '/page.css') return join(here, path);
    if (path === '/ranker.onnx') return model;
    const [, name] = /^\/ort\/(ort[\w.-]+)$/.exec(path) ?? [];
    return name === undefined ? undefined : join(runtime, name);
  };
  const server = createServer((request, response) => {
    const file = fileOf(new URL(request.url, 'http://localhost').pathname);
    const found = file === undefined ? Promise.reject(new Error('no such page')) : readFile(file);
    found.then(
      (bytes) => {
        response.writeHead(200, {
          'content-type': types[extname(file)],
          'content-security-policy': policy,
          ...(isolated ? isolation : {}),
        });
        response.end(bytes);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', resolve);
  });
  return { server, url: `http://127.0.0.1:${server.address().port}/` };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { convertCheckpoint } = await import('ltrp');
  const model = join(await mkdtemp(join(tmpdir(), 'ltrp-browser-')), 'ranker.onnx');
  await convertCheckpoint('tiny', model, { kind: 'ranker' });
  const { url } = await start(model, { port: Number(process.argv[2] ?? 8000) });
  console.log(`Open ${url}`);
}
