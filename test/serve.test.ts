/** `ltrp serve`: every route against the library's own calls, everything that is refused, and how it ends. */
import dns from 'node:dns';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import sharp from 'sharp';
import {
  MaskedAutoencoder,
  patchBoxes,
  PatchRanker,
  rankFiles,
  readImages,
  selectPatches,
  VisionTransformer,
  type RankedFile,
} from '../lib/index.js';
import { jsonBytes, type Limits } from '../lib/serve/limits.js';
import { Service, type ServiceOptions } from '../lib/serve/service.js';
import type { Models } from '../lib/serve/work.js';
import { readWholePicture } from '../lib/whole-picture.js';
import { fetcherOf } from '../lib/serve/fetch-picture.js';
import { ltrp, startLtrp } from './support/command.js';
import { listen } from './support/listen.js';
import { repository } from './support/paths.js';
import { zeroPng } from './support/picture-files.js';
import { picture } from './support/pictures.js';
import { until } from './support/runs.js';
import { readWeights, writeTensors } from './support/weights.js';

const photos = ['cat', 'tiger', 'coffee', 'astronaut'].map((name) =>
  join(repository, 'demo', 'photos', `${name}.jpg`),
);

const test = anyTest as TestFn<{
  models: Models & { teacher: MaskedAutoencoder; vit: VisionTransformer };
}>;

test.before(async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ltrp-serve-'));
  const path = join(folder, 'classifier.safetensors');
  const tiny = join(repository, 'models', 'tiny-ranker.safetensors');
  await writeTensors(path, (await readWeights(tiny, 'ranker')).tensors);
  const vit = await VisionTransformer.load(path);
  await rm(folder, { recursive: true });
  const ranker = await PatchRanker.load('tiny');
  const teacher = await MaskedAutoencoder.load('tiny');
  t.context = { models: { ranker, teacher, classifier: vit, vit } };
});

const limits: Limits = {
  bytes: 2 ** 20,
  pixels: 4e6,
  seconds: 120,
  pictures: 64,
  maxWait: 10,
  batchSize: 8,
  stopSeconds: 60,
};

interface Running {
  service: Service;
  url: string;
}

async function start(
  t: ExecutionContext,
  models: Models,
  changes: Partial<Limits> = {},
  more: Partial<ServiceOptions> = {},
): Promise<Running> {
  const service = await Service.create({
    ...{ models, limits: { ...limits, ...changes }, logLevel: 'silent' },
    ...more,
  });
  const url = await service.listen('127.0.0.1', 0);
  let stopped = false;
  const stop = service.stop.bind(service);
  service.stop = () => {
    stopped = true;
    return stop();
  };
  t.teardown(async () => {
    if (!stopped) await stop();
  });
  return { service, url };
}

interface Answer {
  status: number;
  headers: Headers;
  json: Record<string, unknown> & { error?: { code: string; message: string } };
}

async function post(
  url: string,
  body: Uint8Array | string | FormData | undefined,
  type?: string,
  signal?: AbortSignal,
): Promise<Answer> {
  const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type };
  const response = await fetch(url, {
    method: 'POST',
    headers,
    ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
    ...(signal === undefined ? {} : { signal }),
  });
  const { status } = response;
  return { status, headers: response.headers, json: (await response.json()) as Answer['json'] };
}

function form(file: Uint8Array | undefined, fields: Record<string, string> = {}): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  if (file !== undefined) data.append('picture', new Blob([file]), 'x.jpg');
  return data;
}

const numbers = (value: unknown): number[] => Array.from(Float32Array.from(value as number[]));

test('rank and select: raw bytes, forms and JSON give what rankFiles gives, however many arrive at once', async (t) => {
  const { models } = t.context;
  const { url } = await start(t, models);
  const files = await Promise.all(photos.map((file) => readFile(file)));
  const expected: RankedFile[] = [];
  for await (const result of rankFiles(photos, {
    ranker: models.ranker as PatchRanker,
    keepRatio: 0.3,
    scoreShare: 0.5,
    seed: 7,
  })) {
    if (result.ok) expected.push(result);
  }
  t.is(expected.length, photos.length);
  const query = '?keepRatio=30%25&scoreShare=0.5&seed=7';
  const options = { keepRatio: 0.3, scoreShare: 0.5, seed: 7 };
  const ways = (file: Buffer): (() => Promise<Answer>)[] => [
    () => post(`${url}/rank${query}`, file, 'image/jpeg'),
    () => post(`${url}/rank${query}`, file, 'application/x-www-form-urlencoded'),
    () => post(`${url}/rank?seed=7`, form(file, { keepRatio: '0.3', scoreShare: '.5' })),
    () =>
      post(
        `${url}/rank`,
        JSON.stringify({ picture: file.toString('base64'), ...options }),
        'application/json',
      ),
    () => post(`${url}/select${query}`, file, 'application/octet-stream'),
  ];
  const answers = await Promise.all(
    files.flatMap((file, index) => ways(file).map(async (way) => ({ index, ...(await way()) }))),
  );
  t.is(answers.length, 5 * photos.length);
  for (const { index, status, json } of answers) {
    const { width, height, grid, logits, kept } = expected[index]!;
    t.is(status, 200, JSON.stringify(json));
    t.like(json, { width, height, grid });
    t.deepEqual(json['kept'], Array.from(kept));
    if (json['boxes'] === undefined) t.deepEqual(numbers(json['logits']), Array.from(logits));
    else {
      const boxes = patchBoxes(grid, width, height);
      t.deepEqual(
        json['boxes'],
        Array.from(kept, (id) => boxes[id]),
      );
    }
  }
});

test('grids as asked for; without a wish rank keeps none and select half', async (t) => {
  const { url } = await start(t, t.context.models);
  const file = await readFile(photos[0]!);
  const asked = await post(`${url}/rank?grid=5x9`, file);
  t.deepEqual(asked.json['grid'], { rows: 5, columns: 9 });
  t.is((asked.json['logits'] as unknown[]).length, 45);
  t.deepEqual(asked.json['kept'], []);
  const { json } = await post(`${url}/select?patches=100`, file);
  const { rows, columns } = json['grid'] as { rows: number; columns: number };
  t.is((json['kept'] as unknown[]).length, Math.round((rows * columns) / 2));
});

test('crop: the pixels of the picture around its kept patches', async (t) => {
  const { url } = await start(t, t.context.models);
  // Stored on its side.
  const file = await picture(320, 200).withMetadata({ orientation: 6 }).jpeg().toBuffer();
  const { json } = await post(`${url}/select?keep=3`, file);
  const boxes = json['boxes'] as [number, number, number, number][];
  const response = await fetch(`${url}/crop?keep=3&padding=2&format=png`, {
    method: 'POST',
    body: file,
  });
  t.is(response.status, 200);
  t.is(response.headers.get('content-type'), 'image/png');
  const box = response.headers.get('ltrp-box')!.split(',').map(Number);
  const left = Math.max(0, Math.min(...boxes.map(([x]) => x)) - 2);
  const top = Math.max(0, Math.min(...boxes.map(([, y]) => y)) - 2);
  const right = Math.min(200, Math.max(...boxes.map(([x, , w]) => x + w)) + 2);
  const bottom = Math.min(320, Math.max(...boxes.map(([, y, , h]) => y + h)) + 2);
  const [width, height] = [right - left, bottom - top];
  t.deepEqual(box, [left, top, width, height]);
  const cut = await sharp(Buffer.from(await response.arrayBuffer()))
    .raw()
    .toBuffer();
  const whole = await sharp(file).autoOrient().raw().toBuffer();
  const expected = await sharp(whole, { raw: { width: 200, height: 320, channels: 3 } })
    .extract({ left, top, width, height })
    .raw()
    .toBuffer();
  t.true(cut.equals(expected));
  const webp = await fetch(`${url}/crop?format=webp&quality=10`, { method: 'POST', body: file });
  t.is((await sharp(Buffer.from(await webp.arrayBuffer())).metadata()).format, 'webp');
});

test('crop: a format that cannot store so long a side', async (t) => {
  const { url } = await start(t, { ranker: t.context.models.ranker });
  const file = await sharp({
    create: { width: 16_400, height: 180, channels: 3, background: 'teal' },
  })
    .png()
    .toBuffer();
  const { status, json } = await post(`${url}/crop?keepRatio=1&format=webp`, file);
  t.is(status, 400, JSON.stringify(json));
  t.is(json.error?.code, 'ERR_LTRP_INVALID_ARGUMENT');
  t.regex(json.error?.message ?? '', /16400 x 180 pixels, and format 'webp' stores sides of 16383/);
  const stored = await fetch(`${url}/crop?keepRatio=1`, { method: 'POST', body: file });
  t.is(stored.headers.get('ltrp-box'), '0,0,16400,180');
});

test.serial(
  'crop: a picture whose ranking needs little memory, and whose cutting too much',
  async (t) => {
    const { url } = await start(t, { ranker: t.context.models.ranker });
    const file = await picture(2400, 1600).jpeg().toBuffer();
    const before = process.env['LTRP_DECODE_MEMORY'];
    process.env['LTRP_DECODE_MEMORY'] = '12MB';
    t.teardown(() => {
      if (before === undefined) delete process.env['LTRP_DECODE_MEMORY'];
      else process.env['LTRP_DECODE_MEMORY'] = before;
    });
    t.is((await post(`${url}/rank`, file)).status, 200);
    const { status, json } = await post(`${url}/crop`, file);
    t.is(status, 413);
    t.is(json.error?.code, 'ERR_LTRP_OUT_OF_MEMORY');
  },
);

test('score: the map of the teacher', async (t) => {
  const { teacher } = t.context.models;
  const { url } = await start(t, t.context.models);
  const options = { rounds: 1, seed: 3, maskRatio: 0.8 };
  const { images, grid } = await readWholePicture(
    photos[1]!,
    teacher.config,
    { patches: 64 },
    new AbortController().signal,
  );
  const { mean, standardError } = await teacher.scoreMap(images, options);
  const file = await readFile(photos[1]!);
  const { status, json } = await post(
    `${url}/score?rounds=1&seed=3&maskRatio=0.8&patches=64`,
    file,
  );
  t.is(status, 200, JSON.stringify(json));
  t.deepEqual(json['grid'], grid);
  t.deepEqual(numbers(json['scores']), Array.from(mean));
  const errors = json['standardErrors'] as (number | null)[];
  // NaN where a patch was seen once, which JSON does not have.
  t.deepEqual(errors.map((value) => value ?? NaN).map(Math.fround), Array.from(standardError));
});

test('classify: the classes of all patches, and of those that the ranker keeps', async (t) => {
  const { vit, ranker } = t.context.models;
  const { url } = await start(t, t.context.models);
  const { imageSize, mean, std } = vit.config;
  const images = await readImages([photos[2]!], { size: imageSize, mean, std });
  const file = await readFile(photos[2]!);
  const all = await post(`${url}/classify`, file);
  t.is(all.status, 200, JSON.stringify(all.json));
  const whole = await vit.classify(images, { topK: 1 });
  t.deepEqual(
    (all.json['top'] as { class: number; logit: number }[]).map(({ class: id, logit }) => [
      id,
      Math.fround(logit),
    ]),
    [[whole.top![0], whole.logits[0]]],
  );
  const normalised = await readImages([photos[2]!], {
    size: imageSize,
    mean: ranker.config.mean,
    std: ranker.config.std,
  });
  const { logits } = await ranker.rank(normalised);
  const { indices } = await selectPatches(normalised, logits, { keepRatio: 0.25 });
  const every = await post(`${url}/classify?topK=1000`, file);
  t.is((every.json['top'] as unknown[]).length, vit.config.classes);
  const some = await post(`${url}/classify?keepRatio=0.25`, file);
  t.deepEqual(some.json['kept'], Array.from(indices));
  const part = await vit.classify(images, { keep: indices, topK: 1 });
  t.is(Math.fround((some.json['top'] as { logit: number }[])[0]!.logit), part.logits[0]!);
});

test('everything bad is refused with a code and a sentence, and the next request is answered', async (t) => {
  const { service, url } = await start(t, { ranker: t.context.models.ranker });
  const good = await readFile(photos[0]!);
  const small = await picture(8, 8).png().toBuffer();
  const json = (value: unknown): [string, string] => [JSON.stringify(value), 'application/json'];
  const large = Buffer.alloc(limits.bytes + 1, 1);
  const argument = 'ERR_LTRP_INVALID_ARGUMENT';
  const cases: [
    what: string,
    path: string,
    body: [Uint8Array | string | FormData | undefined, string?],
    status: number,
    code: string,
    message: RegExp,
  ][] = [
    ['no body', '/rank', [undefined], 400, 'ERR_SERVE_REQUEST', /no picture/],
    [
      'a form without a file',
      '/rank',
      [form(undefined, { seed: '1' })],
      400,
      'ERR_SERVE_REQUEST',
      /no picture/,
    ],
    ['text', '/rank', ['hello'], 415, 'ERR_LTRP_IMAGE_DECODE', /it is text/],
    ['a page', '/rank', ['<html></html>', 'image/png'], 415, 'ERR_LTRP_IMAGE_DECODE', /web page/],
    [
      'a drawing',
      '/rank',
      ['<svg xmlns="http://www.w3.org/2000/svg"/>'],
      415,
      'ERR_LTRP_IMAGE_DECODE',
      /SVG/,
    ],
    ['cut off', '/rank', [good.subarray(0, 2000)], 415, 'ERR_LTRP_IMAGE_DECODE', /cut off/],
    ['too small', '/rank', [small], 400, 'ERR_LTRP_IMAGE_SIZE', /8 x 8 pixels/],
    ['a bomb', '/rank', [zeroPng(30_000)], 413, 'ERR_SERVE_TOO_LARGE', /30000 x 30000 pixels/],
    ['too many bytes', '/rank', [large], 413, 'ERR_SERVE_TOO_LARGE', /bytes/],
    ['too many bytes in a form', '/rank', [form(large)], 413, 'ERR_SERVE_TOO_LARGE', /./],
    [
      'too many bytes in JSON',
      '/rank',
      json({ picture: large.toString('base64') }),
      413,
      'ERR_SERVE_TOO_LARGE',
      /bytes/,
    ],
    [
      'no option',
      '/rank?keepRation=1',
      [good],
      400,
      argument,
      /no option "keepRation"; what there is: keep/,
    ],
    [
      'out of range',
      '/rank?keepRatio=2',
      [good],
      400,
      argument,
      /^keepRatio must be in \(0, 1\]; got 2\.$/,
    ],
    ['no number', '/rank?seed=x', [good], 400, argument, /^seed must be an integer/],
    ['twice', '/rank?seed=1&seed=2', [good], 400, argument, /more than once/],
    ['in both', '/rank?seed=1', [form(good, { seed: '2' })], 400, argument, /more than once/],
    [
      'contradicting',
      '/rank?keep=1&keepRatio=1',
      [good],
      400,
      argument,
      /Give one of keep and keepRatio/,
    ],
    ['no grid', '/rank?grid=3', [good], 400, argument, /ROWSxCOLUMNS/],
    ['a huge grid', '/rank?grid=65x64', [good], 400, argument, /grid\.rows \* grid\.columns/],
    ['many patches', '/rank?patches=4097', [good], 400, argument, /patches .* \[2, 4096\]/],
    ['no format', '/crop?format=bmp', [good], 400, argument, /^format must be one of/],
    ['broken JSON', '/rank', ['{', 'application/json'], 400, 'ERR_SERVE_REQUEST', /not JSON/],
    ['a list', '/rank', json([1]), 400, argument, /JSON object/],
    [
      'no base64',
      '/rank',
      json({ picture: 'data:image/png;base64,AAAA' }),
      400,
      argument,
      /base64/,
    ],
    ['a number', '/rank', json({ picture: 5 }), 400, argument, /base64/],
    [
      'an address',
      '/rank',
      json({ url: 'http://127.0.0.1/x' }),
      400,
      'ERR_SERVE_URL',
      /does not fetch URLs/,
    ],
    ['two files', '/rank', [twoFiles(good)], 413, 'ERR_SERVE_TOO_LARGE', /./],
    [
      'a field that is not JSON',
      '/rank',
      [brokenField, 'multipart/form-data; boundary=xyz'],
      400,
      'ERR_SERVE_REQUEST',
      /JSON/,
    ],
    ['no boundary', '/rank', ['x', 'multipart/form-data'], 400, 'ERR_SERVE_REQUEST', /./],
    ['no route', '/nothing', [good], 404, 'ERR_SERVE_NOT_FOUND', /There is no POST \/nothing/],
    ['no teacher here', '/score', [good], 404, 'ERR_SERVE_NOT_FOUND', /\/score/],
  ];
  for (const [what, path, [body, type], status, code, message] of cases) {
    const answer = await post(`${url}${path}`, body, type);
    t.is(answer.status, status, `${what}: ${JSON.stringify(answer.json)}`);
    t.is(answer.json.error?.code, code, what);
    t.regex(answer.json.error?.message ?? '', message, what);
    t.is((await post(`${url}/rank`, good)).status, 200, `after ${what}`);
  }
  t.is(service.pictures, 0);
});

const brokenField =
  '--xyz\r\ncontent-disposition: form-data; name="seed"\r\ncontent-type: application/json\r\n\r\n{\r\n--xyz--\r\n';

function twoFiles(file: Uint8Array): FormData {
  const data = form(file);
  data.append('second', new Blob([file]), 'y.jpg');
  return data;
}

/** Sends a request on an agent's connection. */
function send(
  agent: Agent,
  url: string,
  body: Uint8Array,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { method: 'POST', agent }, (response: IncomingMessage) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

test('uploads that are too large, one after the other on one connection, and then a good one', async (t) => {
  const { url, service } = await start(t, { ranker: t.context.models.ranker });
  const large = Buffer.alloc(limits.bytes + 10, 1);
  const boundary = 'xyz';
  const form = Buffer.concat([
    Buffer.from(
      `--${boundary}\r\ncontent-disposition: form-data; name="picture"; filename="a"\r\n\r\n`,
    ),
    large,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
  const type = `content-type: multipart/form-data; boundary=${boundary}\r\n`;
  const { socket, text } = await open(t, url);
  const answered = (): string[] =>
    [...text().matchAll(/HTTP\/1\.1 (\d+)/gm)].map(([, code]) => code!);
  const requests = [
    chunked('', large),
    upload('/rank', large),
    chunked(type, form),
    upload('/rank', form, type),
    chunked('', large),
  ];
  for (const [index, request] of requests.entries()) {
    socket.write(request);
    await until(() => answered().length === index + 1 || socket.destroyed);
    t.is(answered()[index], '413', `${index}: ${text()}`);
  }
  socket.write(upload('/rank', await readFile(photos[0]!)));
  await until(() => answered().length === requests.length + 1 || socket.destroyed);
  t.is(answered().at(-1), '200');
  await until(() => service.pictures === 0);
});

/** A request whose length is not known before its end. */
function chunked(headers: string, body: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(`POST /rank HTTP/1.1\r\nhost: x\r\n${headers}transfer-encoding: chunked\r\n\r\n`),
    Buffer.from(`${body.length.toString(16)}\r\n`),
    body,
    Buffer.from('\r\n0\r\n\r\n'),
  ]);
}

/** A ranker that answers when the test says so. */
function gated(ranker: Models['ranker']): {
  ranker: Models['ranker'];
  calls: { signal: AbortSignal; images: number }[];
  open: () => void;
} {
  let open: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const calls: { signal: AbortSignal; images: number }[] = [];
  return {
    calls,
    open,
    ranker: {
      config: ranker.config,
      rank: async (images, options) => {
        const signal = options!.signal!;
        calls.push({ signal, images: images.shape[0] });
        await Promise.race([
          gate,
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reject(signal.reason as Error);
            });
          }),
        ]);
        return ranker.rank(images, options);
      },
    },
  };
}

test('one picture more than there are places for: 429 at once, and room again afterwards', async (t) => {
  const gate = gated(t.context.models.ranker);
  const { url, service } = await start(t, { ranker: gate.ranker }, { pictures: 3 });
  const file = await readFile(photos[0]!);
  const accepted = Array.from({ length: 3 }, () => post(`${url}/rank`, file));
  await until(() => service.pictures === 3);
  for (let i = 0; i < 3; i++) {
    const { status, headers, json } = await post(`${url}/rank`, file);
    t.is(status, 429);
    t.is(headers.get('retry-after'), '1');
    t.is(json.error?.code, 'ERR_SERVE_BUSY');
  }
  // What takes no place is answered.
  t.is((await fetch(`${url}/health`)).status, 200);
  gate.open();
  for (const { status } of await Promise.all(accepted)) t.is(status, 200);
  await until(() => service.pictures === 0);
  t.is((await post(`${url}/rank`, file)).status, 200);
});

test('bytes of bodies that do not say their length count in full', async (t) => {
  const gate = gated(t.context.models.ranker);
  const { url, service } = await start(t, { ranker: gate.ranker });
  const open: { socket: Socket; text: string }[] = [];
  const { port } = new URL(url);
  t.teardown(() => {
    for (const { socket } of open) socket.destroy();
  });
  const json =
    'POST /rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n';
  for (let i = 0; i < 17; i++) {
    const entry = { socket: connect(Number(port), '127.0.0.1'), text: '' };
    entry.socket.on('data', (chunk: Buffer) => (entry.text += chunk.toString()));
    entry.socket.write(json);
    open.push(entry);
    await until(() => service.pictures === Math.min(16, i + 1) && (i < 16 || entry.text !== ''));
  }
  t.regex(open[16]!.text, /^HTTP\/1\.1 429 /);
  for (const { text } of open.slice(0, 16)) t.is(text, '');
});

test('pictures by address count in full before they are fetched', async (t) => {
  let fetching = 0;
  const fetchPicture = (_url: string, signal: AbortSignal): Promise<Buffer> => {
    fetching++;
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => {
        reject(signal.reason as Error);
      });
    });
  };
  const { ranker } = t.context.models;
  const { url, service } = await start(t, { ranker }, {}, { fetchPicture });
  const body = JSON.stringify({ url: 'https://cdn.example.com/photo.jpg' });
  const client = new AbortController();
  const refused: number[] = [];
  for (let i = 0; i < 40; i++) {
    post(`${url}/rank`, body, 'application/json', client.signal).then(
      ({ status }) => refused.push(status),
      () => undefined,
    );
  }
  await until(() => fetching + refused.length === 40);
  t.true(fetching * limits.bytes <= 16 * jsonBytes(limits.bytes), String(fetching));
  t.true(fetching > 16);
  t.deepEqual([...new Set(refused)], [429]);
  client.abort();
  await until(() => service.pictures === 0);
  // Their bytes are given back too.
  t.is((await post(`${url}/rank`, await readFile(photos[0]!))).status, 200);
});

test('a client that goes: requests behind the one that is answered give back their places too', async (t) => {
  const gate = gated(t.context.models.ranker);
  const { url, service } = await start(t, { ranker: gate.ranker }, { maxWait: 0 });
  const { socket, closed } = await open(t, url);
  const request = upload('/rank', await readFile(photos[0]!));
  socket.write(Buffer.concat(Array.from({ length: 12 }, () => request)));
  await until(() => service.pictures === 12 && gate.calls.length === 2);
  socket.destroy();
  await closed;
  await until(() => service.pictures === 0, 20);
  t.true(gate.calls.every(({ signal }) => signal.aborted));
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.regex(metrics, /^ltrp_requests_total\{route="\/rank",status="499"\} 12$/m);
  gate.open();
});

test('a client that goes: its job is cancelled, its place is free, and others do not notice', async (t) => {
  const gate = gated(t.context.models.ranker);
  // The first two are computed at once, each alone.
  const { url, service } = await start(t, { ranker: gate.ranker }, { maxWait: 0 });
  const file = await readFile(photos[0]!);
  const clients = Array.from({ length: 4 }, () => new AbortController());
  const answers = clients.map(({ signal }) => post(`${url}/rank`, file, 'image/jpeg', signal));
  for (const answer of answers) answer.catch(() => undefined);
  // Their uploads are over, which cancels nothing.
  await until(() => service.pictures === 4 && gate.calls.length === 2);
  await sleep(100);
  t.false(gate.calls.some(({ signal }) => signal.aborted));
  t.is(service.pictures, 4);
  const stays = post(`${url}/rank`, file);
  await until(() => service.pictures === 5);
  for (const client of clients) client.abort();
  await until(() => service.pictures === 1);
  t.true(gate.calls.slice(0, 2).every(({ signal }) => signal.aborted));
  gate.open();
  t.is((await stays).status, 200);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.regex(metrics, /^ltrp_requests_total\{route="\/rank",status="499"\} 4$/m);
});

test('what takes too long is cancelled', async (t) => {
  const { ranker } = t.context.models;
  const gate = gated(ranker);
  const file = await readFile(photos[0]!);
  // Loading what decodes may take as long as the limit.
  await post(`${(await start(t, { ranker })).url}/rank`, file);
  const { url } = await start(t, { ranker: gate.ranker }, { seconds: 5 });
  const { status, json } = await post(`${url}/rank`, file);
  t.is(status, 504);
  t.is(json.error?.code, 'ERR_SERVE_TIMEOUT');
  t.true(gate.calls[0]!.signal.aborted);
});

test('addresses are fetched from the origins that are allowed, and without redirects', async (t) => {
  const { ranker } = t.context.models;
  const file = await readFile(photos[0]!);
  const { createServer } = await import('node:http');
  const cdn = createServer((request, response) => {
    if (request.url === '/photo.jpg') response.end(file);
    else if (request.url === '/large') response.end(Buffer.alloc(limits.bytes + 1));
    else if (request.url === '/away') response.writeHead(302, { location: '/photo.jpg' }).end();
    else response.writeHead(404).end();
  });
  const origin = await listen(t, cdn);
  const fetchPicture = fetcherOf([`${origin}/`], limits.bytes);
  const { url } = await start(t, { ranker }, {}, { fetchPicture });
  const ask = (address: unknown): Promise<Answer> =>
    post(`${url}/rank`, JSON.stringify({ url: address }), 'application/json');
  const { status, json } = await ask(`${origin}/photo.jpg`);
  t.is(status, 200, JSON.stringify(json));
  const direct = await post(`${url}/rank`, file);
  t.deepEqual(json, direct.json);
  for (const [address, code] of [
    [`${origin}/missing`, 400],
    [`${origin}/away`, 400],
    [`${origin}/large`, 413],
    ['http://localhost:1/photo.jpg', 400],
    ['file:///etc/passwd', 400],
    ['no address', 400],
    [7, 400],
  ] as const) {
    t.is((await ask(address)).status, code, String(address));
  }
  t.throws(() => fetcherOf(['https://a.example/path'], 1), { code: 'ERR_LTRP_INVALID_ARGUMENT' });
});

test('health, readiness, metrics with few labels, the OpenAPI document and its page', async (t) => {
  const { url } = await start(t, t.context.models);
  t.deepEqual(await (await fetch(`${url}/health`)).json(), { status: 'ok' });
  t.deepEqual(await (await fetch(`${url}/ready`)).json(), { status: 'ready' });
  await post(`${url}/rank`, await readFile(photos[0]!));
  for (let i = 0; i < 5; i++) await fetch(`${url}/made-up-${i}?x=${i}`);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.regex(metrics, /^ltrp_requests_total\{route="\/rank",status="200"\} 1$/m);
  t.regex(metrics, /^ltrp_requests_total\{route="none",status="404"\} 5$/m);
  t.regex(metrics, /^ltrp_batch_pictures_count 1$/m);
  t.regex(metrics, /^ltrp_pictures_in_flight 0$/m);
  t.regex(metrics, /^process_resident_memory_bytes /m);
  t.notRegex(metrics, /made-up/);
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as {
    openapi: string;
    paths: Record<string, { post?: { parameters: { name: string }[]; requestBody: object } }>;
  };
  t.regex(document.openapi, /^3\./);
  for (const route of ['rank', 'select', 'crop', 'score', 'classify']) {
    const { parameters, requestBody } = document.paths[`/${route}`]!.post!;
    t.true(parameters.length >= 2, route);
    t.true('multipart/form-data' in (requestBody as { content: object }).content);
  }
  const page = await fetch(`${url}/docs/`);
  t.is(page.status, 200);
  t.regex(await page.text(), /swagger-ui/i);
  t.truthy(page.headers.get('content-security-policy'));
});

/** A connection that is used by hand. */
async function open(
  t: ExecutionContext,
  url: string,
): Promise<{ socket: Socket; text: () => string; closed: Promise<void> }> {
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      resolve();
    });
  });
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  t.teardown(() => socket.destroy());
  return { socket, text: () => text, closed };
}

const upload = (path: string, file: Buffer, headers = ''): Buffer =>
  Buffer.concat([
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nhost: x\r\n${headers}content-length: ${file.length}\r\n\r\n`,
    ),
    file,
  ]);

test('stopping: busy, idle, later-idle and silent connections', async (t) => {
  const gate = gated(t.context.models.ranker);
  const { url, service } = await start(t, { ranker: gate.ranker });
  const file = await readFile(photos[0]!);
  const silent = await open(t, url);
  const idle = await open(t, url);
  idle.socket.write('GET /health HTTP/1.1\r\nhost: x\r\n\r\n');
  await until(() => idle.text().includes('"ok"'));
  const busy = await open(t, url);
  busy.socket.write(upload('/rank', file));
  const receiving = await open(t, url);
  const request = upload('/rank', file);
  // Half of its body has arrived: it was accepted.
  receiving.socket.write(request.subarray(0, request.length / 2));
  await until(() => service.pictures === 2 && gate.calls.length === 1);
  const stopped = service.stop();
  await Promise.all([silent.closed, idle.closed]);
  t.is(silent.text(), '');
  receiving.socket.write(request.subarray(request.length / 2));
  t.is(service.pictures, 2);
  gate.open();
  await Promise.all([busy.closed, receiving.closed]);
  for (const { text } of [busy, receiving]) {
    t.regex(text(), /^HTTP\/1\.1 200 OK\r\n/);
    t.regex(text(), /\r\nconnection: close\r\n/i);
    t.regex(text(), /"logits":\[.*\]\}$/s);
  }
  t.is(await stopped, 0);
  await t.throwsAsync(fetch(`${url}/health`), undefined, 'nobody listens');
});

test('stopping: a request on a connection that is busy is refused in order, and one without end is cut', async (t) => {
  const gate = gated(t.context.models.ranker);
  const { url, service } = await start(t, { ranker: gate.ranker }, { stopSeconds: 1 });
  const file = await readFile(photos[0]!);
  const busy = await open(t, url);
  busy.socket.write(upload('/rank', file));
  await until(() => gate.calls.length === 1);
  const stopped = service.stop();
  // Pipelined behind the first.
  busy.socket.write(upload('/rank', file));
  t.is(await stopped, 1, 'the ranker never answers');
  await busy.closed;
});

test.serial('of a name with several addresses it listens on one, and stops at once', async (t) => {
  const { lookup } = dns;
  t.teardown(() => {
    dns.lookup = lookup;
  });
  // As where localhost is an IPv4 and an IPv6 address; Fastify asks here.
  const two = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
  type Done = (error: NodeJS.ErrnoException | null, addresses: dns.LookupAddress[]) => void;
  dns.lookup = ((host: string, options: { all?: boolean }, done: Done) => {
    if (host === 'localhost' && options.all === true) done(null, two);
    else lookup(host, options as dns.LookupAllOptions, done);
  }) as typeof lookup;
  const service = await Service.create({
    ...{ models: { ranker: t.context.models.ranker }, limits, logLevel: 'silent' },
  });
  const url = new URL(await service.listen('localhost', 0));
  const second = connect(Number(url.port), '127.0.0.2');
  t.teardown(() => second.destroy());
  const outcome = await new Promise((resolve) => {
    second.once('connect', () => {
      resolve('connected');
    });
    second.once('error', ({ code }: NodeJS.ErrnoException) => {
      resolve(code);
    });
  });
  t.is(outcome, 'ECONNREFUSED');
  const start = performance.now();
  t.is(await service.stop(), 0);
  t.true(performance.now() - start < 10_000);
});

test.serial(
  'SIGTERM with requests in flight: all are answered, and the exit code is 0',
  async (t) => {
    const longer = ['--stop-seconds', '600', '--max-seconds', '600'];
    const args = ['serve', '--port', '0', '--log-level', 'warn', ...longer];
    const { child, outcome } = startLtrp(args);
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    t.teardown(() => child.kill('SIGKILL'));
    await until(() => /serving on (\S+);/.test(said) || child.exitCode !== null);
    const url = /serving on (\S+);/.exec(said)?.[1];
    if (url === undefined) {
      t.fail(said);
      return;
    }
    const file = await readFile(photos[0]!);
    const agent = new Agent({ keepAlive: true });
    t.teardown(() => {
      agent.destroy();
    });
    await send(agent, `${url}/rank`, file); // a connection that is kept, and idle then
    const idle = await open(t, url);
    // The computing thread takes them in turn: the first takes so long that none is answered before all have arrived.
    const scored = Array.from({ length: 3 }, () => send(agent, `${url}/score?rounds=4`, file));
    const sent = [...scored, ...Array.from({ length: 7 }, () => send(agent, `${url}/rank`, file))];
    let inFlight = 0;
    const end = performance.now() + 120_000;
    while (inFlight < 10) {
      if (performance.now() > end) throw new Error(`${inFlight} of 10 requests are in flight`);
      const metrics = await (await fetch(`${url}/metrics`)).text();
      inFlight = Number(/^ltrp_pictures_in_flight (\d+)$/m.exec(metrics)?.[1]);
    }
    child.kill('SIGTERM');
    const answers = await Promise.all(sent);
    t.deepEqual(
      answers.map(({ status }) => status),
      answers.map(() => 200),
    );
    for (const { text } of answers) t.notThrows(() => JSON.parse(text) as unknown);
    await idle.closed;
    const { code, stderr } = await outcome;
    t.is(code, 0, stderr);
  },
);

test.serial(
  'wrong calls of the command: a port that is taken, a classifier that is none',
  async (t) => {
    const { url } = await start(t, { ranker: t.context.models.ranker });
    const { port } = new URL(url);
    const taken = await startLtrp(['serve', '--port', port, '--teacher', 'none']).outcome;
    t.is(taken.code, 2);
    t.regex(taken.stderr, /^ltrp: --port .* is in use/m);
    const none = await startLtrp(['serve', '--port', '0', '--classifier', '/nowhere']).outcome;
    t.is(none.code, 1);
    t.regex(none.stderr, /ERR_LTRP_FILE_NOT_FOUND/);
  },
);

test.serial('without its packages it says how to get them', async (t) => {
  const loader = `
    export const resolve = (specifier, context, next) => {
      if (specifier === 'fastify')
        throw Object.assign(new Error("Cannot find package 'fastify' imported from here"), { code: 'ERR_MODULE_NOT_FOUND' });
      return next(specifier, context);
    };`;
  const hooks = `data:text/javascript,${encodeURIComponent(loader)}`;
  const register = `import { register } from 'node:module'; register(${JSON.stringify(hooks)});`;
  const nodeArguments = ['--import', `data:text/javascript,${encodeURIComponent(register)}`];
  const { code, stderr: said } = await ltrp(['serve', '--port', '0'], { nodeArguments });
  t.is(code, 1, said);
  t.regex(said, /ltrp serve needs packages .*fastify is missing.*npm install fastify@5/);
  t.regex(said, /ERR_LTRP_UNSUPPORTED/);
});
