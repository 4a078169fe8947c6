/** rankFiles: real pictures and a real ranker in a stream. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import {
  LtrpError,
  PatchRanker,
  rankFiles,
  readImages,
  selectPatches,
  type NamedPicture,
  type PictureSource,
  type RankFilesOptions,
  type RankFilesResult,
} from '../lib/index.js';
import { RankingQueue } from '../lib/stream/ranking-queue.js';
import { writeRanker } from './support/models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

const photos = ['astronaut', 'cat', 'chelsea', 'coffee', 'tiger'].map((name) =>
  join(repository, 'demo', 'photos', `${name}.jpg`),
);

async function all<Source extends PictureSource | NamedPicture>(
  source: Iterable<Source> | AsyncIterable<Source>,
  options?: RankFilesOptions,
): Promise<RankFilesResult<Source>[]> {
  const results: RankFilesResult<Source>[] = [];
  for await (const result of rankFiles(source, options)) results.push(result);
  return results;
}

const load = async (t: { teardown: (end: () => void) => void }): Promise<PatchRanker> => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  return ranker;
};

test('with crop it gives what readImages, rank and selectPatches give one by one', async (t) => {
  const ranker = await load(t);
  const results = await all(photos, { ranker, fit: 'crop', keepRatio: 0.3, scoreShare: 1 });
  t.is(results.length, photos.length);
  for (const [index, result] of results.entries()) {
    if (!result.ok) throw result.error;
    const images = await readImages([photos[index]!], { size: 224 });
    const { logits } = await ranker.rank(images);
    const far = logits.map((logit, at) => Math.abs(logit - (result.logits[at] ?? NaN)));
    t.true(Math.max(...far) < 1e-4);
    const { indices } = await selectPatches(images, logits, { keepRatio: 0.3, scoreShare: 1 });
    t.deepEqual([...result.kept], [...indices]);
    t.like(result, { index, name: photos[index], source: photos[index] });
    t.deepEqual(result.grid, { rows: 14, columns: 14 });
  }
});

test('paths, URLs, bytes and named pictures mean the same', async (t) => {
  const ranker = await load(t);
  const path = photos[1]!;
  const bytes = await readFile(path);
  const named = { picture: bytes, name: 'the cat', id: 7 };
  const results = await all<PictureSource | NamedPicture>(
    [path, pathToFileURL(path), bytes, named, { picture: path, name: undefined }],
    { ranker },
  );
  t.deepEqual(
    results.map(({ name }) => name),
    [path, path, `buffer 2 (${bytes.byteLength} bytes)`, 'the cat', path],
  );
  t.is(results[3]!.source, named);
  const [first] = results;
  for (const result of results) {
    if (!result.ok || first?.ok !== true) throw new Error('not ranked');
    t.like(result, { width: 720, height: 466, grid: { rows: 11, columns: 17 } });
    t.deepEqual(result.logits, first.logits);
    t.is(result.kept.length, 0, 'nothing is chosen unless it is asked for');
  }
});

test('bad pictures are results of their own', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'text.jpg'), 'not an image');
  const small = await picture(8, 8).png().toBuffer();
  const source = [
    photos[0],
    join(folder, 'text.jpg'),
    join(folder, 'absent.jpg'),
    folder,
    new Uint8Array(0),
    { picture: small, name: 'the small one' },
    new URL('https://example.com/cat.jpg'),
    42,
    null,
    { picture: 'x.jpg', name: 7 },
    photos[1],
  ] as PictureSource[];
  const results = await all(source);
  t.deepEqual(
    results.map((result) => (result.ok ? 'ok' : result.error.code)),
    [
      'ok',
      'ERR_LTRP_IMAGE_DECODE',
      'ERR_LTRP_IMAGE_NOT_FOUND',
      'ERR_LTRP_IMAGE_DECODE',
      'ERR_LTRP_IMAGE_DECODE',
      'ERR_LTRP_IMAGE_SIZE',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ok',
    ],
  );
  const messages = results.map((result) => (result.ok ? '' : result.error.message));
  for (const message of messages.filter((text) => text !== '')) {
    t.regex(message, /^\S[^\n]{10,}[.;)]?$/, 'one sentence');
  }
  t.regex(messages[4]!, /buffer 4 \(0 bytes\)/);
  t.regex(messages[5]!, /the small one/);
  t.regex(messages[6]!, /only file: URLs/);
  t.true(results.every((result, index) => result.index === index));
});

test('random pictures, failures and latencies keep order, bounds and results', async (t) => {
  const ranker = await load(t);
  const sizes = [
    [96, 96],
    [64, 160],
    [160, 64],
    [120, 90],
  ] as const;
  const pictures = await Promise.all(
    sizes.map(([width, height], index) => picture(width, height, 3, index).png().toBuffer()),
  );
  const expected = await all(pictures, { ranker, patches: 30, keepRatio: 0.5 });
  const property = fc.asyncProperty(
    fc.array(fc.record({ kind: fc.nat(sizes.length), delay: fc.nat(3) }), { maxLength: 30 }),
    fc.integer({ min: 1, max: 12 }),
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 4 }),
    fc.nat(2),
    async (items, ahead, batchSize, decoders, take) => {
      let [pulled, taken] = [0, 0];
      let most = 0;
      async function* source(): AsyncGenerator<Uint8Array> {
        for (const { kind, delay } of items) {
          if (delay > 0) await sleep(delay - 1);
          most = Math.max(most, ++pulled - taken);
          yield pictures[kind] ?? new Uint8Array(3);
        }
      }
      const options = { ranker, patches: 30, keepRatio: 0.5, ahead, batchSize, decoders };
      for await (const result of rankFiles(source(), options)) {
        const { kind } = items[taken]!;
        const other = expected[kind];
        if (result.index !== taken++ || result.ok !== (other !== undefined)) return false;
        if (result.ok && other?.ok === true) {
          const far = result.logits.map((logit, at) => Math.abs(logit - (other.logits[at] ?? NaN)));
          if (!(Math.max(...far) < 1e-4) || result.kept.join() !== other.kept.join()) return false;
        }
        if (take > 0) await sleep(take - 1);
      }
      return taken === items.length && most <= ahead + 1;
    },
  );
  await t.notThrowsAsync(fc.assert(property, { numRuns: 30 }));
});

test('an abort at a random time stops it, and the ranker stays usable', async (t) => {
  const ranker = await load(t);
  const property = fc.asyncProperty(
    fc.nat(60),
    fc.integer({ min: 1, max: 40 }),
    async (when, ahead) => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const timer = setTimeout(() => {
        controller.abort(reason);
      }, when);
      let count = 0;
      try {
        const source = Array.from({ length: 60 }, (_, index) => photos[index % 5]!);
        const options = { ranker, ahead, signal: controller.signal, keepRatio: 0.5 };
        for await (const result of rankFiles(source, options)) {
          if (!result.ok || result.index !== count++) return false;
        }
      } catch (error) {
        return error === reason && count < 60;
      } finally {
        clearTimeout(timer);
      }
      return count === 60;
    },
  );
  await t.notThrowsAsync(fc.assert(property, { numRuns: 15 }));
  t.true((await all([photos[0]!], { ranker }))[0]?.ok);
});

test('a consumer that stops closes the source, and its own ranker is still there', async (t) => {
  const ranker = await load(t);
  let closed = 0;
  let pulled = 0;
  function* source(): Generator<string> {
    try {
      for (;;) {
        pulled++;
        yield photos[pulled % 5]!;
      }
    } finally {
      closed++;
    }
  }
  for await (const { index } of rankFiles(source(), { ranker, ahead: 4 })) {
    if (index === 2) break;
  }
  t.is(closed, 1);
  t.true(pulled <= 3 + 4, `${pulled} pulled`);
  t.true((await all([photos[0]!], { ranker }))[0]?.ok);
});

test('a stream of Node.js is a source, and is destroyed by a break', async (t) => {
  const stream = Readable.from(Array.from({ length: 50 }, (_, index) => photos[index % 5]!));
  let count = 0;
  for await (const result of rankFiles(stream as AsyncIterable<string>, { ahead: 3 })) {
    t.true(result.ok);
    if (++count === 4) break;
  }
  await sleep(20);
  t.true(stream.destroyed);
});

test('what the source throws ends it after the results before', async (t) => {
  const broken = new Error('the database is gone');
  function* source(): Generator<string> {
    yield photos[0]!;
    yield photos[1]!;
    throw broken;
  }
  const names: string[] = [];
  const error = await t.throwsAsync(async () => {
    for await (const { name } of rankFiles(source())) names.push(name);
  });
  t.is(error, broken);
  t.deepEqual(names, photos.slice(0, 2));
});

test('a ranker by name is loaded with the options of loading', async (t) => {
  const results = await all(photos.slice(0, 2), {
    ranker: 'tiny',
    precision: 'int8',
    device: 'cpu',
  });
  t.true(results.every(({ ok }) => ok));
  const missing = all(photos, { ranker: '/nowhere/ranker.safetensors' });
  await t.throwsAsync(missing, { instanceOf: LtrpError, code: 'ERR_LTRP_FILE_NOT_FOUND' });
  const disposed = await PatchRanker.load('tiny');
  disposed.dispose();
  await t.throwsAsync(all(photos, { ranker: disposed }), { code: 'ERR_LTRP_DISPOSED' });
});

test('the ranks of a picture that is too large for its batch are computed alone', async (t) => {
  const real = await load(t);
  const counts: number[] = [];
  // Stands for a machine on which two pictures at once do not fit into memory.
  const ranker = {
    config: real.config,
    rank: (...[images, options]: Parameters<PatchRanker['rank']>) => {
      counts.push(images.shape[0]);
      if (images.shape[0] > 1) {
        return Promise.reject(new LtrpError('ERR_LTRP_OUT_OF_MEMORY', 'There is no memory left.'));
      }
      return real.rank(images, options);
    },
  } as unknown as PatchRanker;
  const results = await all(Array(4).fill(photos[0]!) as string[], { ranker, batchSize: 4 });
  t.true(results.every(({ ok }) => ok));
  t.deepEqual(counts, [4, 1, 1, 1, 1]);
});

test('a batch is tried again picture by picture only where that can help', async (t) => {
  const { config } = await load(t);
  for (const [code, expected] of [
    ['ERR_LTRP_INVALID_ARGUMENT', [4, 1, 1, 1, 1]],
    ['ERR_LTRP_NOT_FINITE', [4, 1, 1, 1, 1]],
    ['ERR_LTRP_INTERNAL', [4]],
  ] as const) {
    const counts: number[] = [];
    const ranker = {
      config,
      rank: (...[images]: Parameters<PatchRanker['rank']>) => {
        counts.push(images.shape[0]);
        return Promise.reject(new LtrpError(code, 'It is not to be.'));
      },
    } as unknown as PatchRanker;
    const results = await all(Array(4).fill(photos[0]!) as string[], { ranker, batchSize: 4 });
    t.deepEqual(
      results.map((result) => !result.ok && result.error.code),
      [code, code, code, code],
    );
    t.deepEqual(counts, expected);
  }
});

test('a picture with fewer patches than are to be kept keeps all of them', async (t) => {
  const results = await all(photos, { keep: 188 });
  const shares = results.map((result) => result.ok && [result.kept.length, result.logits.length]);
  t.deepEqual(shares[1], [187, 187]);
  for (const share of shares) t.is(share && share[0], share && Math.min(188, share[1] as number));
  t.true(
    shares.some((share) => share && (share[1] as number) > 188),
    'and others keep that many',
  );
});

test('the message about a named picture says its path too', async (t) => {
  const [result] = await all([{ picture: '/nowhere/cat.jpg', name: 'the cat' }]);
  if (result?.ok !== false) throw new Error('ranked');
  t.is(result.name, 'the cat');
  t.is(result.error.message, 'There is no image the cat (/nowhere/cat.jpg).');
});

test.serial('memory is bounded: of 2000 pictures only those ahead are alive', async (t) => {
  const { config } = await load(t);
  const [ahead, batchSize, side] = [32, 8, 224];
  // Stands for a ranker, so that the stream is what is measured.
  const ranker = {
    config,
    rank: (...[images]: Parameters<PatchRanker['rank']>) =>
      sleep(1, { logits: new Float32Array(images.shape[0] * 196), shape: [images.shape[0], 196] }),
  } as unknown as PatchRanker;
  // Not compressed: the file is as large as its pixels.
  const file = await picture(side, side).png({ compressionLevel: 0 }).toBuffer();
  const pictures = 2000;
  function* source(): Generator<Uint8Array> {
    for (let index = 0; index < pictures; index++) yield new Uint8Array(file);
  }
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const before = process.memoryUsage().arrayBuffers;
  let [peak, count] = [0, 0];
  for await (const result of rankFiles(source(), { ranker, fit: 'crop', ahead, batchSize })) {
    if (!result.ok) throw result.error;
    if (count++ % 20 > 0) continue;
    const samples: number[] = [];
    for (let turned = 0; turned < 2; turned++) {
      collect();
      await turn(); // in which buffers that the core made are given back
      samples.push(process.memoryUsage().arrayBuffers - before);
    }
    peak = Math.max(peak, Math.min(...samples));
  }
  t.is(count, pictures);
  // Each picture ahead: its file and its pixels; one result with the consumer. Two batches being computed,
  // put together, and two that have ended since the collection.
  const pixels = side * side * 3;
  const bound = (ahead + 1) * (file.byteLength + pixels) + 4 * batchSize * pixels;
  t.log(`peak ${(peak / 1e6).toFixed(1)} MB, bound ${(bound / 1e6).toFixed(1)} MB`);
  t.true(peak < bound, `${peak} of ${bound} bytes`);
  t.true(bound < (pictures * pixels) / 8, 'far from everything');
});

test('pictures are decoded while a batch is computed', async (t) => {
  const { config } = await load(t);
  let finish: () => void = () => undefined;
  const ranked = new Promise<void>((resolve) => (finish = resolve));
  let began: () => void = () => undefined;
  const ranking = new Promise<void>((resolve) => (began = resolve));
  const ranker = {
    config,
    rank: async (...[images]: Parameters<PatchRanker['rank']>) => {
      began();
      await ranked;
      return { logits: new Float32Array(images.shape[0]), shape: [images.shape[0], 1] };
    },
  } as unknown as PatchRanker;
  const { signal } = new AbortController();
  const queue = new RankingQueue(ranker, { seed: 0, batchSize: 2, decoders: 1, signal });
  const decoded: number[] = [];
  const decode = (index: number) => async () => {
    await sleep(1);
    decoded.push(index);
    return { pixels: new Uint8Array(16 * 16 * 3), size: [16, 16] as const };
  };
  const first = [queue.rank(decode(0)), queue.rank(decode(1))];
  await ranking;
  t.deepEqual(decoded, [0, 1]);
  const second = [queue.rank(decode(2)), queue.rank(decode(3))];
  for (let tries = 0; tries < 500 && decoded.length < 4; tries++) await sleep(2);
  t.deepEqual(decoded, [0, 1, 2, 3], 'while the first two are still being ranked');
  finish();
  t.is((await Promise.all([...first, ...second])).length, 4);
});

test("'cls' heads have one grid", async (t) => {
  const folder = await temporaryFolder(t);
  const cls = await writeRanker(join(folder, 'cls.safetensors'), 'cls');
  const [result] = await all([photos[1]!], { ranker: cls });
  t.like(result, { ok: true, grid: { rows: 7, columns: 7 } });
  await t.throwsAsync(all(photos, { ranker: cls, patches: 9 }), { message: /7 x 7/ });
  await t.throwsAsync(all(photos, { ranker: cls, fit: 'crop', size: 224 }), {
    message: /112 x 112/,
  });
});

test('grids and sizes can be asked for', async (t) => {
  const grid = { rows: 4, columns: 9 };
  t.like((await all([photos[1]!], { grid }))[0], { ok: true, grid });
  t.like((await all([photos[1]!], { patches: 24 }))[0], { grid: { rows: 4, columns: 6 } });
  const stretched = await all([photos[1]!], { fit: 'stretch', size: [64, 96], keep: 5 });
  t.like(stretched[0], { ok: true, grid: { rows: 4, columns: 6 }, width: 720, height: 466 });
  t.is(stretched[0]?.ok === true && stretched[0].kept.length, 5);
  await t.throwsAsync(all(photos, { fit: 'crop', size: 100 }), { message: /multiples/ });
  const few = await all([await picture(20, 20).png().toBuffer()], {
    grid: { rows: 30, columns: 2 },
  });
  t.like(few[0], { ok: false, error: { code: 'ERR_LTRP_IMAGE_SIZE' } });
});

test('wrong options are refused at the call', (t) => {
  const refused = (source: unknown, options: unknown, message: RegExp): void => {
    const error = t.throws<LtrpError>(
      () => rankFiles(source as string[], options as RankFilesOptions),
      { instanceOf: LtrpError, message },
    );
    t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT');
    t.regex(error.message, /^\S[^\n]{10,}\.$/, 'one sentence');
  };
  refused('photo.jpg', {}, /put a single one into an array/);
  refused(new Uint8Array(4), {}, /put a single one into an array/);
  refused(undefined, {}, /source/);
  refused([], 7, /options must be an object/);
  const ranker = { config: {}, rank: () => undefined };
  for (const [options, message] of [
    [{ ranker: 7 }, /ranker must be/],
    [{ ranker: null }, /ranker must be/],
    [{ ranker, precision: 'int8' }, /precision is for rankers given by name/],
    [{ ranker, weights: 'ema' }, /weights is for rankers given by name/],
    [{ fit: 'none' }, /fit must be one of 'whole', 'crop', 'stretch'/],
    [{ size: 224 }, /size is for fit/],
    [{ fit: 'crop', size: 0 }, /size must be/],
    [{ fit: 'crop', patches: 9 }, /patches and grid are for fit 'whole'/],
    [{ patches: 9, grid: { rows: 3, columns: 3 } }, /one of patches and grid/],
    [{ patches: 1 }, /patches must be an integer in \[2, 65536\]/],
    [{ grid: [3, 3] }, /grid\.rows/],
    [{ grid: { rows: 300, columns: 300 } }, /65536/],
    [{ keep: 3, keepRatio: 0.5 }, /one of keep/],
    [{ keep: 0 }, /keep must be/],
    [{ keepratio: 0.5 }, /options has no "keepratio"; what there is: /],
    [{ keepRatio: 0 }, /keepRatio must be in \(0, 1\]/],
    [{ scoreShare: 2 }, /scoreShare/],
    [{ seed: -1 }, /seed/],
    [{ batchSize: 0 }, /batchSize must be an integer in \[1, 1024\]/],
    [{ decoders: 1.5 }, /decoders/],
    [{ ahead: 0 }, /ahead must be an integer in \[1, 65536\]/],
    [{ signal: {} }, /signal must be an AbortSignal/],
  ] as const) {
    refused([], options, message);
  }
});
