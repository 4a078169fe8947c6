/** Decoding within bounds: memory by the header, time, and an end that waits for nothing. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import sharp from 'sharp';
import { LtrpError, rankFiles, readImages } from '../lib/index.js';
import { PictureDecoder } from '../lib/data/decoder.js';
import { decode } from '../lib/pictures/decode.js';
import { Budget } from '../lib/pictures/limits.js';
import { DecodingProcess, ProcessError } from '../lib/pictures/process.js';
import { readHeader, render } from '../lib/pictures/render.js';
import { repository, temporaryFolder } from './support/paths.js';
import { smallWebp, tiff, wideGif, zeroPng } from './support/picture-files.js';
import { picture } from './support/pictures.js';

/** What looks at all of this process (its environment, its children) takes turns, before the others. */
const limited = test.serial;

const square = { exact: { height: 32, width: 32 } };

/** Processes begun by this one that decode. */
function children(): string[] {
  const ids = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ');
  return ids.filter((id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('process-main');
    } catch {
      return false;
    }
  });
}

async function refused(source: string | Uint8Array): Promise<LtrpError> {
  return decode(source, { name: 'x', scaling: () => square }).then(
    () => new LtrpError('ERR_LTRP_INTERNAL', 'it was decoded'),
    (error: unknown) => error as LtrpError,
  );
}

const svg = (inside: string): Buffer =>
  Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">${inside}</svg>`);

const embedded = (side: number, more = ''): string =>
  `<image width="64" height="64" href="data:image/png;base64,${more}${zeroPng(side).toString('base64')}"/>`;

limited('small files of large pictures are refused by their headers', async (t) => {
  const files: Record<string, Buffer> = {
    WebP: smallWebp(16383),
    GIF: wideGif(16383),
    'interlaced PNG': zeroPng(16383, { depth: 16, colour: 6, interlaced: true }),
    'TIFF in one strip': tiff(
      { width: 16000, height: 16000, channels: 3, bits: 16, format: 1 },
      new Uint8Array(64),
    ),
    'a picture in an SVG': svg(embedded(20000)),
    'with a line break': svg(embedded(20000, '&#10;\n')),
    'many in an SVG': svg(embedded(6000).repeat(5)),
    'an SVG in an SVG': svg(
      `<image href="data:image/svg+xml,${encodeURIComponent(svg(embedded(20000)).toString())}"/>`,
    ),
  };
  const before = process.memoryUsage.rss();
  for (const [name, file] of Object.entries(files)) {
    const { code, message } = await refused(file);
    t.is(code, 'ERR_LTRP_OUT_OF_MEMORY', `${name}: ${message}`);
    t.regex(message, /needs \d.* of memory .* LTRP_DECODE_MEMORY=[\d.]+GB or more/, name);
  }
  t.true(process.memoryUsage.rss() - before < 2e8);
  for await (const result of rankFiles(new Array<Buffer>(8).fill(smallWebp(16383)))) {
    t.like(result, { ok: false, error: { code: 'ERR_LTRP_OUT_OF_MEMORY' } });
  }
});

limited('the limit can be raised as the message says', async (t) => {
  const file = await picture(900, 700).png({ progressive: true }).toBuffer();
  const path = join(await temporaryFolder(t), 'x.png');
  await writeFile(path, file);
  const before = process.env['LTRP_DECODE_MEMORY'];
  t.teardown(() => {
    if (before === undefined) delete process.env['LTRP_DECODE_MEMORY'];
    else process.env['LTRP_DECODE_MEMORY'] = before;
  });
  for (const source of [file, path]) {
    process.env['LTRP_DECODE_MEMORY'] = '1MB';
    const needs: string[] = [];
    for (let error = await refused(source); error.code !== 'ERR_LTRP_INTERNAL';) {
      t.is(error.code, 'ERR_LTRP_OUT_OF_MEMORY');
      const [, what = '', enough = ''] =
        /to be (\w+), .*LTRP_DECODE_MEMORY=(\S+) or more/.exec(error.message) ?? [];
      needs.push(what);
      process.env['LTRP_DECODE_MEMORY'] = enough;
      error = await refused(source);
    }
    // Each once: what the message asks for is enough for what it is about.
    t.deepEqual(needs, source === path ? ['read', 'decoded'] : ['decoded']);
  }
  for (const wrong of ['1', 'GB', '-2GB', '0.5MB', 'NaNGB']) {
    process.env['LTRP_DECODE_MEMORY'] = wrong;
    const { code, message } = await refused(file);
    t.is(code, 'ERR_LTRP_INVALID_ARGUMENT', wrong);
    t.true(message.endsWith(`such as 512MB or 4GB; got ${wrong}.`), message);
  }
});

test('a budget is never exceeded, keeps the order, and lets what is too large run alone', async (t) => {
  const budget = new Budget();
  const mib = 2 ** 20;
  const sizes = [700, 200, 600, 3000, 10, 500, 500, 1024, 1];
  let used = 0;
  let running = 0;
  const order: number[] = [];
  await Promise.all(
    sizes.map((size, index) =>
      budget.run(size * mib, async () => {
        order.push(index);
        used += size;
        running++;
        t.true(used <= 1024 || running === 1, `${used} MB at once`);
        await delay(5);
        used -= size;
        running--;
      }),
    ),
  );
  t.deepEqual(order, [...sizes.keys()]);
  await t.throwsAsync(
    budget.run(1, () => Promise.reject(new Error('x'))),
    { message: 'x' },
  );
  t.is(await budget.run(1024 * mib, () => Promise.resolve(7)), 7);
});

test('the other process makes the same pixels', async (t) => {
  const apart = new DecodingProcess();
  const limits = { signal: undefined };
  const files = [
    await picture(300, 200).jpeg().toBuffer(),
    await picture(301, 199, 4).webp().toBuffer(),
    await picture(90, 70).toColourspace('cmyk').jpeg().toBuffer(),
  ];
  const scalings = [
    {},
    { exact: { height: 64, width: 48, cut: { top: 3, left: 2, height: 40, width: 40 } } },
    { side: { pixels: 50, fit: 'outside', kernel: 'cubic' } as const },
  ];
  for (const file of files) {
    const header = await readHeader(sharp, file);
    t.deepEqual(await apart.header(file, limits), JSON.parse(JSON.stringify(header)) as never);
    const both = scalings.map(async (scaling) => {
      const [here, there] = await Promise.all([
        render(sharp, file, header, scaling),
        apart.pixels(file, header, scaling, limits),
      ]);
      t.deepEqual(there, here);
    });
    await Promise.all(both);
  }
  const failed = await t.throwsAsync(apart.header(Buffer.from('not a picture'), limits));
  t.false(failed instanceof ProcessError);
  t.regex(failed.message, /unsupported image format/);
});

test('what is drawn for too long is stopped', async (t) => {
  const apart = new DecodingProcess();
  const wait = { signal: undefined, seconds: 60 };
  await apart.header(svg(''), wait); // it runs
  for (const element of ['g', 'symbol']) {
    let parts = '<rect id="a0" width="5" height="5"/>';
    for (let level = 1; level < 9; level++) {
      const ten = `<use href="#a${level - 1}"/>`.repeat(10);
      parts += `<${element} id="a${level}">${ten}</${element}>`;
    }
    const file = svg(`<defs>${parts}</defs><use href="#a8"/>`);
    const header = await apart.header(file, wait);
    const asked = apart.pixels(file, header, square, { signal: undefined, seconds: 0.3 });
    const error = await t.throwsAsync<ProcessError>(asked, { instanceOf: ProcessError });
    t.is(error.why, 'too long');
    // The next one gets a new process.
    t.like(await apart.header(svg(''), wait), { width: 64, height: 64 });
  }
});

/** Takes some seconds to decode. */
const slowFile = zeroPng(16383, { rows: 16383 });

limited('an abort is answered at once, and frees what was used', async (t) => {
  const ways: ((signal: AbortSignal) => Promise<unknown>)[] = [
    (signal) => decode(slowFile, { signal, scaling: () => square }),
    (signal) => readImages([slowFile, slowFile], { size: 224, signal }),
    async (signal) => {
      const path = join(await temporaryFolder(t), 'x.png');
      await writeFile(path, slowFile);
      const decoder = new PictureDecoder({ shortSide: 64, cacheBytes: 0, concurrency: 1 });
      return decoder.decode(path, signal);
    },
    async (signal) => {
      const config = { grid: [14, 14], patchSize: 16, imageHeight: 224, imageWidth: 224 };
      const ranker = { config, rank: () => Promise.reject(new Error('never')) };
      const source = [slowFile, smallWebp(4000), slowFile];
      for await (const result of rankFiles(source, { ranker: ranker as never, signal })) {
        t.fail(JSON.stringify(result));
      }
    },
  ];
  for (const begin of ways) {
    const controller = new AbortController();
    const reason = new Error('enough');
    let aborted = 0;
    const decoding = begin(controller.signal).catch((error: unknown) => {
      t.true(performance.now() - aborted < 200);
      return error;
    });
    while (children().length === 0) await delay(20);
    await delay(300);
    aborted = performance.now();
    controller.abort(reason);
    t.is(await decoding, reason);
    for (let wait = 0; wait < 100 && children().length > 0; wait++) await delay(20);
    t.deepEqual(children(), []);
  }
  // What was aborted takes nothing from what comes afterwards.
  t.is((await decode(await picture(64, 64).png().toBuffer())).width, 64);
});

test('the end of a process or of a worker does not wait for a decode', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'slow.png'), slowFile);
  const decoding = `
    const { decode } = await import(${JSON.stringify(join(repository, 'dist', 'pictures', 'decode.js'))});
    const { setTimeout: delay } = await import('node:timers/promises');
    const { readdirSync, readFileSync } = await import('node:fs');
    const done = decode('slow.png').then(() => console.log('decoded'), () => undefined);
    const begun = () => readdirSync('/proc/self/task').some((id) => readFileSync('/proc/self/task/' + id + '/children', 'utf8').trim());
    while (!begun()) await delay(20);
    await delay(500);`;
  const ends: Record<string, string> = {
    'process.exit()': `${decoding} console.log('ends'); process.exit(3);`,
    'an error': `${decoding} console.log('ends'); setTimeout(() => { throw new Error('x'); });`,
    'terminate()': `
      const { Worker } = await import('node:worker_threads');
      const worker = new Worker('(async () => {' + ${JSON.stringify(decoding)} + '(await import("node:worker_threads")).parentPort.postMessage(1); })()', { eval: true });
      worker.on('message', async () => { console.log('ends'); await worker.terminate(); });`,
  };
  for (const [name, program] of Object.entries(ends)) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: folder });
    let text = '';
    let began = 0;
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString();
      if (text.includes('ends')) began ||= performance.now();
    });
    await new Promise((resolve) => child.once('close', resolve));
    t.is(text.trim(), 'ends', name);
    const took = performance.now() - began;
    t.log(`${name}: ${took.toFixed(0)} ms`);
    t.true(took < 1000, `${name}: ${took.toFixed(0)} ms`);
  }
});

test('options are checked, each by its name', async (t) => {
  const wrong = [0, -1, NaN, 1.5, Infinity, 2 ** 40, '4', null, {}];
  for (const name of ['decoders', 'ahead', 'batchSize'] as const) {
    for (const value of wrong) {
      t.throws(() => rankFiles([], { [name]: value }), {
        code: 'ERR_LTRP_INVALID_ARGUMENT',
        message: new RegExp(`^${name} must be an integer`),
      });
    }
  }
  const good = { shortSide: 64, cacheBytes: 0, concurrency: 1 };
  for (const name of ['shortSide', 'cacheBytes', 'concurrency'] as const) {
    for (const value of [-1, NaN, 1.5, '4', undefined]) {
      t.throws(() => new PictureDecoder({ ...good, [name]: value as number }), {
        code: 'ERR_LTRP_INVALID_ARGUMENT',
        message: new RegExp(`^${name} `),
      });
    }
  }
  t.throws(() => new PictureDecoder({ ...good, concurrency: 0 }), { message: /^concurrency / });
  for (const size of [0, -1, NaN, 1.5, Infinity, '4', null, [1], [1, 2, 3], [0, 4]]) {
    await t.throwsAsync(readImages([slowFile], { size: size as number }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /^size must be/,
    });
  }
});
