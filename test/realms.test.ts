/** The built package in a second JavaScript realm, as Jest (ESM), vitest (vmThreads) and node:vm make one. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { repository } from './support/paths.js';

/** Evaluates dist in a context of its own; what it imports from elsewhere comes from the first realm, as in Jest. */
const program = `
  import { readFileSync } from 'node:fs';
  import { pathToFileURL } from 'node:url';
  import vm from 'node:vm';
  const names = ['process', 'Buffer', 'URL', 'AbortController', 'AbortSignal', 'performance', 'setTimeout', 'clearTimeout', 'console'];
  const context = vm.createContext(Object.fromEntries(names.map((name) => [name, globalThis[name]])));
  const modules = new Map();
  const load = (specifier, parent) => {
    const url = specifier.startsWith('.') || specifier.startsWith('file:') ? new URL(specifier, parent).href : specifier;
    if (!modules.has(url)) modules.set(url, make(url));
    return modules.get(url);
  };
  const dynamic = async (specifier, referrer) => {
    const module = await load(specifier, referrer.identifier);
    if (module.status === 'unlinked') await module.link((name, from) => load(name, from.identifier));
    if (module.status === 'linked') await module.evaluate();
    return module;
  };
  async function make(url) {
    if (url.startsWith('file:')) {
      return new vm.SourceTextModule(readFileSync(new URL(url), 'utf8'), {
        context,
        identifier: url,
        initializeImportMeta: (meta) => { meta.url = url; },
        importModuleDynamically: dynamic,
      });
    }
    const there = await import(url);
    return new vm.SyntheticModule(Object.keys(there), function () {
      for (const key of Object.keys(there)) this.setExport(key, there[key]);
    }, { context, identifier: url });
  }
  const root = process.env.LTRP_ROOT;
  const { namespace: ltrp } = await dynamic('./dist/index.js', { identifier: pathToFileURL(root + '/').href });
  const photo = root + '/demo/photos/cat.jpg';
  context.ltrp = ltrp;
  context.photo = photo;
  context.bytes = readFileSync(photo);
  context.url = pathToFileURL(photo);
  const result = await vm.runInContext(\`(async () => {
    const said = (call) => call.then(() => 'worked', (error) => [error instanceof ltrp.LtrpError, error.code]);
    const own = new Uint8Array(bytes);
    const ranker = await ltrp.PatchRanker.load('tiny');
    const images = await ltrp.readImages([photo, own, url], { size: 224 });
    const { logits, shape } = await ranker.rank(images);
    const again = await ranker.rank({ data: new Float32Array(images.data), shape: images.shape }, { visible: undefined });
    const { indices } = await ltrp.selectPatches(images, logits, { keep: 9 });
    const ranked = [];
    for await (const { ok, error, logits } of ltrp.rankFiles([photo, own, url], { ranker })) ranked.push(ok ? logits.length : error.message);
    const { loss } = await ltrp.rankingLoss('pointWise', new Float32Array([1, 2]), new Float32Array([1, 2]), [1, 2]);
    const refused = await said(ranker.rank(images, { visible: new Int32Array([900]) }));
    ranker.dispose();
    return JSON.stringify({
      foreign: !(images.data instanceof Float32Array),
      shape, same: logits.join() === again.logits.join(), kept: indices.length, ranked, loss, refused,
      disposed: await said(ranker.rank(images)),
      missing: await said(ltrp.readImages(['nowhere.jpg'], { size: 224 })),
    });
  })()\`, context);
  console.log(result);
`;

test('reading, ranking, choosing and refusing work in a second realm', async (t) => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--experimental-vm-modules', '--no-warnings', '--input-type=module', '-e', program],
    { env: { ...process.env, LTRP_ROOT: repository.replace(/\/$/, '') }, cwd: join(repository) },
  );
  t.deepEqual(JSON.parse(stdout), {
    foreign: true,
    shape: [3, 196],
    same: true,
    kept: 27,
    ranked: [187, 187, 187],
    loss: 0,
    refused: [true, 'ERR_LTRP_INVALID_ARGUMENT'],
    disposed: [true, 'ERR_LTRP_DISPOSED'],
    missing: [true, 'ERR_LTRP_IMAGE_NOT_FOUND'],
  });
});
