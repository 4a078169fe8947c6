/** The classifier on all and on kept patches, and what chooses them, through the public API. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  convertCheckpoint,
  MaskedAutoencoder,
  PatchRanker,
  readImages,
  selectors,
  VisionTransformer,
  type ImageBatch,
  type SelectorOptions,
} from '../lib/index.js';
import { isWithin } from './support/compare.js';
import { withGolden } from './support/golden.js';
import { golden, hasGolden, temporaryFolder } from './support/paths.js';
import { Tensors } from './support/safetensors.js';

const downstream = join(golden, 'downstream');
const expected = hasGolden
  ? new Tensors(join(downstream, 'classifier.safetensors'))
  : (undefined as never);

const paths = [0, 1, 2, 3].map((i) => join(golden, 'full', `image-${i}.png`));
const readAll = (): Promise<ImageBatch> => readImages(paths, { size: 224, fit: 'stretch' });

for (const [file, prefix, pooling] of [
  ['mae-finetuned.pth', 'mae', 'mean'],
  ['ltrp-classifier.pth', 'ltrp', 'cls'],
] as const) {
  withGolden(`${file}: logits on all patches and on kept ones`, async (t) => {
    await using vit = await VisionTransformer.load(join(downstream, file), { device: 'cpu' });
    t.like(vit.config, { classes: 10, pooling, imageSize: 224, patchSize: 16 });
    t.is(vit.config.encoder.heads, 3);
    const images = await readAll();
    for (const kept of ['full', '147', '98', '49', '19', '1']) {
      const keep = kept === 'full' ? undefined : expected.ids(`keep_${kept}`).data;
      const { logits, shape } = await vit.classify(images, { keep });
      t.deepEqual(shape, [4, 10]);
      isWithin(
        t,
        logits,
        expected.f64(`${prefix}_logits_${kept}_f64`).data,
        { absolute: 1e-4 },
        kept,
      );
    }
  });
}

withGolden('the order of kept patches and the rest of the batch change no bit', async (t) => {
  await using vit = await VisionTransformer.load(join(downstream, 'mae-finetuned.pth'), {
    device: 'cpu',
  });
  const images = await readAll();
  const keep = expected.ids('keep_49').data;
  const { logits } = await vit.classify(images, { keep });
  const turned = Int32Array.from({ length: keep.length }, (_, i) => {
    const row = Math.floor(i / 49);
    return keep[row * 49 + 48 - (i % 49)] as number;
  });
  t.deepEqual((await vit.classify(images, { keep: turned })).logits, logits);
  const alone = {
    data: images.data.slice(0, 3 * 224 * 224),
    shape: [1, 3, 224, 224] as const,
  };
  const first = await vit.classify(alone, { keep: keep.slice(0, 49) });
  t.deepEqual(first.logits, logits.slice(0, 10));
  const every = Int32Array.from({ length: 4 * 196 }, (_, i) => 195 - (i % 196));
  t.deepEqual(
    (await vit.classify(images, { keep: every })).logits,
    (await vit.classify(images)).logits,
  );
});

withGolden('the best classes, embeddings, and a share of the patches', async (t) => {
  await using vit = await VisionTransformer.load(join(downstream, 'ltrp-classifier.pth'), {
    device: 'cpu',
  });
  const images = await readAll();
  const { logits, top } = await vit.classify(images, { topK: 3 });
  for (let image = 0; image < 4; image++) {
    const row = Array.from(logits.subarray(image * 10, image * 10 + 10));
    const order = row.map((_, i) => i).sort((a, b) => row[b]! - row[a]!);
    t.deepEqual(Array.from(top!.subarray(image * 3, image * 3 + 3)), order.slice(0, 3));
  }
  t.is((await vit.classify(images)).top, undefined);

  const { embeddings, shape } = await vit.embed(images);
  t.deepEqual(shape, [4, 48]);
  t.is(embeddings.length, 4 * 48);

  const grid = new Tensors(join(downstream, 'selectors.safetensors')).ids('grid_98').data;
  const keep = Int32Array.from({ length: 4 * 98 }, (_, i) => grid[i % 98] as number);
  const spread = await vit.classify(images, { keepRatio: 0.5 });
  t.deepEqual(spread.logits, (await vit.classify(images, { keep })).logits);
  const lively = await vit.classify(images, { keepRatio: 0.5, selector: 'gradient' });
  t.notDeepEqual(lively.logits, spread.logits);
});

withGolden('what cannot be kept is refused', async (t) => {
  await using vit = await VisionTransformer.load(join(downstream, 'mae-finetuned.pth'), {
    device: 'cpu',
  });
  const data = new Float32Array(2 * 3 * 224 * 224);
  const images = { data, shape: [2, 3, 224, 224] as const };
  const refused = async (options: object, message: RegExp): Promise<void> => {
    await t.throwsAsync(vit.classify(images, options), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  };
  await refused({ keep: Int32Array.of(1, 2, 3, 3) }, /distinct.*got 3 twice for image 1/);
  await refused({ keep: Int32Array.of(1, 196) }, /from 0 to 195.*got 196 for image 1/);
  await refused({ keep: Int32Array.of(-1, 5) }, /got -1 for image 0/);
  await refused({ keep: new Int32Array(0) }, /at least 1.*got 0 ids/);
  await refused({ keep: Int32Array.of(1, 2, 3) }, /same number.*2 images; got 3 ids/);
  await refused({ keep: [1, 2] }, /keep must be an? Int32Array/);
  await refused({ keep: Int32Array.of(1, 2), keepRatio: 0.5 }, /exclude each other/);
  await refused({ keepRatio: 0 }, /keepRatio must be in \(0, 1\]; got 0/);
  await refused({ selector: 'gradient' }, /keepRatio must be given with selector.*got none/);
  await refused(
    { keepRatio: 0.5, selector: 'evit' },
    /pooling 'cls'.*'evit'; got a vision transformer whose pooling is 'mean'/,
  );
  await refused(
    { keepRatio: 0.5, selector: 'ranker', selectorModel: vit },
    /model must be a ranker .*; got a vision transformer/,
  );
  await refused({ keepRatio: 0.5, selector: 'best' }, /selector must be one of 'centre'/);
  await refused({ topK: 11 }, /topK must be in \[1, 10\]; got 11/);
  await refused({ keeps: 1 }, /options has no "keeps"/);
  t.is((await vit.classify(images, { keep: Int32Array.of(7, 7) })).logits.length, 20);
});

withGolden('an autoencoder embeds and does not classify', async (t) => {
  const path = join(golden, 'full', 'mae-official.pth');
  await using vit = await VisionTransformer.load(path, { device: 'cpu' });
  t.is(vit.config.classes, 0);
  t.true(vit.notes.some((note) => note.includes('not classify')));
  const images = await readAll();
  t.deepEqual((await vit.embed(images, { keepRatio: 0.25 })).shape, [4, 96]);
  await t.throwsAsync(vit.classify(images), { code: 'ERR_LTRP_CHECKPOINT_CONTENT' });
  await t.throwsAsync(VisionTransformer.load('tiny'), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /no model .*tiny; give a \.safetensors or \.pth file, or a folder/,
  });
  const own = join(await temporaryFolder(t), 'mae.safetensors');
  await convertCheckpoint(path, own, { kind: 'mae' });
  await using same = await VisionTransformer.load(own, { device: 'cpu' });
  t.deepEqual(same.config, vit.config);
  t.true(same.notes.some((note) => note.includes('not classify')));
  t.deepEqual(await same.embed(images), await vit.embed(images));
});

withGolden('converted, it is the same classifier; ONNX is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const output = join(folder, 'classifier.safetensors');
  const { naming } = await convertCheckpoint(join(downstream, 'ltrp-classifier.pth'), output, {
    kind: 'classifier',
  });
  t.is(naming, 'official');
  await using vit = await VisionTransformer.load(output, { device: 'cpu' });
  t.deepEqual(vit.notes, []);
  const { logits } = await vit.classify(await readAll());
  isWithin(t, logits, expected.f64('ltrp_logits_full_f64').data, { absolute: 1e-4 }, 'converted');
  await t.throwsAsync(
    convertCheckpoint(output, join(folder, 'classifier.onnx'), { kind: 'classifier' }),
    { code: 'ERR_LTRP_INVALID_ARGUMENT', message: /ONNX models are written of kind/ },
  );
  // Without the config.json beside it nobody knows the heads of such a width.
  await copyFile(join(downstream, 'ltrp-classifier.pth'), join(folder, 'lone.pth'));
  await t.throwsAsync(VisionTransformer.load(join(folder, 'lone.pth')), {
    code: 'ERR_LTRP_CHECKPOINT_CONTENT',
    message: /how many attention heads/,
  });
  await writeFile(join(folder, 'config.json'), '{"num_heads": 3}');
  await (await VisionTransformer.load(join(folder, 'lone.pth')))[Symbol.asyncDispose]();
});

withGolden('selectors have the scores of the goldens, from floats and from bytes', async (t) => {
  const maps = new Tensors(join(downstream, 'selectors.safetensors'));
  const images = await readAll();
  for (const name of ['variance', 'gradient', 'contrast'] as const) {
    const { scores, shape } = await selectors[name].score(images);
    t.deepEqual(shape, [4, 196]);
    isWithin(t, scores, maps.f64(`map_${name}`).data, { absolute: 1e-6 }, name);
  }
  const { scores } = await selectors.grid.score(images, { keep: 49 });
  const chosen = Array.from(scores.keys()).filter((i) => i < 196 && scores[i] === 1);
  t.deepEqual(chosen, Array.from(maps.ids('grid_49').data));
  await t.throwsAsync(selectors.grid.score(images), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
    message: /keep must be in \[1, 196\]; got 0/,
  });
});

withGolden('selectors that ask a model have the scores of the goldens', async (t) => {
  const maps = new Tensors(join(downstream, 'selectors.safetensors'));
  const images = await readAll();
  const device = 'cpu';
  await using mae = await MaskedAutoencoder.load(join(golden, 'full', 'mae-official.pth'), {
    device,
  });
  await using vit = await VisionTransformer.load(join(downstream, 'ltrp-classifier.pth'), {
    device,
  });
  const classes = maps.ids('gradcam_class').data;
  for (const [name, options, key] of [
    ['mae-attention', { model: mae }, 'encoder_cls_attention_f64'],
    ['rollout', { model: mae }, 'encoder_rollout_f64'],
    ['rollout', { model: vit }, 'classifier_rollout_f64'],
    ['cls-attention', { model: vit }, 'classifier_cls_attention_f64'],
    ['grad-cam', { model: vit, classes }, 'gradcam_f64'],
  ] as const) {
    const { scores, shape } = await selectors[name].score(images, options);
    t.deepEqual(shape, [4, 196]);
    isWithin(t, scores, maps.f64(key).data, { absolute: 1e-5 }, key);
  }
  for (const name of ['evit', 'tome'] as const) {
    const { scores } = await selectors[name].score(images, { model: vit, keep: 98 });
    const kept = maps.ids(`${name}_kept_98`).data;
    for (let image = 0; image < 4; image++) {
      const row = scores.subarray(image * 196, image * 196 + 196);
      const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
      const sorted = (ids: Iterable<number>): number[] => [...ids].sort((a, b) => a - b);
      t.deepEqual(sorted(order.slice(0, 98)), sorted(kept.subarray(image * 98, image * 98 + 98)));
    }
  }
  // The classifier's own selectors choose for it.
  const { scores } = await selectors['cls-attention'].score(images, { model: vit });
  const keep = Int32Array.from({ length: 4 }, (_, image) =>
    scores
      .subarray(image * 196, image * 196 + 196)
      .reduce((best, score, i, row) => (score > row[best]! ? i : best), 0),
  );
  t.deepEqual(
    (await vit.classify(images, { keepRatio: 1 / 196, selector: 'cls-attention' })).logits,
    (await vit.classify(images, { keep })).logits,
  );
});

withGolden(
  'the ranker and the teacher are selectors, and what they cannot be asked is refused',
  async (t) => {
    const images = await readImages(paths.slice(0, 2), { size: 64, fit: 'stretch' });
    await using ranker = await PatchRanker.load('tiny');
    await using mae = await MaskedAutoencoder.load('tiny');
    const { logits, shape } = await ranker.rank(images);
    t.deepEqual(await selectors.ranker.score(images, { model: ranker }), { scores: logits, shape });
    const { mean } = await mae.scoreMap(images, { seed: 3 });
    t.deepEqual((await selectors.teacher.score(images, { model: mae, seed: 3 })).scores, mean);
    const diverse = await selectors['ranker-diverse'].score(images, { model: ranker, keep: 5 });
    t.is(new Set(diverse.scores.subarray(0, 16)).size, 16);

    const refused = async (options: SelectorOptions, message: RegExp): Promise<void> => {
      await t.throwsAsync(selectors['ranker-diverse'].score(images, options), {
        code: 'ERR_LTRP_INVALID_ARGUMENT',
        message,
      });
    };
    await refused({ model: ranker }, /keep must be in \[1, 16\]; got 0/);
    await refused({ model: ranker, keep: 0 }, /keep must be in \[1, 16\]; got 0/);
    await refused({ model: mae, keep: 1 }, /model must be a ranker .*; got a masked autoencoder/);
    await refused({ keep: 1 }, /model must be a ranker .*; got none/);
    await refused({ model: { config: ranker.config }, keep: 1 }, /got none/);
    await refused({ model: 'tiny' as never, keep: 1 }, /model must be a loaded model.*got "tiny"/);
    await t.throwsAsync(selectors.variance.score(images, { keep: 0 }), {
      message: /keep must be in \[1, 16\]; got 0/,
    });
    await t.throwsAsync(selectors.variance.score(images, { model: 'tiny' as never }), {
      message: /model must be a loaded model, or \{ config \} of one; got "tiny"/,
    });
    ranker.dispose();
    await t.throwsAsync(selectors.ranker.score(images, { model: ranker }), {
      code: 'ERR_LTRP_DISPOSED',
    });
  },
);
