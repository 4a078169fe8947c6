/** ONNX models: what onnxruntime computes with them against the golden data and against our own core. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  convertCheckpoint,
  MaskedAutoencoder,
  PatchRanker,
  readImages,
  Trainer,
  type ConvertOptions,
  type ImageBatch,
} from '../lib/index.js';
import { modelType } from '../lib/onnx/schema.js';
import { ltrp } from './support/command.js';
import { isWithin } from './support/compare.js';
import { makeImages, oneStep } from './support/lifecycle-models.js';
import { smallMae, writeRanker } from './support/models.js';
import { openOnnx, type OnnxModel } from './support/onnx.js';
import { withGolden } from './support/golden.js';
import { fixtures, golden, temporaryFolder } from './support/paths.js';
import { Tensors } from './support/safetensors.js';
import {
  decoderInput,
  readWeights,
  sameBytes,
  withoutToken,
  writeTensors,
} from './support/weights.js';

const folder = join(fixtures, 'golden-small');
const expected = new Tensors(join(folder, 'expected.safetensors'));
/** Of two float32 computations in different orders, relative to the largest value; as for the golden data. */
const tolerance = (values: Float32Array): { absolute: number } => ({
  absolute: 1e-4 * values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1),
});

const goldenImages = (): Promise<ImageBatch> =>
  readImages([join(folder, 'image-0.png'), join(folder, 'image-1.png')], {
    size: 112,
    fit: 'none',
  });

async function exported(
  t: ExecutionContext,
  source: string,
  options: ConvertOptions,
): Promise<OnnxModel & { files: string[] }> {
  const output = join(await temporaryFolder(t), 'model.onnx');
  const { files } = await convertCheckpoint(source, output, options);
  return { files, ...(await openOnnx(files)) };
}

async function loadMae(t: ExecutionContext, source: string): Promise<MaskedAutoencoder> {
  const mae = await MaskedAutoencoder.load(source);
  t.teardown(() => {
    mae.dispose();
  });
  return mae;
}

const visibleTensor = (ids: Int32Array, images: number) => ({
  data: ids,
  shape: [images, ids.length / images],
});

test('reconstruct: the golden predictions, and those of the core', async (t) => {
  const model = await exported(t, smallMae, { kind: 'mae' });
  t.deepEqual([model.inputs, model.outputs], [['images', 'visible'], ['predictions']]);
  const images = await goldenImages();
  const ids = expected.ids('ids_keep').data;
  const { data, shape } = await model.run({ images, visible: visibleTensor(ids, 2) });
  t.deepEqual(shape, expected.f32('anchor').shape);
  isWithin(t, data, expected.f32('anchor').data, { absolute: 1e-4 }, 'anchor');

  // Another number of images and of visible patches, with the same file.
  const mae = await loadMae(t, smallMae);
  const one: ImageBatch = { data: images.data.subarray(0, 3 * 112 * 112), shape: [1, 3, 112, 112] };
  const own = await mae.reconstruct(one, { maskRatio: 0.5, seed: 3 });
  t.is(own.visible.length, 24);
  const ran = await model.run({ images: one, visible: visibleTensor(own.visible, 1) });
  isWithin(t, ran.data, own.patches, tolerance(own.patches), '24 visible');
});

test('encoder: the golden latents', async (t) => {
  const model = await exported(t, smallMae, { kind: 'mae', part: 'encoder' });
  t.deepEqual([model.inputs, model.outputs], [['images', 'visible'], ['latent']]);
  const visible = visibleTensor(expected.ids('ids_keep').data, 2);
  const { data, shape } = await model.run({ images: await goldenImages(), visible });
  t.deepEqual(shape, expected.f32('latent').shape);
  isWithin(t, data, expected.f32('latent').data, { absolute: 1e-4 }, 'latent');
});

test('decoder: the golden leave-one-out scores', async (t) => {
  const model = await exported(t, smallMae, { kind: 'mae', part: 'decoder' });
  t.deepEqual([model.inputs, model.outputs], [['tokens'], ['predictions']]);
  const ids = expected.ids('ids_keep').data;
  const weights = await readWeights(smallMae, 'mae');
  const tokens = decoderInput(weights, expected.f32('latent').data, ids, 2);
  const anchor = await model.run({ tokens });
  isWithin(t, anchor.data, expected.f32('anchor').data, { absolute: 1e-4 }, 'anchor');

  const [, patches, values] = anchor.shape as [number, number, number];
  const seen = ids.length / 2;
  const scores: number[] = [];
  for (let image = 0; image < 2; image++) {
    const visible = [...ids.subarray(image * seen, (image + 1) * seen)];
    for (const left of visible) {
      const variant = await model.run({ tokens: withoutToken(tokens, image, left + 1) });
      t.deepEqual(variant.shape, [1, patches - 1, values]);
      let sum = 0;
      for (let patch = 0; patch < patches; patch++) {
        if (visible.includes(patch)) continue;
        const row = patch < left ? patch : patch - 1;
        for (let i = 0; i < values; i++) {
          const was = anchor.data[(image * patches + patch) * values + i]!;
          sum += Math.abs(was - variant.data[row * values + i]!);
        }
      }
      scores.push(sum / (patches - seen) / values);
    }
  }
  const reference = expected.f64('score_decoder_l1_f64').data;
  isWithin(t, scores, reference, { relative: 1e-4 }, 'score_decoder_l1');
});

for (const head of ['cls', 'token'] as const) {
  test(`ranker with a ${head} head: the logits of the core`, async (t) => {
    const source = await writeRanker(join(await temporaryFolder(t), 'ranker.safetensors'), head);
    const model = await exported(t, source, { kind: 'ranker' });
    t.deepEqual([model.inputs, model.outputs], [['images'], ['logits']]);
    await using ranker = await PatchRanker.load(source);
    for (const count of [1, 3]) {
      const images = makeImages(count, 112);
      const { logits, shape } = await ranker.rank(images);
      const ran = await model.run({ images });
      t.deepEqual(ran.shape, [...shape]);
      isWithin(t, ran.data, logits, tolerance(logits), `${count} images`);
    }
  });
}

test("'tiny': the core's results", async (t) => {
  const images = makeImages(1, 224);
  await using ranker = await PatchRanker.load('tiny');
  const { logits } = await ranker.rank(images);
  const rankerModel = await exported(t, 'tiny', { kind: 'ranker' });
  isWithin(t, (await rankerModel.run({ images })).data, logits, tolerance(logits), 'logits');

  const mae = await loadMae(t, 'tiny');
  const { patches, visible } = await mae.reconstruct(images, { seed: 5 });
  const maeModel = await exported(t, 'tiny', { kind: 'mae' });
  const ran = await maeModel.run({ images, visible: visibleTensor(visible, 1) });
  isWithin(t, ran.data, patches, tolerance(patches), 'predictions');
});

withGolden('every naming gives the same model', async (t) => {
  const out = await temporaryFolder(t);
  const reference = join(out, 'hf-v5.onnx');
  await convertCheckpoint(smallMae, reference, { kind: 'mae' });
  for (const name of ['mae-official.pth', 'ltrp-reference.pth', 'hf-hub']) {
    const output = join(out, `${name}.onnx`);
    await convertCheckpoint(join(golden, 'small', name), output, { kind: 'mae' });
    t.true(await sameBytes(output, reference), name);
  }
});

withGolden("the golden ranker's logits", async (t) => {
  const model = await exported(t, join(golden, 'small', 'ltrp-reference.pth'), { kind: 'ranker' });
  const wanted = new Tensors(join(golden, 'small', 'expected.safetensors')).f32('ranker_full');
  const { data, shape } = await model.run({ images: await goldenImages() });
  t.deepEqual(shape, wanted.shape);
  isWithin(t, data, wanted.data, { absolute: 1e-4 }, 'ranker_full');
});

test('a grid that is not square', async (t) => {
  const source = join(await temporaryFolder(t), 'wide.safetensors');
  const trainer = await Trainer.create({
    kind: 'pretrain',
    model: {
      imageHeight: 24,
      imageWidth: 40,
      patchSize: 8,
      encoder: { dim: 32, depth: 1, heads: 2, mlpDim: 48 },
      decoder: { dim: 24, depth: 1, heads: 3, mlpDim: 40 },
      layerNormEps: 1e-3,
      normalizedTarget: true,
      mean: [0.5, 0.5, 0.5],
      std: [0.25, 0.25, 0.25],
    },
    ...oneStep,
  });
  await trainer.exportModel(source, 'float32');
  trainer.dispose();
  const data = makeImages(2, 40).data.subarray(0, 2 * 3 * 24 * 40);
  const images: ImageBatch = { data, shape: [2, 3, 24, 40] };
  const mae = await loadMae(t, source);
  const { patches, visible } = await mae.reconstruct(images, { maskRatio: 0.6 });
  const model = await exported(t, source, { kind: 'mae' });
  const ran = await model.run({ images, visible: visibleTensor(visible, 2) });
  isWithin(t, ran.data, patches, tolerance(patches), 'predictions');
});

test('weights beside the model: the same results, aligned, nothing embedded', async (t) => {
  const inside = await exported(t, smallMae, { kind: 'mae' });
  const outside = await exported(t, smallMae, { kind: 'mae', externalDataAbove: 1_000_000 });
  t.is(inside.files.length, 1);
  t.deepEqual(outside.files, [outside.files[0]!, `${outside.files[0]!}.data`]);
  t.true((await stat(outside.files[0]!)).size < 100_000);
  const feeds = {
    images: await goldenImages(),
    visible: visibleTensor(expected.ids('ids_keep').data, 2),
  };
  t.deepEqual((await outside.run(feeds)).data, (await inside.run(feeds)).data);

  const message = modelType.decode(await readFile(outside.files[0]!)) as unknown as {
    graph: { initializer: { name: string; external_data: { key: string; value: string }[] }[] };
  };
  const places = message.graph.initializer
    .filter(({ external_data: place }) => place.length > 0)
    .map(({ external_data: place }) => new Map(place.map(({ key, value }) => [key, value])));
  t.true(places.length > 20);
  let end = 0;
  for (const place of places) {
    t.is(place.get('location'), 'model.onnx.data');
    const offset = Number(place.get('offset'));
    t.is(offset % 4096, 0);
    t.true(offset >= end && offset - end < 4096, 'no overlaps, no holes');
    end = offset + Number(place.get('length'));
  }
  t.is((await stat(outside.files[1]!)).size, end);
});

test('an encoder alone exports as encoder, and is refused as anything else', async (t) => {
  const out = await temporaryFolder(t);
  const { tensors } = await readWeights(smallMae, 'mae');
  const kept = Object.entries(tensors).filter(([name]) => !/^(decoder|mask_token)/.test(name));
  const source = join(out, 'encoder.safetensors');
  await writeTensors(source, Object.fromEntries(kept));
  const config = { img_size: 112, patch_size: 16, embed_dim: 96, depth: 3, num_heads: 3 };
  await writeFile(join(out, 'config.json'), JSON.stringify({ ...config, mlp_ratio: 4 }));
  const model = await exported(t, source, { kind: 'mae', part: 'encoder' });
  const visible = visibleTensor(expected.ids('ids_keep').data, 2);
  const { data } = await model.run({ images: await goldenImages(), visible });
  isWithin(t, data, expected.f32('latent').data, { absolute: 1e-4 }, 'latent');
  for (const part of [undefined, 'decoder'] as const) {
    await t.throwsAsync(convertCheckpoint(source, join(out, 'x.onnx'), { kind: 'mae', part }), {
      code: 'ERR_LTRP_CHECKPOINT_CONTENT',
      message: /encoder only/,
    });
  }
  t.false(existsSync(join(out, 'x.onnx')));
});

test('a runtime refuses what the graph does not take', async (t) => {
  const model = await exported(t, smallMae, { kind: 'mae' });
  const images = await goldenImages();
  const visible = visibleTensor(expected.ids('ids_keep').data, 2);
  const smaller = { data: new Float32Array(2 * 3 * 96 * 96), shape: [2, 3, 96, 96] };
  await t.throwsAsync(model.run({ images: smaller, visible }));
  await t.throwsAsync(model.run({ images }));
  await t.throwsAsync(
    model.run({ images, visible: { data: Int32Array.of(49, 1), shape: [2, 1] } }),
  );
  await t.throwsAsync(
    model.run({ images, visible: { data: Int32Array.of(1, 2, 3), shape: [3, 1] } }),
  );
  await t.notThrowsAsync(model.run({ images, visible }));
});

test('options that make no sense are refused, and nothing is written', async (t) => {
  const out = await temporaryFolder(t);
  const refused: [string, Record<string, unknown>, RegExp][] = [
    ['x.pb', {}, /\.safetensors or \.onnx/],
    ['x.onnx', { to: 'safetensors' }, /must end in \.safetensors/],
    ['x.safetensors', { to: 'onnx' }, /must end in \.onnx/],
    ['x.onnx', { to: 'tflite' }, /to must be one of/],
    ['x.onnx', { part: 'head' }, /part must be one of/],
    ['x.onnx', { type: 'float16' }, /float32/],
    ['x.onnx', { externalDataAbove: -1 }, /externalDataAbove/],
    ['x.onnx', { externalDataAbove: 2 ** 31 }, /externalDataAbove/],
    ['x.onnx', { overwrite: 1 }, /overwrite must be true or false/],
    ['x.safetensors', { part: 'encoder' }, /for ONNX/],
    ['x.onnx', { kind: 'ranker', part: 'encoder' }, /exported whole/],
  ];
  for (const [name, options, message] of refused) {
    const call = convertCheckpoint(smallMae, join(out, name), {
      kind: 'mae',
      ...options,
    });
    await t.throwsAsync(call, { code: 'ERR_LTRP_INVALID_ARGUMENT', message });
  }
  await t.throwsAsync(convertCheckpoint(smallMae, join(out, 'x.onnx'), { kind: 'ranker' }), {
    code: 'ERR_LTRP_CHECKPOINT_CONTENT',
  });
  await t.throwsAsync(convertCheckpoint(smallMae, join(out, 'no', 'x.onnx'), { kind: 'mae' }), {
    code: 'ERR_LTRP_FILE_WRITE',
  });
  t.deepEqual(await readdir(out), []);
});

test('files that are there are replaced only on request', async (t) => {
  const out = await temporaryFolder(t);
  const [onnx, safetensors] = [join(out, 'm.onnx'), join(out, 'm.safetensors')];
  for (const file of [onnx, safetensors]) {
    await writeFile(file, 'mine');
    await t.throwsAsync(convertCheckpoint(smallMae, file, { kind: 'mae' }), {
      code: 'ERR_LTRP_FILE_EXISTS',
      message: /exists already.*overwrite: true/,
    });
    t.is(await readFile(file, 'utf8'), 'mine');
    await convertCheckpoint(smallMae, file, { kind: 'mae', overwrite: true });
    t.true((await stat(file)).size > 1e6);
  }
  // The data file counts as well.
  const other = join(out, 'other.onnx');
  await writeFile(`${other}.data`, 'mine');
  const external = { kind: 'mae', externalDataAbove: 0 } as const;
  await t.throwsAsync(convertCheckpoint(smallMae, other, external), {
    code: 'ERR_LTRP_FILE_EXISTS',
    message: /other\.onnx\.data/,
  });
  t.is(await readFile(`${other}.data`, 'utf8'), 'mine');
  const { files } = await convertCheckpoint(smallMae, other, { ...external, overwrite: true });
  await t.notThrowsAsync(openOnnx(files));
  t.deepEqual((await readdir(out)).sort(), [
    'm.onnx',
    'm.safetensors',
    'other.onnx',
    'other.onnx.data',
  ]);
});

test('a failure or an abort leaves nothing behind', async (t) => {
  const out = await temporaryFolder(t);
  const reason = new Error('enough');
  const output = join(out, 'x.onnx');
  const signal = AbortSignal.abort(reason);
  t.is(await t.throwsAsync(convertCheckpoint(smallMae, output, { kind: 'mae', signal })), reason);
  const controller = new AbortController();
  const running = convertCheckpoint(smallMae, output, {
    kind: 'mae',
    externalDataAbove: 0,
    signal: controller.signal,
  });
  // The first file under a temporary name: weights are being written.
  while ((await readdir(out)).length === 0) await new Promise(setImmediate);
  controller.abort(reason);
  t.is(await t.throwsAsync(running), reason);
  t.deepEqual(await readdir(out), []);
  // A folder in the place of the data file: the old model stays, the new one must not stand there alone.
  await mkdir(`${output}.data`);
  await writeFile(output, 'mine');
  const blocked = { kind: 'mae', externalDataAbove: 0, overwrite: true } as const;
  await t.throwsAsync(convertCheckpoint(smallMae, output, blocked), {
    code: 'ERR_LTRP_FILE_WRITE',
  });
  t.deepEqual((await readdir(out)).sort(), ['x.onnx', 'x.onnx.data']);
  t.is(await readFile(output, 'utf8'), 'mine');
});

test('the command writes ONNX', async (t) => {
  const out = await temporaryFolder(t);
  const output = join(out, 'decoder.onnx');
  const args = ['convert', smallMae, output, '--kind', 'mae', '--part', 'decoder'];
  const first = await ltrp([...args, '--to', 'onnx', '--json']);
  t.is(first.code, 0, first.stderr);
  const outcome = JSON.parse(first.stdout) as { bytes: number; files: string[] };
  t.deepEqual(outcome.files, [output]);
  t.is(outcome.bytes, (await stat(output)).size);
  const again = await ltrp(args);
  t.is(again.code, 1);
  t.regex(again.stderr, /ERR_LTRP_FILE_EXISTS/);
  const forced = await ltrp([...args, '--external-data', '--force']);
  t.is(forced.code, 0, forced.stderr);
  t.regex(forced.stdout, /decoder\.onnx and .*decoder\.onnx\.data/);
  await t.notThrowsAsync(openOnnx([output, `${output}.data`]));
  const wrong = await ltrp(['convert', smallMae, output, '--kind', 'mae', '--part', 'tail']);
  t.is(wrong.code, 2);
});
