/** The public API: shapes, invariances, refusals, cancelling. */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  convertCheckpoint,
  embeddedModels,
  imageNetMean,
  imageNetStd,
  LtrpError,
  type LtrpErrorCode,
  MaskedAutoencoder,
  PatchRanker,
  rankAgreement,
  rankingLoss,
  readImages,
  selectPatches,
  version,
  type ImageBatch,
  type PixelBatch,
} from '../lib/index.js';
import { isWithin } from './support/compare.js';
import { smallMae, writeRanker } from './support/models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

async function batch(
  count: number,
  [height, width]: readonly [number, number] = [112, 112],
  first = 1,
): Promise<ImageBatch> {
  const sources = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      picture(width, height, 3, first + index)
        .png()
        .toBuffer(),
    ),
  );
  return readImages(sources, { size: [height, width], fit: 'none' });
}

function part({ data, shape }: ImageBatch, index: number): ImageBatch {
  const [, channels, height, width] = shape;
  const length = channels * height * width;
  return { data: data.slice(index * length, (index + 1) * length), shape: [1, 3, height, width] };
}

async function loadMae(t: ExecutionContext): Promise<MaskedAutoencoder> {
  const mae = await MaskedAutoencoder.load(smallMae);
  t.teardown(() => {
    mae.dispose();
  });
  return mae;
}

async function refused(
  t: ExecutionContext,
  call: Promise<unknown>,
  code: LtrpErrorCode,
): Promise<string> {
  const error = await t.throwsAsync<LtrpError>(call, { instanceOf: LtrpError });
  t.is(error.code, code, error.message);
  t.regex(error.message, /^\S[^\n]{10,}[.;)]?$/, 'one sentence');
  return error.message;
}

test('the package says its version and its models', async (t) => {
  const manifest = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as {
    version: string;
  };
  t.is(version, manifest.version);
  t.true(embeddedModels.includes('tiny'));
});

test('config tells the geometry and cannot be changed', async (t) => {
  const { config } = await loadMae(t);
  t.like(config, {
    imageSize: 112,
    imageHeight: 112,
    imageWidth: 112,
    patchSize: 16,
    layerNormEps: 1e-6,
    normalizedTarget: false,
  });
  t.deepEqual(config.grid, [7, 7]);
  t.deepEqual(config.encoder, { dim: 96, depth: 3, heads: 3, mlpDim: 384 });
  t.deepEqual(config.decoder, { dim: 64, depth: 2, heads: 4, mlpDim: 256 });
  t.throws(() => {
    (config as { patchSize: number }).patchSize = 8;
  });
});

test('scores do not depend on the batch, on chunks, or on the run; seeds matter', async (t) => {
  const mae = await loadMae(t);
  const images = await batch(3);
  const noise = Float32Array.from({ length: 3 * 49 }, (_, index) => ((index * 7919) % 1000) / 1000);
  for (const drop of ['decoder', 'encoder', 'both'] as const) {
    const options = { noise, drop, maskRatio: 0.75 };
    const all = await mae.scorePatches(images, options);
    t.deepEqual(all.shape, [3, 12]);
    const again = await mae.scorePatches(images, options);
    t.deepEqual(again.scores, all.scores);
    const chunked = await mae.scorePatches(images, { ...options, memoryBudget: 1 });
    isWithin(t, chunked.scores, all.scores, { relative: 1e-4 }, `${drop}: chunks of one variant`);
    for (let index = 0; index < 3; index++) {
      const one = await mae.scorePatches(part(images, index), {
        ...options,
        noise: noise.slice(index * 49, (index + 1) * 49),
      });
      const expected = all.scores.subarray(index * 12, (index + 1) * 12);
      isWithin(
        t,
        one.scores,
        expected,
        { relative: 1e-4 },
        `${drop}: image ${String(index)} alone`,
      );
    }
  }
  const [a, b, c] = [
    await mae.scorePatches(images, { seed: 5 }),
    await mae.scorePatches(images, { seed: 5 }),
    await mae.scorePatches(images, { seed: 6 }),
  ];
  t.deepEqual(a, b);
  t.notDeepEqual(a.visible, c.visible);
  t.deepEqual(a.shape, [3, 4], 'int(49 * (1 - 0.9))');
  for (const metric of ['l2', 'psnr', 'ssim', 'reach'] as const) {
    const { scores } = await mae.scorePatches(images, { metric });
    t.true(scores.every((score) => Number.isFinite(score) && score >= 0));
    // Maps are rescaled within an image's round, so an image alone has the same map.
    const maps = await mae.scoreMap(images, { metric, rounds: 2 });
    const first = await mae.scoreMap(part(images, 0), { metric, rounds: 2 });
    t.deepEqual(first.mean, maps.mean.slice(0, 49));
    t.deepEqual(first.standardError, maps.standardError.slice(0, 49));
  }
});

test('score maps cover every patch, with standard errors that shrink', async (t) => {
  const mae = await loadMae(t);
  const images = await batch(2, [80, 144]);
  const events: { done: number; total: number }[] = [];
  const rough = await mae.scoreMap(images, {
    rounds: 2,
    maskRatio: 0.75,
    onProgress: (event) => events.push(event),
  });
  t.deepEqual(rough.shape, [2, 5, 9]);
  t.is(rough.mean.length, 90);
  t.true(rough.mean.every((value) => value > 0));
  t.true(rough.standardError.every((value) => value >= 0));
  t.true(events.length > 0);
  t.true(events.every(({ done, total }) => done >= 0 && done <= total));
  const fine = await mae.scoreMap(images, { rounds: 16, maskRatio: 0.75 });
  const sum = (values: Float32Array): number => values.reduce((total, value) => total + value, 0);
  t.true(sum(fine.standardError) < 0.6 * sum(rough.standardError));
  t.deepEqual(await mae.scoreMap(images, { rounds: 2, maskRatio: 0.75 }), rough);
  const single = await mae.scoreMap(part(images, 0), { rounds: 2, maskRatio: 0.75 });
  isWithin(t, single.mean, rough.mean.subarray(0, 45), { relative: 1e-4 }, 'first image alone');
});

test('non-square images and other sizes than the model was made for work', async (t) => {
  const mae = await loadMae(t);
  for (const size of [
    [64, 160],
    [224, 224],
    [16, 320],
  ] as const) {
    const images = await batch(1, size);
    const patches = (size[0] / 16) * (size[1] / 16);
    const { shape } = await mae.reconstruct(images, { maskRatio: 0.5 });
    t.deepEqual(shape, [1, patches, 768]);
    const { latent, shape: tokens } = await mae.encode(images, { maskRatio: 0.5 });
    t.deepEqual(tokens, [1, patches / 2 + 1, 96]);
    t.true(latent.every(Number.isFinite));
  }
});

/** Bytes, and what the models make of them. */
function bytesAndImages(
  count: number,
  height: number,
  width: number,
): { bytes: PixelBatch; images: ImageBatch } {
  const area = height * width;
  const data = Uint8Array.from({ length: count * area * 3 }, (_, i) => (i * 7919 + (i >> 7)) % 256);
  const normalized = new Float32Array(data.length);
  for (const [i, byte] of data.entries()) {
    const channel = i % 3;
    const image = Math.floor(i / (3 * area));
    const pixel = Math.floor((i % (3 * area)) / 3);
    const [mean, std] = [imageNetMean[channel], imageNetStd[channel]];
    normalized[(image * 3 + channel) * area + pixel] = Math.fround(
      Math.fround(Math.fround(byte / 255) - Math.fround(mean as number)) /
        Math.fround(std as number),
    );
  }
  return {
    bytes: { data, shape: [count, height, width, 3] },
    images: { data: normalized, shape: [count, 3, height, width] },
  };
}

test('models take bytes and normalise them themselves', async (t) => {
  const { bytes, images } = bytesAndImages(3, 80, 112);
  const mae = await loadMae(t);
  for (const options of [{}, { drop: 'both' }, { drop: 'encoder', metric: 'ssim' }] as const) {
    const want = await mae.scorePatches(images, options);
    t.deepEqual(await mae.scorePatches(bytes, options), want);
  }
  t.deepEqual(await mae.encode(bytes), await mae.encode(images));
  t.deepEqual(await mae.reconstruct(bytes), await mae.reconstruct(images));
  t.deepEqual(await mae.scoreMap(bytes, { rounds: 1 }), await mae.scoreMap(images, { rounds: 1 }));
  const folder = await temporaryFolder(t);
  const file = await writeRanker(join(folder, 'token.safetensors'), 'token');
  const ranker = await PatchRanker.load(file);
  t.deepEqual(await ranker.rank(bytes), await ranker.rank(images));
  const visible = Int32Array.from([0, 3, 1, 2, 5, 30]);
  t.deepEqual(await ranker.rank(bytes, { visible }), await ranker.rank(images, { visible }));

  const code = 'ERR_LTRP_INVALID_ARGUMENT';
  const { data } = bytes;
  await refused(t, ranker.rank({ data, shape: [3, 3, 80, 112] } as never), code);
  await refused(t, ranker.rank({ data, shape: [2, 80, 112, 3] }), code);
  await refused(t, ranker.rank({ data: data.slice(0, 3 * 8 * 16), shape: [1, 8, 16, 3] }), code);
  const logits = new Float32Array(3 * 35);
  const selected = await selectPatches(images, logits, { keep: 2, patchSize: 16 });
  t.deepEqual(await selectPatches(bytes, logits, { keep: 2, patchSize: 16 }), selected);
  ranker.dispose();
});

test.serial(
  'a result that does not fit in memory is an error, not the end of the process',
  async (t) => {
    const mae = await loadMae(t);
    const images = await batch(40); // more than 4 MiB of patches
    const wanted = globalThis.ArrayBuffer;
    // The constructor throws where V8 cannot allocate.
    const refuse = (): never => {
      throw new RangeError('Array buffer allocation failed');
    };
    try {
      globalThis.ArrayBuffer = refuse as unknown as ArrayBufferConstructor;
      await t.throwsAsync(mae.reconstruct(images), { code: 'ERR_LTRP_OUT_OF_MEMORY' });
    } finally {
      globalThis.ArrayBuffer = wanted;
    }
    t.is((await mae.reconstruct(images)).patches.length > 0, true);
  },
);

test('results can be transferred, small and large ones', async (t) => {
  const folder = await temporaryFolder(t);
  const mae = await loadMae(t);
  const ranker = await PatchRanker.load(
    await writeRanker(join(folder, 'token.safetensors'), 'token'),
  );
  const send = (array: Float32Array | Int32Array | Float64Array): number => {
    const bytes = array.byteLength;
    t.is(structuredClone(array, { transfer: [array.buffer as ArrayBuffer] }).byteLength, bytes);
    t.is(array.byteLength, 0, 'moved, not copied');
    return bytes;
  };
  for (const count of [1, 40]) {
    const images = await batch(count);
    const logits = (await ranker.rank(images)).logits;
    const { patches, visible } = await mae.reconstruct(images);
    const last = { visible: visible.slice(-visible.length / count) };
    const expected = await mae.reconstruct(part(images, count - 1), last);
    isWithin(
      t,
      patches.slice(-expected.patches.length),
      expected.patches,
      { absolute: 1e-5 },
      'last',
    );
    t.is(send(patches) > 4 << 20, count > 1);
    send(visible);
    send((await selectPatches(images, logits, { keep: 9 })).indices);
    send(logits);
    send((await mae.encode(images)).latent);
    send((await mae.scorePatches(images)).scores);
    const map = await mae.scoreMap(part(images, 0), { rounds: 1 });
    send(map.mean);
    send(map.standardError);
  }
  const [lists, items] = [300, 4000] as const;
  const values = Float32Array.from({ length: lists * items }, (_, i) => Math.sin(i));
  t.true(send((await rankingLoss('pointWise', values, values, [lists, items])).gradient) > 4 << 20);
  const agreement = await rankAgreement(values.slice(0, 8), values.slice(8, 16), [2, 4]);
  send(agreement.kendallTau);
  send(agreement.ndcg);
  ranker.dispose();
});

test('token heads rank any grid, CLS heads their own, and selection follows', async (t) => {
  const folder = await temporaryFolder(t);
  const token = await PatchRanker.load(
    await writeRanker(join(folder, 'token.safetensors'), 'token'),
  );
  const cls = await PatchRanker.load(await writeRanker(join(folder, 'cls.safetensors'), 'cls'));
  t.is(token.config.head, 'token');
  t.is(cls.config.head, 'cls');
  const wide = await batch(2, [80, 144]);
  const ranked = await token.rank(wide);
  t.deepEqual(ranked.shape, [2, 45]);
  const alone = await token.rank(part(wide, 1));
  isWithin(t, alone.logits, ranked.logits.subarray(45), { absolute: 1e-5 }, 'batch of one');
  await refused(t, cls.rank(wide), 'ERR_LTRP_INVALID_ARGUMENT');
  t.deepEqual((await cls.rank(await batch(1))).shape, [1, 49]);
  const visible = Int32Array.from([0, 3, 44, 1, 2, 3]);
  const some = await token.rank(wide, { visible });
  t.deepEqual(
    Array.from(some.logits.subarray(0, 45), (value) => value > -Infinity).flatMap((used, id) =>
      used ? [id] : [],
    ),
    [0, 3, 44],
  );
  const own = await cls.rank(await batch(2), { visible });
  t.deepEqual(
    Array.from(own.logits.keys()).filter((id) => own.logits[id]! > -Infinity),
    [...[0, 3, 44], ...[50, 51, 52]],
  );
  // Patches that did not go in are not chosen, neither by score nor for diversity.
  for (const scoreShare of [0, 0.7, 1]) {
    for (const mode of ['default', 'compat'] as const) {
      const all = await selectPatches(wide, some.logits, { keep: 3, scoreShare, mode });
      t.deepEqual(all.indices.slice(0, 3).sort(), visible.subarray(0, 3));
      t.deepEqual(all.indices.slice(3).sort(), visible.subarray(3));
      const two = await selectPatches(wide, some.logits, { keep: 2, scoreShare, mode });
      t.true([0, 1].every((slot) => visible.subarray(0, 3).includes(two.indices[slot]!)));
    }
  }
  const beyond = selectPatches(wide, some.logits, { keep: 4 });
  t.regex(await refused(t, beyond, 'ERR_LTRP_INVALID_ARGUMENT'), /keep .* image 0 has 3 .* got 4/);

  const { indices, shape } = await selectPatches(wide, ranked.logits, { keepRatio: 0.4 });
  t.deepEqual(shape, [2, 18]);
  for (const row of [indices.subarray(0, 18), indices.subarray(18)]) {
    t.deepEqual(
      Array.from(row),
      [...new Set(row)].sort((a, b) => a - b),
      'raster order, distinct',
    );
  }
  const same = await selectPatches(wide, ranked.logits, { keep: 18, patchSize: 16, seed: 0 });
  t.deepEqual(same.indices, indices);
  const byScore = await selectPatches(part(wide, 0), ranked.logits.slice(0, 45), {
    keep: 9,
    scoreShare: 1,
  });
  const best = Array.from(ranked.logits.subarray(0, 45), (logit, id) => ({ logit, id }))
    .sort((a, b) => b.logit - a.logit)
    .slice(0, 9)
    .map(({ id }) => id)
    .sort((a, b) => a - b);
  t.deepEqual(Array.from(byScore.indices), best);
  const here = await selectPatches(wide, ranked.logits, { keep: 18, device: 'cpu' });
  t.deepEqual(here.indices, indices);
  const elsewhere = selectPatches(wide, ranked.logits, { keep: 18, device: 'cuda:9' });
  await refused(t, elsewhere, 'ERR_LTRP_UNSUPPORTED');
  const everything = await selectPatches(wide, ranked.logits, { keepRatio: 1 });
  t.deepEqual(everything.shape, [2, 45]);
  token.dispose();
  cls.dispose();
});

test('losses refuse wrong sizes, and gradients point downhill', async (t) => {
  const predicted = Float32Array.from([0.1, 0.4, -0.2, 0.3, 0, 1]);
  const target = Float32Array.from([1, 2, 3, 3, 2, 1]);
  const shape = [2, 3] as const;
  for (const name of ['pointWise', 'listNet', 'listMle', 'rankNet', 'focusedRank'] as const) {
    const options = name === 'focusedRank' ? { k: 2 } : {};
    const { loss, gradient } = await rankingLoss(name, predicted, target, shape, options);
    const moved = predicted.map((value, index) => value - 0.01 * gradient[index]!);
    const after = await rankingLoss(name, moved, target, shape, options);
    t.true(after.loss < loss, name);
  }
  const call = (...args: unknown[]): Promise<unknown> =>
    (rankingLoss as (...all: unknown[]) => Promise<unknown>)(...args);
  const code = 'ERR_LTRP_INVALID_ARGUMENT';
  await refused(t, call('listMLE', predicted, target, shape), code);
  await refused(t, call('listMle', predicted, target, [3, 3]), code);
  await refused(t, call('listMle', predicted, target.subarray(1), shape), code);
  await refused(t, call('listMle', [1, 2], target, shape), code);
  await refused(t, call('listMle', predicted, target, shape, { k: 0 }), code);
  await refused(t, call('focusedRank', predicted, target, shape), code);
  await refused(t, call('listMle', predicted, target, shape, { noise: new Float32Array(2) }), code);
});

test('wrong arguments are refused in one sentence and the model stays usable', async (t) => {
  const mae = await loadMae(t);
  const images = await batch(2);
  const before = await mae.scorePatches(images);
  const code = 'ERR_LTRP_INVALID_ARGUMENT';
  const score = (batchOf: unknown, options?: unknown): Promise<unknown> =>
    mae.scorePatches(batchOf as ImageBatch, options as object);
  for (const value of [undefined, null, 1, 'cat.jpg', [], {}, { data: images.data }]) {
    await refused(t, score(value), code);
  }
  await refused(t, score({ data: Array.from(images.data), shape: images.shape }), code);
  await refused(t, score({ data: images.data.subarray(1), shape: images.shape }), code);
  await refused(t, score({ data: images.data, shape: [2, 1, 112, 336] }), code);
  await refused(t, score({ data: images.data, shape: [0, 3, 112, 112] }), code);
  await refused(t, score({ data: images.data, shape: [2, 3, 56, 224] }), code);
  for (const pixel of [NaN, Infinity, -Infinity]) {
    const data = images.data.slice();
    data[data.length - 1] = pixel;
    t.regex(await refused(t, score({ data, shape: images.shape }), code), /finite|NaN/i);
  }
  for (const maskRatio of [0, 1, -0.1, 1.5, NaN, '0.5', 0.999]) {
    await refused(t, score(images, { maskRatio }), code);
  }
  for (const seed of [-1, 0.5, 2 ** 53, '1', NaN]) await refused(t, score(images, { seed }), code);
  await refused(t, score(images, { noise: new Float32Array(49) }), code);
  await refused(t, score(images, { noise: new Float64Array(98) }), code);
  for (const visible of [[3, 1], [1, 1], [-1, 2], [1, 49], []]) {
    const ids = Int32Array.from([...visible, ...visible]);
    await refused(t, score(images, { visible: ids }), code);
  }
  await refused(t, score(images, { visible: Int32Array.from([1, 2, 3]) }), code);
  await refused(
    t,
    score(images, { visible: Int32Array.from({ length: 98 }, (_, id) => id % 49) }),
    code,
  );
  await refused(t, score(images, { drop: 'all' }), code);
  await refused(t, score(images, { metric: 'L1' }), code);
  await refused(t, score(images, { memoryBudget: 0 }), code);
  await refused(t, score(images, { onProgress: 1 }), code);
  await refused(t, score(images, 7), code);
  await refused(t, mae.scoreMap(images, { rounds: 0 }), code);
  const logits = new Float32Array(98);
  const select = (...args: unknown[]): Promise<unknown> =>
    (selectPatches as (...all: unknown[]) => Promise<unknown>)(...args);
  await refused(t, select(images, logits, {}), code);
  await refused(t, select(images, logits, { keep: 5, keepRatio: 0.5 }), code);
  await refused(t, select(images, logits, { keep: 50 }), code);
  await refused(t, select(images, logits, { keep: 0 }), code);
  await refused(t, select(images, logits, { keepRatio: 1.1 }), code);
  await refused(t, select(images, logits, { keep: 5, scoreShare: 2 }), code);
  for (const bad of [NaN, Infinity]) {
    const broken = logits.slice().fill(bad, 7, 8);
    t.regex(await refused(t, select(images, broken, { keep: 5 }), code), /value 7/);
  }
  await refused(t, select(images, logits.subarray(1), { keep: 5 }), code);
  await refused(t, select(images, logits.subarray(1), { keep: 5, patchSize: 16 }), code);
  await refused(
    t,
    select(
      images,
      logits.map(() => NaN),
      { keep: 5 },
    ),
    code,
  );
  await refused(t, select(images, logits, { keep: 5, mode: 'fast' }), code);
  await refused(t, select(images, logits, { keep: 5, densityNoise: new Float32Array(3) }), code);
  await refused(t, select(images, undefined, { keep: 5 }), code);
  t.deepEqual(await mae.scorePatches(images), before);
});

test('models that are absent, damaged or not wanted here are refused', async (t) => {
  const folder = await temporaryFolder(t);
  const load = (source: string, options?: object): Promise<unknown> =>
    MaskedAutoencoder.load(source, options);
  t.regex(await refused(t, load(join(folder, 'none.pth')), 'ERR_LTRP_FILE_NOT_FOUND'), /none\.pth/);
  await refused(t, load(''), 'ERR_LTRP_INVALID_ARGUMENT');
  await refused(t, load(3 as never), 'ERR_LTRP_INVALID_ARGUMENT');
  await refused(t, load(smallMae, { precision: 'float8' }), 'ERR_LTRP_INVALID_ARGUMENT');
  for (const device of ['cuda', 'cuda:1']) {
    const message = await refused(t, load(smallMae, { device }), 'ERR_LTRP_UNSUPPORTED');
    t.true(message.includes(device));
  }
  await refused(t, load(smallMae, { device: 'gpu' }), 'ERR_LTRP_INVALID_ARGUMENT');
  const cpu = await MaskedAutoencoder.load(smallMae, { device: 'cpu', precision: 'float32' });
  cpu.dispose();

  const weights = await readFile(join(smallMae, 'model.safetensors'));
  const damaged = async (name: string, bytes: Uint8Array): Promise<string> => {
    await mkdir(join(folder, name));
    await copyFile(join(smallMae, 'config.json'), join(folder, name, 'config.json'));
    await writeFile(join(folder, name, 'model.safetensors'), bytes);
    return join(folder, name);
  };
  const half = await damaged('half', weights.subarray(0, weights.length / 2));
  await refused(t, load(half), 'ERR_LTRP_CHECKPOINT_FORMAT');
  const claim = Buffer.from(weights);
  claim.writeBigUInt64LE(2n ** 60n, 0);
  await refused(t, load(await damaged('claim', claim)), 'ERR_LTRP_CHECKPOINT_FORMAT');
  await refused(t, load(await damaged('empty', new Uint8Array(0))), 'ERR_LTRP_CHECKPOINT_FORMAT');
  const renamed = Buffer.from(weights);
  const at = renamed.indexOf('"vit.layernorm.bias"');
  renamed.write('"vit.layernorm.bogu"', at);
  const message = await refused(
    t,
    load(await damaged('renamed', renamed)),
    'ERR_LTRP_CHECKPOINT_CONTENT',
  );
  t.regex(message, /layernorm|norm\.bias/);
  await refused(t, PatchRanker.load(smallMae), 'ERR_LTRP_CHECKPOINT_CONTENT');
});

test('disposed models refuse calls; disposing twice and await using work', async (t) => {
  const images = await batch(1);
  const mae = await MaskedAutoencoder.load(smallMae);
  const running = mae.scoreMap(images, { rounds: 2 });
  mae.dispose();
  mae.dispose();
  await t.notThrowsAsync(running, 'a call that was queued before is done');
  await refused(t, mae.scorePatches(images), 'ERR_LTRP_DISPOSED');
  await refused(t, mae.encode(images), 'ERR_LTRP_DISPOSED');
  let outside: MaskedAutoencoder | undefined;
  {
    await using inside = await MaskedAutoencoder.load(smallMae);
    outside = inside;
    await inside.encode(images);
  }
  await refused(t, outside.encode(images), 'ERR_LTRP_DISPOSED');
});

test('signals cancel before, while waiting and while running, with their reason', async (t) => {
  const mae = await loadMae(t);
  const images = await batch(8, [224, 224]);
  const reason = new Error('changed my mind');
  const aborted = AbortSignal.abort(reason);
  t.is(await t.throwsAsync(mae.scoreMap(images, { signal: aborted })), reason);
  t.is(await t.throwsAsync(MaskedAutoencoder.load(smallMae, { signal: aborted })), reason);
  const controller = new AbortController();
  const options = { rounds: 100, signal: controller.signal };
  const running = mae.scoreMap(images, options);
  const waiting = mae.reconstruct(images, { signal: controller.signal });
  await sleep(100);
  const started = performance.now();
  controller.abort(reason);
  t.is(await t.throwsAsync(running), reason);
  t.is(await t.throwsAsync(waiting), reason);
  const settled = performance.now() - started;
  t.log(`settled in ${settled.toFixed(1)} ms`);
  t.true(settled < 1000);
  await t.notThrowsAsync(mae.encode(images));
});

test('convertCheckpoint writes what loads to the same results', async (t) => {
  const folder = await temporaryFolder(t);
  const output = join(folder, 'mae.safetensors');
  const conversion = await convertCheckpoint(smallMae, output, { kind: 'mae' });
  t.like(conversion, { naming: 'hf-v5-saved', config: { patchSize: 16, layerNormEps: 1e-6 } });
  const images = await batch(2);
  const [from, to] = [await loadMae(t), await MaskedAutoencoder.load(output)];
  t.deepEqual(to.config, from.config);
  const [a, b] = [await from.reconstruct(images), await to.reconstruct(images)];
  isWithin(t, b.patches, a.patches, { absolute: 1e-5 }, 'float32');
  to.dispose();
  const small = join(folder, 'half.safetensors');
  await convertCheckpoint(smallMae, small, { kind: 'mae', type: 'float16' });
  const half = await MaskedAutoencoder.load(small);
  isWithin(t, (await half.reconstruct(images)).patches, a.patches, { absolute: 2e-2 }, 'float16');
  half.dispose();
  await refused(
    t,
    convertCheckpoint(smallMae, small, { kind: 'ranker', overwrite: true }),
    'ERR_LTRP_CHECKPOINT_CONTENT',
  );
  await refused(
    t,
    convertCheckpoint(smallMae, join(folder, 'x.pth'), { kind: 'mae' }),
    'ERR_LTRP_INVALID_ARGUMENT',
  );
  await refused(
    t,
    convertCheckpoint(smallMae, join(folder, 'no', 'x.safetensors'), { kind: 'mae' }),
    'ERR_LTRP_FILE_WRITE',
  );
  t.true((await readFile(small)).length > 1e6, 'refusals leave the file alone');
});

test("'tiny' loads and works", async (t) => {
  await using mae = await MaskedAutoencoder.load('tiny');
  await using ranker = await PatchRanker.load('tiny');
  t.is(mae.config.imageSize, 224);
  t.is(mae.config.patchSize, 16);
  t.is(ranker.config.head, 'token');
  const images = await batch(1, [224, 224]);
  t.deepEqual((await ranker.rank(images)).shape, [1, 196]);
  const controller = new AbortController();
  const running = mae.scoreMap(images, { rounds: 200, signal: controller.signal });
  await sleep(200);
  const started = performance.now();
  controller.abort();
  await t.throwsAsync(running, { any: true });
  const settled = performance.now() - started;
  t.log(`abort settled in ${settled.toFixed(1)} ms`);
  t.true(settled < 100);
});
