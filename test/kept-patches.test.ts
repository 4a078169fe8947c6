/** What a classifier keeps: by selectors of one's own, by selectors that ask another model, and different numbers in one batch. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  MaskedAutoencoder,
  PatchRanker,
  readImages,
  registerSelector,
  selectors,
  selectPatches,
  Trainer,
  VisionTransformer,
  type ClassifyOptions,
  type ImageBatch,
  type Selector,
  type SelectorOptions,
} from '../lib/index.js';
import { oneStep } from './support/lifecycle-models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { writeClassifier } from './support/small-classifier.js';

const photos = ['cat', 'coffee', 'tiger'].map((name) =>
  join(repository, 'demo', 'photos', `${name}.jpg`),
);
const patches = 16;
const readAll = (): Promise<ImageBatch> => readImages(photos, { size: 64 });

async function classifier(t: ExecutionContext): Promise<VisionTransformer> {
  const path = join(await temporaryFolder(t), 'classifier.safetensors');
  await writeClassifier(path);
  return VisionTransformer.load(path, { device: 'cpu' });
}

/** Ranks patches by a sine of their id, in double precision; knows what it was asked. */
const byId = (asked: unknown[] = []): Selector => ({
  score: (images, options) => {
    asked.push({ images, options });
    const n = images.shape[0];
    const scores = Float64Array.from({ length: n * patches }, (_, i) => Math.sin(i * i));
    return Promise.resolve({ scores, shape: [n, patches] });
  },
});

const keepOf = async (
  images: ImageBatch,
  scores: Float32Array,
  keepRatio: number,
): Promise<Int32Array> =>
  (await selectPatches(images, scores, { keepRatio, scoreShare: 1 })).indices;

test('a selector of one’s own chooses, by itself and by name', async (t) => {
  await using vit = await classifier(t);
  const images = await readAll();
  const asked: { images: ImageBatch; options: SelectorOptions }[] = [];
  const own = byId(asked);
  const { scores } = await own.score(images);
  const keep = Int32Array.from(
    [0, 1, 2].flatMap((image) => {
      const row = Array.from(scores.subarray(image * patches, (image + 1) * patches));
      return Array.from(row.keys())
        .sort((a, b) => row[b]! - row[a]!)
        .slice(0, 4);
    }),
  );
  const expected = await vit.classify(images, { keep });
  t.notDeepEqual(expected, await vit.classify(images, { keepRatio: 0.25 }));
  t.deepEqual(await vit.classify(images, { keepRatio: 0.25, selector: own, seed: 5 }), expected);
  t.like(asked[1]!.options, { model: vit, keep: 4, seed: 5 });
  t.deepEqual(asked[1]!.images, images);

  registerSelector('by-id', own);
  t.is(selectors['by-id'], own);
  t.deepEqual(await vit.classify(images, { keepRatio: 0.25, selector: 'by-id' }), expected);
  t.deepEqual(
    await vit.embed(images, { keepRatio: 0.25, selector: 'by-id' }),
    await vit.embed(images, { keep }),
  );
  // A selector of the package is an object like any other.
  t.deepEqual(
    await vit.classify(images, { keepRatio: 0.25, selector: selectors.variance }),
    await vit.classify(images, { keepRatio: 0.25, selector: 'variance' }),
  );
});

test('equal scores of one’s own: the lower id is kept, as by the selectors of the package', async (t) => {
  await using vit = await classifier(t);
  const images = await readAll();
  const level: Selector = {
    score: ({ shape: [n] }) =>
      Promise.resolve({ scores: new Float32Array(n * patches), shape: [n, patches] }),
  };
  const first = Int32Array.from({ length: 3 * 4 }, (_, i) => i % 4);
  t.deepEqual(
    await vit.classify(images, { keepRatio: 0.25, selector: level }),
    await vit.classify(images, { keep: first }),
  );
});

test('names of selectors are given once, to selectors', (t) => {
  const selector = byId();
  const refused = (name: unknown, given: unknown, message: RegExp): void => {
    t.throws(() => registerSelector(name as string, given as Selector), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  };
  for (const name of ['', 'Mine', 'my own', 'a,b', '-a', 'a--b', '__proto__', 'a'.repeat(41), 7])
    refused(name, selector, /^name must be lower-case words .* got .*\.$/);
  refused('variance', selector, /^name must not be that of another.*'variance'/);
  registerSelector('once', selector);
  refused('once', selector, /there is 'once' already/);
  for (const none of [null, undefined, {}, { score: 1 }, 'variance', () => 1])
    refused(
      'none',
      none,
      /^selector must be the name of one or an object with a method score; got/,
    );
  t.false(Object.hasOwn(selectors, 'none'));
  t.throws(() => Object.assign(selectors, { variance: selector }), { instanceOf: TypeError });
});

test('scores that are none are refused; what a selector throws is thrown on', async (t) => {
  await using vit = await classifier(t);
  const images = await readAll();
  const refused = async (answer: unknown, message: RegExp): Promise<void> => {
    const selector = { score: () => Promise.resolve(answer) } as Selector;
    await t.throwsAsync(vit.classify(images, { keepRatio: 0.5, selector }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  };
  const shape = [3, patches];
  const scores = new Float32Array(48);
  await refused(
    undefined,
    /^selector must score with a promise of \{ scores, shape \}; got undefined\.$/,
  );
  await refused(
    { scores },
    /scores of shape \[images, patches\], here \[3, 16\]; got undefined\.$/,
  );
  await refused({ scores, shape: [3, 4, 4] }, /here \[3, 16\]; got \[3, 4, 4\]\.$/);
  await refused(
    { scores: new Float32Array(47), shape },
    /of length 48; got a Float32Array of length 47/,
  );
  await refused(
    { scores: Array.from(scores), shape },
    /Float32Array or Float64Array .*; got an array/,
  );
  await refused({ scores: new Int32Array(48), shape }, /got a Int32Array/);
  await refused(
    { scores: scores.map((_, i) => (i === 20 ? NaN : i)), shape },
    /finite scores; got NaN for patch 4 of image 1/,
  );
  await refused(
    { scores: new Float64Array(48).fill(1e300), shape },
    /finite scores; got Infinity for patch 0/,
  );
  for (const selector of ['best', '', null, 5, {}, Symbol('x'), { toString: null }]) {
    await t.throwsAsync(vit.classify(images, { keepRatio: 0.5, selector: selector as never }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /^selector must be /,
    });
  }
  const thrown = new RangeError('mine');
  const throwing = { score: () => Promise.reject(thrown) };
  t.is(await t.throwsAsync(vit.classify(images, { keepRatio: 0.5, selector: throwing })), thrown);
  const stopped = new AbortController();
  const slow: Selector = {
    score: (_images, options) => {
      stopped.abort('enough');
      return Promise.reject(options?.signal?.aborted === true ? thrown : new Error('no signal'));
    },
  };
  const { signal } = stopped;
  const call = vit.classify(images, { keepRatio: 0.5, selector: slow, signal });
  t.is(await call.catch((error: unknown) => error), 'enough');
  // Images are the core's to refuse, before anybody is asked.
  const asked: unknown[] = [];
  const torn = { data: new Float32Array(5), shape: images.shape };
  await t.throwsAsync(vit.classify(torn, { keepRatio: 0.5, selector: byId(asked) }), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
    message: /images\.data must/,
  });
  t.deepEqual(asked, []);
});

test('what was given may be changed as soon as the call has returned', async (t) => {
  await using vit = await classifier(t);
  const rows = () => [Int32Array.of(1, 2), Int32Array.of(3), Int32Array.of(4, 5)];
  for (const options of [
    () => ({ keepRatio: 0.25, selector: byId() }),
    () => ({ keepRatio: 0.25, selector: 'ranker' }),
    () => ({ keep: rows() }),
  ] as (() => ClassifyOptions)[]) {
    const images = await readAll();
    const expected = await vit.classify(images, options());
    const given = options();
    const spoiled = vit.classify(images, given);
    images.data.fill(0);
    for (const row of Array.isArray(given.keep) ? (given.keep as Int32Array[]) : []) row.fill(9);
    t.deepEqual(await spoiled, expected);
  }
});

test('selectors that ask another model: scored, selected, classified, all in one', async (t) => {
  await using vit = await classifier(t);
  await using ranker = await PatchRanker.load('tiny');
  await using mae = await MaskedAutoencoder.load('tiny');
  const images = await readAll();
  const bytes = {
    data: Uint8Array.from({ length: 3 * 64 * 64 * 3 }, (_, i) => 128 + 127 * Math.sin(i * i)),
    shape: [3, 64, 64, 3] as const,
  };
  const seed = 3;
  for (const batch of [images, bytes] as ImageBatch[]) {
    for (const [selector, model, isDefault] of [
      ['ranker', ranker, true],
      ['ranker-diverse', ranker, true],
      ['teacher', mae, true],
      ['mae-attention', mae, true],
      ['tome', mae, false],
      ['rollout', mae, false],
      ['variance', ranker, false],
      ['cls-attention', vit, false],
    ] as const) {
      const { scores } = await selectors[selector].score(batch, { model, keep: 4, seed });
      const keep = await keepOf(batch, scores, 0.25);
      const expected = await vit.classify(batch, { keep });
      const options = { keepRatio: 0.25, selector, seed };
      const given = { ...options, selectorModel: model };
      t.deepEqual(await vit.classify(batch, given), expected, selector);
      t.deepEqual(await vit.embed(batch, given), await vit.embed(batch, { keep }), selector);
      if (isDefault) t.deepEqual(await vit.classify(batch, options), expected, selector);
    }
  }
  // The core alone chooses the same patches as in two steps, where it can.
  const { scores } = await selectors.evit.score(images, { model: vit, keep: 8 });
  t.deepEqual(
    await vit.classify(images, { keepRatio: 0.5, selector: 'evit' }),
    await vit.classify(images, { keep: await keepOf(images, scores, 0.5) }),
  );
  t.deepEqual(
    await vit.classify(images, { keepRatio: 1, selector: 'ranker' }),
    await vit.classify(images),
  );
});

test('models that a selector cannot ask are refused', async (t) => {
  await using vit = await classifier(t);
  await using ranker = await PatchRanker.load('tiny');
  const images = await readAll();
  const refused = async (options: object, message: RegExp): Promise<void> => {
    await t.throwsAsync(vit.classify(images, options), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  };
  const half = { keepRatio: 0.5 };
  await refused(
    { selectorModel: ranker },
    /selectorModel is for a selector; give selector and keepRatio/,
  );
  await refused({ ...half, selectorModel: ranker }, /selectorModel is for a selector/);
  for (const selectorModel of ['tiny', {}, { config: ranker.config }, null])
    await refused(
      { ...half, selector: 'ranker', selectorModel },
      /^selectorModel must be a loaded/,
    );
  await refused(
    { ...half, selector: 'teacher', selectorModel: ranker },
    /model must be a masked autoencoder for the selector 'teacher'; got a ranker/,
  );
  await refused({ ...half, selector: 'ranker', seed: -1 }, /seed must be an integer/);
  await refused({ keepRatio: 2, selector: 'ranker' }, /keepRatio must be in \(0, 1\]; got 2/);
  const keep = Int32Array.of(1, 2, 3);
  await refused({ ...half, keep, selector: 'ranker' }, /exclude each other/);
  ranker.dispose();
  await t.throwsAsync(
    vit.classify(images, { ...half, selector: 'ranker', selectorModel: ranker }),
    {
      code: 'ERR_LTRP_DISPOSED',
    },
  );
  // The embedded one is another.
  await t.notThrowsAsync(vit.classify(images, { ...half, selector: 'ranker' }));
});

test('models of other patches, or that floats were not normalised for, are refused', async (t) => {
  const folder = await temporaryFolder(t);
  const stack = { dim: 8, depth: 1, heads: 2, mlpDim: 16 };
  const made = async (patchSize: number, mean: number): Promise<string> => {
    const model = {
      ...{ imageHeight: 64, imageWidth: 64, patchSize, encoder: stack, decoder: stack },
      ...{ layerNormEps: 1e-6, normalizedTarget: false },
      mean: [mean, mean, mean] as const,
      std: [0.25, 0.25, 0.25] as const,
    };
    await using trainer = await Trainer.create({ kind: 'pretrain', model, ...oneStep });
    const path = join(folder, `mae-${patchSize}-${mean}.safetensors`);
    await trainer.exportModel(path);
    return path;
  };
  const [grey, fine] = [await made(16, 0.5), await made(8, 0.5)];
  await using mae = await MaskedAutoencoder.load(grey);
  await using fineMae = await MaskedAutoencoder.load(fine);
  await using vit = await classifier(t);
  await using fineVit = await VisionTransformer.load(fine);
  const images = await readAll();
  const bytes = { data: new Uint8Array(64 * 64 * 3), shape: [1, 64, 64, 3] as const };
  const code = 'ERR_LTRP_INVALID_ARGUMENT';
  const options = { keepRatio: 0.5, selector: 'mae-attention' } as const;
  await t.throwsAsync(vit.embed(images, { ...options, selectorModel: mae }), {
    code,
    message: /^selectorModel must have the classifier's mean and std, .*; or give bytes/,
  });
  await t.notThrowsAsync(vit.embed(bytes, { ...options, selectorModel: mae }));
  await t.throwsAsync(vit.embed(bytes, { ...options, selectorModel: fineMae }), {
    code,
    message: /^selectorModel must have the classifier's patches of 16 pixels; got patches of 8\.$/,
  });
  await t.throwsAsync(fineVit.embed(bytes, options), {
    code,
    message: /^selectorModel \(here the embedded mae\) must have .* 8 pixels; got patches of 16\.$/,
  });
});

test('images that keep different numbers of patches have the answers that they have alone', async (t) => {
  await using vit = await classifier(t);
  const images = await readAll();
  const bytes = {
    data: Uint8Array.from({ length: 3 * 64 * 64 * 3 }, (_, i) => 128 + 127 * Math.sin(i * i)),
    shape: [3, 64, 64, 3] as const,
  };
  const keep = [Int32Array.of(9, 2, 5), Int32Array.of(15), Int32Array.of(0, 1, 2)];
  const even = [Int32Array.of(1, 9), Int32Array.of(15, 0), Int32Array.of(0, 1)];
  const every = [keep[0]!, Int32Array.from({ length: patches }, (_, i) => i), keep[1]!];
  for (const batch of [images, bytes] as ImageBatch[]) {
    const size = batch.data.length / 3;
    for (const rows of [keep, even, every]) {
      const events: number[][] = [];
      const onProgress = ({ done, total }: { done: number; total: number }): void => {
        events.push([done, total]);
      };
      const all = await vit.classify(batch, { keep: rows, topK: 1, onProgress });
      const embedded = await vit.embed(batch, { keep: rows });
      t.deepEqual(all.shape, [3, 2]);
      t.deepEqual(embedded.shape, [3, 192]);
      for (const [i, row] of rows.entries()) {
        const data = batch.data.slice(i * size, (i + 1) * size);
        const one = { data, shape: [1, ...batch.shape.slice(1)] } as unknown as ImageBatch;
        const alone = await vit.classify(one, { keep: row, topK: 1 });
        t.deepEqual(all.logits.slice(2 * i, 2 * i + 2), alone.logits);
        t.deepEqual(all.top!.slice(i, i + 1), alone.top!);
        const own = await vit.embed(one, { keep: row });
        t.deepEqual(embedded.embeddings.slice(i * 192, (i + 1) * 192), own.embeddings);
      }
      t.true(events.every(([done, total]) => total === 3 && done! >= 0 && done! <= 3));
    }
  }
});

test('rows of keep that cannot be are refused', async (t) => {
  await using vit = await classifier(t);
  const images = await readAll();
  const good = Int32Array.of(1, 2);
  const refused = async (keep: unknown, message: RegExp, more = {}): Promise<void> => {
    for (const call of ['classify', 'embed'] as const) {
      await t.throwsAsync(vit[call](images, { keep: keep as Int32Array[], ...more }), {
        code: 'ERR_LTRP_INVALID_ARGUMENT',
        message,
      });
    }
  };
  await refused(
    [good, new Int32Array(0), good],
    /at least 1, for each image; got none for image 1\.$/,
  );
  await refused([good, good, Int32Array.of(16)], /from 0 to 15, .* got 16 for image 2\.$/);
  await refused([good, Int32Array.of(3, -1), good], /got -1 for image 1\.$/);
  await refused([good, good, Int32Array.of(0, 4, 0)], /distinct.* got 0 twice for image 2\.$/);
  await refused([good, good], /keep must hold an Int32Array for each of 3 images; got \[/);
  await refused([], /for each of 3 images; got \[\]/);
  await refused(
    [good, [1, 2], good],
    /keep must be an Int32Array, or an array .*; got \[1, 2\] for image 1/,
  );
  await refused([good, good, good], /exclude each other/, { keepRatio: 0.5 });
  await refused([good, good, good], /keepRatio must be given with selector/, { selector: 'grid' });
  const half = await vit.classify(images, { keep: [good, good, good] });
  t.deepEqual(half, await vit.classify(images, { keep: Int32Array.of(1, 2, 1, 2, 1, 2) }));
});
