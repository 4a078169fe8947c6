/** What callers get wrong: signals that are none, options that there are not, promises that were not awaited. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import {
  asymmetricLoss,
  convertCheckpoint,
  imageNetMean,
  imageNetStd,
  keepFor,
  LtrpError,
  MaskedAutoencoder,
  meanAveragePrecision,
  PatchRanker,
  rankAgreement,
  rankFiles,
  rankingLoss,
  readImages,
  selectPatches,
  Trainer,
  type ImageBatch,
} from '../lib/index.js';
import { toLtrpError } from '../lib/errors.js';
import { oneStep } from './support/lifecycle-models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

const photo = join(repository, 'demo', 'photos', 'cat.jpg');

async function refused(
  t: ExecutionContext,
  call: () => unknown,
  message: RegExp,
  what?: string,
): Promise<void> {
  const error = await t.throwsAsync<LtrpError>(
    () => Promise.resolve().then(call),
    { instanceOf: LtrpError },
    what,
  );
  t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT', what);
  t.regex(error.message, message, what);
  t.regex(error.message, /^\S[^\n]{10,}\.$/, 'one sentence');
}

interface Place {
  ranker: PatchRanker;
  mae: MaskedAutoencoder;
  trainer: Trainer;
  images: ImageBatch;
  folder: string;
}

const pretraining = (mae: MaskedAutoencoder) =>
  ({
    kind: 'pretrain',
    model: mae.config,
    ...oneStep,
  }) as unknown as Parameters<typeof Trainer.create>[0];

/** Every call that takes options, with everything right but those. */
const calls: Record<string, (place: Place, options: never) => unknown> = {
  readImages: (_place, options) => readImages([photo], Object.assign(options, { size: 224 })),
  'PatchRanker.load': (_place, options) => PatchRanker.load('tiny', options),
  'MaskedAutoencoder.load': (_place, options) => MaskedAutoencoder.load('tiny', options),
  rank: ({ ranker, images }, options) => ranker.rank(images, options),
  scorePatches: ({ mae, images }, options) => mae.scorePatches(images, options),
  scoreMap: ({ mae, images }, options) => mae.scoreMap(images, options),
  reconstruct: ({ mae, images }, options) => mae.reconstruct(images, options),
  encode: ({ mae, images }, options) => mae.encode(images, options),
  selectPatches: ({ images }, options) =>
    selectPatches(images, new Float32Array(196), Object.assign(options, { keep: 9 })),
  keepFor: (_place, options) =>
    keepFor(
      { logits: new Float32Array(4), grid: { rows: 2, columns: 2 }, width: 8, height: 8 },
      { spatialShape: [1, 1] },
      Object.assign(options, { keep: 1 }),
    ),
  rankingLoss: (_place, options) =>
    rankingLoss('pointWise', new Float32Array(2), new Float32Array(2), [1, 2], options),
  rankAgreement: (_place, options) =>
    rankAgreement(new Float32Array(2), new Float32Array(2), [1, 2], options),
  asymmetricLoss: (_place, options) =>
    asymmetricLoss(new Float32Array(2), new Float32Array(2), [1, 2], options),
  meanAveragePrecision: (_place, options) =>
    meanAveragePrecision(new Float32Array(2), new Float32Array(2), [1, 2], options),
  convertCheckpoint: ({ folder }, options) =>
    convertCheckpoint('tiny', join(folder, 'x.onnx'), Object.assign(options, { kind: 'ranker' })),
  rankFiles: (_place, options) => rankFiles([photo], options).next(),
  'Trainer.create': ({ mae }, options) => Trainer.create(pretraining(mae), options),
  'Trainer.resume': (_place, options) => Trainer.resume('nowhere', options),
  trainStep: ({ trainer }, options) => trainer.trainStep([], options),
  evaluate: ({ trainer }, options) => trainer.evaluate([], options),
  save: ({ trainer, folder }, options) => trainer.save(join(folder, 'state'), options),
  exportModel: ({ trainer, folder }, options) =>
    trainer.exportModel(join(folder, 'model.safetensors'), 'float32', options),
};

test('every call refuses a signal that is none, a misspelled option, and null', async (t) => {
  const mae = await MaskedAutoencoder.load('tiny');
  const place: Place = {
    mae,
    ranker: await PatchRanker.load('tiny'),
    trainer: await Trainer.create(pretraining(mae)),
    images: await readImages([photo], { size: 224 }),
    folder: await temporaryFolder(t),
  };
  const half = { aborted: false, addEventListener: () => undefined };
  for (const [name, call] of Object.entries(calls)) {
    for (const signal of [{}, 7, null, half, new AbortController()]) {
      const options = { signal } as never;
      await refused(
        t,
        () => call(place, options),
        /^signal must be an AbortSignal; got [^\n]+\.$/,
        name,
      );
    }
    const misspelled = { visibel: 5 } as never;
    await refused(
      t,
      () => call(place, misspelled),
      /has no "visibel"; what there is: .*signal/,
      name,
    );
    const takesIt = !['readImages', 'selectPatches', 'keepFor', 'convertCheckpoint'].includes(name);
    if (takesIt)
      await refused(t, () => call(place, null as never), /must be an object; got null/, name);
  }
  for (const model of [place.mae, place.ranker, place.trainer]) model.dispose();
});

test('known options may be undefined', async (t) => {
  const images = await readImages([photo], { size: 224, fit: undefined, signal: undefined });
  const ranker = await PatchRanker.load('tiny', { device: undefined, libtorch: undefined });
  await t.notThrowsAsync(ranker.rank(images, { visible: undefined, onProgress: undefined }));
  ranker.dispose();
});

test('a trainer is refused in one sentence, and takes the embedded teacher by name', async (t) => {
  const mae = await MaskedAutoencoder.load('tiny');
  const create = (...args: unknown[]): Promise<Trainer> =>
    Trainer.create(...(args as Parameters<typeof Trainer.create>));
  await refused(t, () => create(), /^options is missing\.$/);
  await refused(t, () => create({}), /options\.kind must be 'finetune', 'pretrain' or 'ranker'/);
  await refused(t, () => create({ kind: 'mae' }), /options\.kind must be one of/);
  const options = pretraining(mae);
  await refused(t, () => create({ ...options, maskratio: 0.5 }), /has no "maskratio"/);
  const ranker = await PatchRanker.load('tiny');
  const training = {
    ...options,
    kind: 'ranker',
    model: ranker.config,
    loss: 'listMle',
    lossK: null,
    drop: 'decoder',
    metric: 'l1',
    input: 'full',
    start: 'random',
    memoryBudget: 2 ** 29,
  };
  await refused(t, () => create(training), /options\.teacher must be a path or the name/);
  await t.throwsAsync(create({ ...training, teacher: 'small' }), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /'tiny'/,
  });
  const trainer = await create({ ...training, teacher: 'tiny' });
  t.is(trainer.step, 0);
  trainer.dispose();
  mae.dispose();
  ranker.dispose();
});

test('nothing in config can be changed', async (t) => {
  for (const model of [await PatchRanker.load('tiny'), await MaskedAutoencoder.load('tiny')]) {
    const config = model.config as unknown as {
      mean: number[];
      grid: number[];
      encoder: { dim: number };
    };
    t.throws(() => (config.mean[0] = 9), { instanceOf: TypeError });
    t.throws(() => (config.grid[0] = 9), { instanceOf: TypeError });
    t.throws(() => (config.encoder.dim = 9), { instanceOf: TypeError });
    model.dispose();
  }
});

test('a forgotten await is named', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  const images = readImages([photo], { size: 224 });
  const await_ = /promise \(is there an await missing\?\)/;
  await refused(t, () => ranker.rank(images as never), await_);
  const ranking = ranker.rank(await images);
  await refused(t, async () => selectPatches(await images, ranking as never, { keep: 9 }), await_);
  await refused(t, async () => ranker.rank(await images, Promise.resolve({}) as never), await_);
  await ranking;
  ranker.dispose();
});

test('readImages takes file: URLs', async (t) => {
  const options = { size: 64 };
  t.deepEqual(
    await readImages([pathToFileURL(photo)], options),
    await readImages([photo], options),
  );
  const web = new URL('https://example.com/cat.jpg');
  await refused(t, () => readImages([web], options), /sources\[0\] is https.*only file: URLs/);
  const elsewhere = new URL('file://elsewhere/cat.jpg');
  await refused(t, () => readImages([elsewhere], options), /names no file here/);
});

test('patches are selected from bytes as from what they are normalised to', async (t) => {
  const data = new Uint8Array(await picture(64, 96).raw().toBuffer());
  const bytes = { data, shape: [1, 96, 64, 3] as const };
  const logits = Float32Array.from({ length: 24 }, (_, patch) => (patch * 7) % 24);
  for (const [mean, std] of [
    [imageNetMean, imageNetStd],
    [
      [0.1, 0.2, 0.3],
      [1, 0.1, 2],
    ],
  ] as const) {
    const png = await picture(64, 96).png().toBuffer();
    const images = await readImages([png], { size: [96, 64], fit: 'none', mean, std });
    const options = { keep: 9, scoreShare: 0.3 };
    const given = mean === imageNetMean ? options : { ...options, mean, std };
    t.deepEqual(
      await selectPatches(bytes, logits, given),
      await selectPatches(images, logits, options),
    );
    await refused(
      t,
      () => selectPatches(images, logits, { keep: 9, mean }),
      /mean and std are for bytes/,
    );
  }
  await refused(
    t,
    () => selectPatches(bytes, new Float32Array(0), { keep: 9 }),
    /logits must have .* values .*; got 0/,
  );
});

test('errors are known by their members, whatever realm they are of', (t) => {
  const foreign = { code: 'ERR_LTRP_DISPOSED', message: 'It was disposed.' };
  t.like(toLtrpError(foreign), { ...foreign, name: 'LtrpError', cause: foreign });
  t.like(toLtrpError({ code: 'ENOENT', message: 'none' }), {
    code: 'ERR_LTRP_INTERNAL',
    message: 'none',
  });
  for (const thrown of [undefined, null, 'text', 7]) {
    t.like(toLtrpError(thrown), { code: 'ERR_LTRP_INTERNAL', message: String(thrown) });
  }
  const own = new LtrpError('ERR_LTRP_DISPOSED', 'Gone.');
  t.is(toLtrpError(own), own);
});
