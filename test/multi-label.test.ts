/** Loss and average precision of multi-label classification, against the authors' code and scikit-learn. */
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { asymmetricLoss, meanAveragePrecision } from '../lib/index.js';
import { withGolden } from './support/golden.js';
import { golden, hasGolden } from './support/paths.js';
import { Tensors } from './support/safetensors.js';

const expected = hasGolden
  ? new Tensors(join(golden, 'downstream', 'losses.safetensors'))
  : (undefined as never);

const settings = {
  paper: {},
  noclip: { gammaNegative: 2, gammaPositive: 1, margin: 0 },
  bce: { gammaNegative: 0, gammaPositive: 0, margin: 0 },
};
for (const [name, options] of Object.entries(settings)) {
  withGolden(`asymmetric loss, ${name}: value and gradient`, async (t) => {
    const logits = expected.f32('asl_logits').data;
    const targets = Float32Array.from(expected.ids('asl_targets').data);
    const { loss, gradient } = await asymmetricLoss(logits, targets, [16, 20], options);
    t.true(Math.abs(loss / (expected.f64(`asl_${name}`).data[0] ?? NaN) - 1) < 1e-6);
    const want = expected.f32(`asl_${name}_grad`).data;
    t.true(gradient.every((value, i) => Math.abs(value - (want[i] ?? NaN)) < 1e-6));
    const bytes = await asymmetricLoss(logits, Uint8Array.from(targets), [16, 20], options);
    t.is(bytes.loss, loss);
  });
}

withGolden('average precision with ties, constant scores, and classes of every kind', async (t) => {
  const scores = expected.f32('map_scores').data;
  const targets = Float32Array.from(expected.ids('map_targets').data);
  const { mean, perClass, withoutPositive } = await meanAveragePrecision(
    scores,
    targets,
    [200, 12],
  );
  const want = expected.f64('map_ap').data;
  perClass.forEach((value, c) => {
    const other = want[c] ?? 0;
    t.true(Number.isNaN(other) ? Number.isNaN(value) : Math.abs(value - other) < 1e-12, String(c));
  });
  t.true(Math.abs(mean - (expected.f64('map').data[0] ?? NaN)) < 1e-12);
  t.is(withoutPositive, 1);
});

test('average precision by hand: two thresholds, the second of two images', async (t) => {
  // Falling: the positive at .9 (P = 1), then .5 twice with one positive (P = 2 / 3).
  const scores = Float32Array.of(0.5, 0.9, 0.5);
  const { mean } = await meanAveragePrecision(scores, Uint8Array.of(0, 1, 1), [3, 1]);
  t.true(Math.abs(mean - (1 + 2 / 3) / 2) < 1e-15);
  const none = await meanAveragePrecision(scores, Uint8Array.of(0, 0, 0), [3, 1]);
  t.true(Number.isNaN(none.mean));
  t.is(none.withoutPositive, 1);
});

test('the order of the images does not matter', async (t) => {
  const image = fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 1 }));
  const images = fc.array(image, { minLength: 1, maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(images, async (list) => {
      const of = (order: typeof list): Promise<{ mean: number }> =>
        meanAveragePrecision(
          Float32Array.from(order, ([score]) => score),
          Uint8Array.from(order, ([, label]) => label),
          [order.length, 1],
        );
      const [one, other] = await Promise.all([of(list), of(list.toReversed())]);
      return Object.is(one.mean, other.mean);
    }),
    { numRuns: 50 },
  );
  t.pass();
});

test('gradient of the asymmetric loss where the powers are 0: finite differences', async (t) => {
  const options = { gammaNegative: 0, gammaPositive: 0, margin: 0.1 };
  const logits = Float32Array.of(-2, -0.5, 0.25, 1.5);
  const targets = Uint8Array.of(1, 0, 0, 1);
  const at = async (values: Float32Array): Promise<number> =>
    (await asymmetricLoss(values, targets, [2, 2], options)).loss;
  const { gradient } = await asymmetricLoss(logits, targets, [2, 2], options);
  for (let i = 0; i < logits.length; i++) {
    const step = 2 ** -10;
    const moved = (by: number): Float32Array => logits.map((x, j) => (i === j ? x + by : x));
    const slope = ((await at(moved(step))) - (await at(moved(-step)))) / (2 * step);
    t.true(Math.abs(slope - (gradient[i] ?? NaN)) < 1e-5, String(i));
  }
});

test('where nothing is lost the asymmetric loss is 0, not -0', async (t) => {
  const { loss } = await asymmetricLoss(new Float32Array(4).fill(-50), new Uint8Array(4), [2, 2]);
  t.is(loss, 0);
});

test('what is wrong is named', async (t) => {
  const logits = new Float32Array(4);
  const code = 'ERR_LTRP_INVALID_ARGUMENT';
  const soft = Float32Array.of(0, 1, 0.5, 0);
  await t.throwsAsync(asymmetricLoss(logits, soft, [2, 2]), {
    code,
    message: 'targets must hold 0 and 1; value 2 is 0.5.',
  });
  for (const [options, name] of [
    [{ gammaNegative: -1 }, /^gammaNegative must be at least 0; got -1/],
    [{ gammaPositive: NaN }, /^gammaPositive must be at least 0; got NaN/],
    [{ margin: 1 }, /^margin must be in \[0, 1\); got 1/],
  ] as const) {
    const call = asymmetricLoss(logits, new Uint8Array(4), [2, 2], options);
    await t.throwsAsync(call, { code, message: name });
  }
  await t.throwsAsync(meanAveragePrecision(logits, new Uint8Array(3), [2, 2]), { code });
});
