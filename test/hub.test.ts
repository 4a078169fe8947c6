/** Models of the Hugging Face hub: names, a cache in the layout of Python's, the network with its faults, and the command. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { type ExecutionContext } from 'ava';
import { fetchModel, type FetchedModel, type FetchOptions } from '../lib/hub/fetch.js';
import { hubSettings } from '../lib/hub/settings.js';
import { isHubSource, readHubSource } from '../lib/hub/source.js';
import { LtrpError, MaskedAutoencoder, PatchRanker } from '../lib/index.js';
import { built } from './support/command.js';
import { test } from './support/folder.js';
import {
  commit,
  etagOf,
  newer,
  sendFile,
  startHub,
  type Hub,
  type HubFile,
} from './support/hub.js';
import { smallMae } from './support/models.js';

const run = promisify(execFile);

async function modelFiles(): Promise<Record<string, HubFile>> {
  const read = (name: string): Promise<Buffer> => readFile(path.join(smallMae, name));
  return {
    'config.json': { content: await read('config.json') },
    'model.safetensors': { content: await read('model.safetensors'), large: true },
  };
}

const environment = (hub: Hub, folder: string): Record<string, string> => ({
  HOME: path.join(folder, 'home'),
  HF_HOME: path.join(folder, 'hf'),
  HF_ENDPOINT: hub.url,
});

const modelFolder = (folder: string): string =>
  path.join(folder, 'hf', 'hub', 'models--facebook--small');

function fetchSmall(
  t: ExecutionContext<{ folder: string }>,
  hub: Hub,
  options: FetchOptions & { revision?: string } = {},
): Promise<FetchedModel> {
  const { revision = 'main', env, ...more } = options;
  return fetchModel(
    { model: 'facebook/small', revision },
    { env: { ...environment(hub, t.context.folder), ...env }, ...more },
  );
}

/** Every file below a folder; links with their targets. */
async function tree(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file);
    if (entry.isSymbolicLink()) found.push(`${name} -> ${await readlink(file)}`);
    else if (entry.isFile()) found.push(name);
  }
  return found.sort();
}

test('names of the hub, and what is none', (t) => {
  t.deepEqual(readHubSource('hf:facebook/vit-mae-base'), {
    model: 'facebook/vit-mae-base',
    revision: 'main',
  });
  t.deepEqual(readHubSource('hf:gpt2@v1.0'), { model: 'gpt2', revision: 'v1.0' });
  t.deepEqual(readHubSource('hf:a/b@refs/pr/3'), { model: 'a/b', revision: 'refs/pr/3' });
  for (const bad of [
    'hf:',
    'hf:a/b/c',
    'hf:../x',
    'hf:a/b@../../x',
    'hf:a/b@',
    'hf:a--b/c',
    'hf:a/b@x y',
    'hf:a/..',
  ]) {
    const error = t.throws<LtrpError>(() => readHubSource(bad), { instanceOf: LtrpError }, bad);
    t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT');
  }
  for (const none of ['hf://a/b', 'facebook/vit-mae-base', './hf:a', 'HF:a/b'])
    t.false(isHubSource(none));
});

test('the variables are read as Python does', async (t) => {
  const { folder } = t.context;
  const home = { HOME: folder };
  t.like(hubSettings(home), {
    endpoint: 'https://huggingface.co',
    cache: path.join(folder, '.cache/huggingface/hub'),
    token: undefined,
    offline: false,
  });
  t.is(hubSettings({ ...home, XDG_CACHE_HOME: '/c' }).cache, '/c/huggingface/hub');
  t.is(hubSettings({ ...home, HF_HOME: '~/hf' }).cache, path.join(folder, 'hf/hub'));
  t.is(hubSettings({ ...home, HF_HOME: '/x', HF_HUB_CACHE: '/y' }).cache, '/y');
  t.is(
    hubSettings({ ...home, HF_ENDPOINT: 'https://mirror.example/hf/' }).endpoint,
    'https://mirror.example/hf',
  );
  t.throws(() => hubSettings({ ...home, HF_ENDPOINT: 'mirror' }), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
  });
  t.true(hubSettings({ ...home, HF_HUB_OFFLINE: '1' }).offline);
  t.false(hubSettings({ ...home, HF_HUB_OFFLINE: '0' }).offline);
  await mkdir(path.join(folder, '.cache/huggingface'), { recursive: true });
  await writeFile(path.join(folder, '.cache/huggingface/token'), 'of-the-file\n');
  t.is(hubSettings(home).token, 'of-the-file');
  t.is(hubSettings({ ...home, HF_TOKEN: ' given ' }).token, 'given');
  const implicit = { ...home, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' };
  t.is(hubSettings(implicit).token, undefined);
  t.is(hubSettings({ ...implicit, HF_TOKEN: 'given' }).token, undefined);
});

test('a model is fetched into the layout of Python, checked, and found again without transfers', async (t) => {
  const files = await modelFiles();
  const hub = await startHub(t, files);
  const progress: [string, number, number | null][] = [];
  const fetched = await fetchSmall(t, hub, {
    onProgress: (file, done, total) => progress.push([file, done, total]),
  });
  const folder = modelFolder(t.context.folder);
  t.deepEqual(fetched, {
    weights: path.join(folder, 'snapshots', commit, 'model.safetensors'),
    commit,
    fetched: true,
  });
  const [config, weights] = [files['config.json']!, files['model.safetensors']!];
  t.deepEqual(
    await tree(folder),
    [
      `.no_exist/${commit}/preprocessor_config.json`,
      `blobs/${etagOf(config)}`,
      `blobs/${etagOf(weights)}`,
      'refs/main',
      `snapshots/${commit}/config.json -> ../../blobs/${etagOf(config)}`,
      `snapshots/${commit}/model.safetensors -> ../../blobs/${etagOf(weights)}`,
    ].sort(),
  );
  t.is(await readFile(path.join(folder, 'refs/main'), 'utf8'), commit);
  t.true((await readFile(fetched.weights)).equals(weights.content));
  t.deepEqual(progress.at(-1), [
    'model.safetensors',
    weights.content.length,
    weights.content.length,
  ]);
  const before = hub.asked.length;
  t.like(await fetchSmall(t, hub), { fetched: false, weights: fetched.weights });
  t.deepEqual(hub.asked.slice(before), ['HEAD /facebook/small/resolve/main/config.json']);
  // A commit needs no network at all.
  t.like(await fetchSmall(t, hub, { revision: commit }), { fetched: false });
  t.is(hub.asked.length, before + 1);
});

test.serial('load takes the name, and gives the model of the files', async (t) => {
  const hub = await startHub(t, await modelFiles());
  const before = { ...process.env };
  Object.assign(process.env, environment(hub, t.context.folder), { HOME: before['HOME'] });
  t.teardown(() => {
    process.env = before;
  });
  const events: number[] = [];
  const mae = await MaskedAutoencoder.load('hf:facebook/small', {
    onProgress: ({ done, total }) => events.push(done / total),
  });
  t.is(events.at(-1), 1);
  const direct = await MaskedAutoencoder.load(smallMae);
  t.deepEqual(mae.config, direct.config);
  const images = {
    data: Float32Array.from({ length: 3 * 112 * 112 }, (_, i) => Math.sin(i)),
    shape: [1, 3, 112, 112],
  } as const;
  const options = { maskRatio: 0.75, seed: 1 };
  t.deepEqual(await mae.reconstruct(images, options), await direct.reconstruct(images, options));
  // What a listener throws ends the load and is its error.
  await rm(modelFolder(t.context.folder), { recursive: true });
  const reason = new Error('stop');
  const stopped = MaskedAutoencoder.load('hf:facebook/small', {
    onProgress: () => {
      throw reason;
    },
  });
  t.is(await t.throwsAsync(stopped), reason);
  const asked = hub.asked.length;
  await t.throwsAsync(MaskedAutoencoder.load('facebook/small'), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /'hf:facebook\/small'/,
  });
  await t.throwsAsync(PatchRanker.load('hf:facebook'), { code: 'ERR_LTRP_DOWNLOAD' });
  await t.throwsAsync(PatchRanker.load('hf:'), { code: 'ERR_LTRP_INVALID_ARGUMENT' });
  t.is(hub.asked.slice(asked).filter((text) => text.includes('/small/')).length, 0);
});

test('what Python left in the cache is used offline, and only what is complete', async (t) => {
  const files = await modelFiles();
  const hub = await startHub(t, files);
  const folder = modelFolder(t.context.folder);
  const offline = { HF_HUB_OFFLINE: '1' };
  const error = await t.throwsAsync<LtrpError>(fetchSmall(t, hub, { env: offline }));
  t.is(error.code, 'ERR_LTRP_FILE_NOT_FOUND');
  t.regex(error.message, /models--facebook--small has no model\.safetensors of revision main/);
  const snapshot = path.join(folder, 'snapshots', newer);
  await mkdir(path.join(folder, 'blobs'), { recursive: true });
  await mkdir(path.join(folder, 'refs'), { recursive: true });
  await mkdir(snapshot, { recursive: true });
  await mkdir(path.join(folder, '.no_exist', newer), { recursive: true });
  await writeFile(path.join(folder, '.no_exist', newer, 'adapter_config.json'), '');
  await writeFile(path.join(folder, 'refs', 'main'), newer);
  await symlink('../../blobs/x', path.join(snapshot, 'model.safetensors'));
  await t.throwsAsync(fetchSmall(t, hub, { env: offline }), undefined, 'a link without its blob');
  await writeFile(path.join(folder, 'blobs', 'x'), files['model.safetensors']!.content);
  t.is(
    (await fetchSmall(t, hub, { env: offline })).weights,
    path.join(snapshot, 'model.safetensors'),
  );
  t.deepEqual(hub.asked, []);
  // The hub has another commit: that is fetched, and the older one stays.
  t.is((await fetchSmall(t, hub)).commit, commit);
  t.is(await readFile(path.join(folder, 'refs', 'main'), 'utf8'), commit);
  t.true(existsSync(path.join(snapshot, 'model.safetensors')));
  t.deepEqual(await readdir(path.join(folder, '.no_exist', newer)), ['adapter_config.json']);
});

test('weights that Python fetched alone: what describes them is fetched too, once', async (t) => {
  const files = await modelFiles();
  const hub = await startHub(t, files);
  const folder = modelFolder(t.context.folder);
  const snapshot = path.join(folder, 'snapshots', commit);
  await mkdir(path.join(folder, 'refs'), { recursive: true });
  await mkdir(snapshot, { recursive: true });
  await writeFile(path.join(folder, 'refs', 'main'), commit);
  await writeFile(path.join(snapshot, 'model.safetensors'), files['model.safetensors']!.content);
  for (const revision of [commit, 'main']) {
    await rm(path.join(snapshot, 'config.json'), { force: true });
    t.true((await fetchSmall(t, hub, { revision })).fetched);
    t.true(
      (await readFile(path.join(snapshot, 'config.json'))).equals(files['config.json']!.content),
    );
    await rm(path.join(folder, 'blobs'), { recursive: true });
  }
  t.is(hub.asked.filter((text) => text.endsWith('/model.safetensors')).length, 0);
});

test('what the hub does not have is asked for once, and noted as Python does', async (t) => {
  const { 'model.safetensors': weights } = await modelFiles();
  const hub = await startHub(t, { 'model.safetensors': weights! });
  await fetchSmall(t, hub);
  const missing = path.join(modelFolder(t.context.folder), '.no_exist', commit);
  t.deepEqual(await readdir(missing), ['config.json', 'preprocessor_config.json']);
  for (const name of await readdir(missing))
    t.is((await readFile(path.join(missing, name))).length, 0);
  const before = hub.asked.length;
  t.like(await fetchSmall(t, hub, { revision: commit }), { fetched: false });
  t.is(hub.asked.length, before);
  t.like(await fetchSmall(t, hub), { fetched: false });
  t.is(hub.asked.length, before + 1);
});

test('the hub does not answer: the cache does', async (t) => {
  const hub = await startHub(t, await modelFiles());
  await fetchSmall(t, hub);
  const said: string[] = [];
  const gone = { HF_ENDPOINT: 'http://127.0.0.1:9' };
  const log = (line: string): void => void said.push(line);
  t.like(await fetchSmall(t, hub, { env: gone, log }), { commit, fetched: false });
  t.regex(said.join(), /cannot be reached .* The copy in the cache is used: aaaa/);
  await rm(modelFolder(t.context.folder), { recursive: true });
  await t.throwsAsync(fetchSmall(t, hub, { env: gone }), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: /cannot be reached/,
  });
});

test('the token goes to the hub and not to its storage; a renamed model is followed', async (t) => {
  const hub = await startHub(t, await modelFiles());
  await fetchModel(
    { model: 'old/name', revision: 'main' },
    { env: { ...environment(hub, t.context.folder), HF_TOKEN: 'mirror-token' } },
  );
  const tokens = hub.asked.map((text, index) => [
    text.includes('/blobs/'),
    hub.headers[index]!.authorization,
  ]);
  t.true(tokens.some(([storage]) => storage));
  for (const [storage, token] of tokens) t.is(token, storage ? undefined : 'Bearer mirror-token');
  t.true(hub.asked.some((text) => text.includes('/old/name/')));
  t.true(hub.asked.some((text) => text === 'HEAD /facebook/small/resolve/main/config.json'));
});

test('a redirect to another host is not followed with the token', async (t) => {
  const hub = await startHub(t, await modelFiles());
  const other = new URL(hub.storage).host;
  for (const location of [`//${other}/x`, `/\\${other}/x`]) {
    hub.intercept = (_request, response, where) => {
      if (where === 'hub') response.writeHead(307, { location }).end();
      else response.end();
      return true;
    };
    await t.throwsAsync(fetchSmall(t, hub, { env: { HF_TOKEN: 'secret' } }), {
      code: 'ERR_LTRP_DOWNLOAD',
      message: /does not report its commit/,
    });
  }
  t.deepEqual([...new Set(hub.asked)], ['HEAD /facebook/small/resolve/main/config.json']);
});

test('an ETag that is no hash: the size is what can be checked', async (t) => {
  const { 'model.safetensors': file } = await modelFiles();
  const { content } = file!;
  const etag = '"v7-0123456789"';
  const hub = await startHub(t, {});
  let wrong = 0;
  hub.intercept = (request, response) => {
    if (!request.url!.endsWith('/model.safetensors')) return false;
    response.setHeader('x-repo-commit', commit);
    if (request.method === 'HEAD') {
      response.writeHead(200, { etag, 'content-length': content.length + wrong }).end();
    } else sendFile(request, response, content, etag);
    return true;
  };
  wrong = 1;
  await t.throwsAsync(fetchSmall(t, hub), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: new RegExp(`has ${content.length} bytes, expected ${content.length + 1}`),
  });
  wrong = 0;
  // Nothing tells that this part is of the same file: it is not continued.
  const blobs = path.join(modelFolder(t.context.folder), 'blobs');
  await writeFile(path.join(blobs, 'v7-0123456789.ltrp.part'), Buffer.alloc(1000, 7));
  const { weights } = await fetchSmall(t, hub);
  t.true((await readFile(weights)).equals(content));
  t.is(path.basename(await readlink(weights)), 'v7-0123456789');
});

test('refusals name what to do', async (t) => {
  const hub = await startHub(t, await modelFiles());
  const ask = (model: string, env = {}, revision = 'main'): Promise<FetchedModel> =>
    fetchModel({ model, revision }, { env: { ...environment(hub, t.context.folder), ...env } });
  await t.throwsAsync(ask('facebook/none'), {
    code: 'ERR_LTRP_DOWNLOAD',
    message:
      /hf:facebook\/none was refused \(401\): it does not exist, or needs a token: set HF_TOKEN/,
  });
  await t.throwsAsync(ask('facebook/none', { HF_TOKEN: 'x' }), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /has no model facebook\/none/,
  });
  await t.throwsAsync(ask('facebook/small', {}, 'v9'), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /has no revision v9 of facebook\/small/,
  });
  hub.intercept = (_request, response) => {
    response.writeHead(403, { 'x-error-code': 'GatedRepo' }).end();
    return true;
  };
  await t.throwsAsync(ask('facebook/small'), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: /its owner's permission/,
  });
  hub.intercept = (_request, response) => {
    response.writeHead(200, { etag: '"0123456789"' }).end();
    return true;
  };
  await t.throwsAsync(ask('facebook/small'), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: /its commit/,
  });
  hub.intercept = () => false;
  hub.files = { 'README.md': { content: Buffer.from('nothing') } };
  await t.throwsAsync(ask('facebook/small'), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /has none of model\.safetensors, /,
  });
});

test('429 and 503 are asked again, after the time that they name', async (t) => {
  const hub = await startHub(t, await modelFiles());
  let refusals = 0;
  hub.intercept = (request, response) => {
    const first = !hub.asked.slice(0, -1).some((text) => text.endsWith(request.url ?? ''));
    if (!first || refusals === 3) return false;
    refusals++;
    response.writeHead(refusals === 1 ? 429 : 503, { 'retry-after': '1' }).end();
    return true;
  };
  t.true((await fetchSmall(t, hub)).fetched);
  t.is(refusals, 3);
});

/** Cuts the first transfer of the weights in the middle. */
function cutOnce(hub: Hub, how: 'close' | 'stall'): void {
  let cut = false;
  hub.intercept = (request, response, where) => {
    if (where !== 'storage' || cut) return false;
    cut = true;
    const { content } = hub.files['model.safetensors']!;
    response.writeHead(200, { 'content-length': content.length });
    response.write(content.subarray(0, content.length / 2), () => {
      if (how === 'close') request.socket.destroy();
    });
    return true;
  };
}

for (const how of ['close', 'stall'] as const) {
  test(`a body that ${how === 'close' ? 'is cut' : 'stalls'} is continued where it was`, async (t) => {
    const hub = await startHub(t, await modelFiles());
    cutOnce(hub, how);
    const { weights } = await fetchSmall(t, hub, how === 'stall' ? { stallTimeout: 3000 } : {});
    const { content } = hub.files['model.safetensors']!;
    t.true((await readFile(weights)).equals(content));
    const transfers = hub.asked.filter((text) => text.startsWith('GET /blobs/'));
    t.is(transfers.length, 2);
    t.regex(transfers[1]!, new RegExp(` bytes=${Math.floor(content.length / 2)}-$`));
  });
}

test('a process that ends in between: the next one continues, and a wrong part is fetched anew', async (t) => {
  const files = await modelFiles();
  const hub = await startHub(t, files);
  const { content } = files['model.safetensors']!;
  const blobs = path.join(modelFolder(t.context.folder), 'blobs');
  const part = path.join(blobs, `${etagOf(files['model.safetensors']!)}.ltrp.part`);
  await mkdir(blobs, { recursive: true });
  await writeFile(part, content.subarray(0, 1000));
  await fetchSmall(t, hub);
  t.true(hub.asked.some((text) => text.endsWith(' bytes=1000-')));
  await rm(modelFolder(t.context.folder), { recursive: true });
  await mkdir(blobs, { recursive: true });
  await writeFile(part, Buffer.alloc(1000, 7));
  const { weights } = await fetchSmall(t, hub);
  t.true((await readFile(weights)).equals(content));
  // All of it had come, and more than that: the server says that there is no such range.
  await rm(modelFolder(t.context.folder), { recursive: true });
  await mkdir(blobs, { recursive: true });
  await writeFile(part, Buffer.concat([content, Buffer.alloc(10)]));
  t.true((await readFile((await fetchSmall(t, hub)).weights)).equals(content));
});

test('wrong content of the right length is removed and refused, large and small', async (t) => {
  for (const name of ['model.safetensors', 'config.json']) {
    const hub = await startHub(t, await modelFiles());
    const { content, large = false } = hub.files[name]!;
    hub.intercept = (request, response, where) => {
      const other = large ? where !== 'storage' : !request.url!.endsWith(`/${name}`);
      if (request.method === 'HEAD' || other) return false;
      response.end(Buffer.alloc(content.length, 32));
      return true;
    };
    const error = await t.throwsAsync<LtrpError>(fetchSmall(t, hub));
    t.is(error.code, 'ERR_LTRP_DOWNLOAD');
    t.regex(
      error.message,
      large ? /has the SHA-256 \w{64}, expected / : /has the Git hash \w{40}, expected /,
    );
    const left = await tree(path.join(modelFolder(t.context.folder), 'blobs'));
    t.false(left.some((file) => file.startsWith(etagOf(hub.files[name]!))));
    await rm(modelFolder(t.context.folder), { recursive: true });
  }
});

test('shards of an index, PyTorch files where there are no others', async (t) => {
  const index = (names: string[]): Buffer =>
    Buffer.from(
      JSON.stringify({ weight_map: Object.fromEntries(names.map((name, i) => [`t${i}`, name])) }),
    );
  const shard = (text: string): HubFile => ({ content: Buffer.from(text), large: true });
  const hub = await startHub(t, {
    'model.safetensors.index.json': {
      content: index(['a.safetensors', 'b.safetensors', 'a.safetensors']),
    },
    'a.safetensors': shard('first'),
    'b.safetensors': shard('second'),
    'pytorch_model.bin': shard('older'),
  });
  const { weights } = await fetchSmall(t, hub);
  const snapshot = path.dirname(weights);
  t.deepEqual((await readdir(snapshot)).sort(), [
    'a.safetensors',
    'b.safetensors',
    'model.safetensors.index.json',
  ]);
  await rm(path.join(snapshot, 'b.safetensors'));
  await fetchSmall(t, hub);
  t.true(existsSync(path.join(snapshot, 'b.safetensors')));
  hub.files = { 'pytorch_model.bin': shard('older') };
  hub.revisions['main'] = newer;
  t.is(path.basename((await fetchSmall(t, hub)).weights), 'pytorch_model.bin');
  hub.revisions['main'] = commit;
  for (const names of [['../../x'], ['a/b'], []]) {
    await rm(modelFolder(t.context.folder), { recursive: true });
    hub.files = { 'model.safetensors.index.json': { content: index(names) } };
    await t.throwsAsync(fetchSmall(t, hub), { code: 'ERR_LTRP_CHECKPOINT_FORMAT' });
  }
});

test('two processes at once: one fetches, the other waits and finds it', async (t) => {
  const hub = await startHub(t, await modelFiles());
  const env = { ...process.env, ...environment(hub, t.context.folder), HOME: t.context.folder };
  const outcomes = await Promise.all(
    [1, 2].map(() =>
      run(process.execPath, [built, 'models', 'fetch', 'hf:facebook/small'], { env }),
    ),
  );
  for (const { stdout } of outcomes) t.regex(stdout, /snapshots\/a{40}\/model\.safetensors\n$/);
  t.is(hub.asked.filter((text) => text.startsWith('GET /blobs/')).length, 1);
});

test('the command: fetch, list, remove', async (t) => {
  const hub = await startHub(t, await modelFiles());
  hub.revisions['v1'] = newer;
  const env: NodeJS.ProcessEnv = {
    ...{ ...process.env, ...environment(hub, t.context.folder) },
    HOME: t.context.folder,
  };
  const ltrp = async (
    ...args: string[]
  ): Promise<{ stdout: string; stderr: string; code: unknown }> => {
    try {
      return { ...(await run(process.execPath, [built, 'models', ...args], { env })), code: 0 };
    } catch (error) {
      return error as { stdout: string; stderr: string; code: unknown };
    }
  };
  t.regex((await ltrp('list')).stdout, /^There are no models in /);
  t.is((await ltrp('fetch', 'hf:facebook/small', 'hf:facebook/small@v1')).code, 0);
  const { stdout } = await ltrp('list');
  t.regex(stdout, /^hf:facebook\/small@a{40} +main +\d+\.\d MB$/m);
  // The files are those of the first: they have one size.
  t.regex(stdout, /^hf:facebook\/small@b{40} +v1$/m);
  const listed = /^\S+@b+/m.exec(stdout)![0];
  const { models } = JSON.parse((await ltrp('list', '--json')).stdout) as {
    models: { bytes: number }[];
  };
  t.is(models.length, 1);
  t.regex((await ltrp('remove', listed)).stdout, /^Removed .*snapshots\/b{40}\n$/);
  const folder = modelFolder(t.context.folder);
  // The files are those of the other snapshot too.
  t.is((await readdir(path.join(folder, 'blobs'))).length, 2);
  t.deepEqual(await readdir(path.join(folder, 'snapshots')), [commit]);
  t.deepEqual(await readdir(path.join(folder, 'refs')), ['main']);
  t.regex(
    (await ltrp('remove', 'hf:facebook/small')).stdout,
    /^Removed .*models--facebook--small\n$/,
  );
  t.false(existsSync(folder));
  t.regex((await ltrp('remove', 'hf:facebook/small')).stdout, /nothing to remove/);
  const wrong = await ltrp('fetch', 'facebook/small');
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /must begin with hf:/);
  // Of no concern to what asks no hub.
  env['HF_ENDPOINT'] = 'mirror';
  for (const args of [['list'], ['--help']]) t.is((await ltrp(...args)).code, 0, args.join());
  t.is((await run(process.execPath, [built, '--version'], { env })).stderr, '');
  t.is((await ltrp('fetch', 'hf:facebook/small')).code, 2);
});
