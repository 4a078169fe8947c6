/** The measures of evaluations, against the goldens. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { RemovalCurves } from '../lib/evaluation/removal-curves.js';
import { combined, intervalOf, Resamples } from '../lib/evaluation/resamples.js';
import { rankAgreement, readImages, VisionTransformer, type SelectorName } from '../lib/index.js';
import { selectorFlops } from '../lib/plan/selector-flops.js';
import { spearmanBrown } from '../lib/evaluation/teacher-reference.js';
import { halfKept, instanceRecall, objectRecall } from '../lib/evaluation/recall.js';
import { keptCount } from '../scripts/evaluate/shares.js';
import { descending } from '../lib/evaluation/asked.js';
import { withGolden } from './support/golden.js';
import { golden } from './support/paths.js';
import { Tensors } from './support/safetensors.js';

const file = join(golden, 'downstream', 'measures.safetensors');
const measures = existsSync(file) ? new Tensors(file) : (undefined as never);

/** Rows of a matrix. */
function rowsOf<Values extends Float32Array | Float64Array | Int32Array>({
  data,
  shape,
}: {
  data: Values;
  shape: number[];
}): Values[] {
  const [count = 0, length = 0] = shape;
  return Array.from(
    { length: count },
    (_, i) => data.subarray(i * length, (i + 1) * length) as Values,
  );
}

withGolden('orders: tau-b, Spearman and NDCG of the first items, with ties', async (t) => {
  const { data: predicted, shape } = measures.f32('rank_predicted');
  const { data: target } = measures.f32('rank_target');
  const sizes = shape as unknown as readonly [number, number];
  const near = (found: Float64Array, name: string): void => {
    for (const [i, value] of measures.f64(name).data.entries())
      t.true(Math.abs((found[i] ?? NaN) - value) < 1e-9, `${name} ${i}: ${found[i]} ${value}`);
  };
  for (const k of [5, 10, 50]) {
    const found = await rankAgreement(predicted, target, sizes, { k });
    near(found.ndcg, `rank_ndcg_${k}`);
    near(found.kendallTau, 'rank_tau_b');
    near(found.spearman, 'rank_spearman');
  }
  for (const k of [0, 51, 1.5]) {
    await t.throwsAsync(rankAgreement(predicted, target, sizes, { k }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /^k must be/,
    });
  }
});

withGolden('two halves of rounds: Spearman over what both saw, and Spearman-Brown', async (t) => {
  const [even, odd] = rowsOf(measures.f64('split_halves')) as [Float64Array, Float64Array];
  const seen = Array.from(even.keys()).filter((i) => !Number.isNaN(even[i]! + odd[i]!));
  const of = (half: Float64Array): Float32Array => Float32Array.from(seen, (i) => half[i]!);
  const { spearman, kendallTau } = await rankAgreement(of(even), of(odd), [1, seen.length]);
  t.true(Math.abs(spearman[0]! - measures.f64('split_spearman').data[0]!) < 1e-9);
  t.true(Math.abs(kendallTau[0]! - measures.f64('split_tau_b').data[0]!) < 1e-9);
  const whole = measures.f64('split_spearman_brown').data[0]!;
  t.true(Math.abs(spearmanBrown(spearman[0]!) - whole) < 1e-9);
});

withGolden('a paired bootstrap: the difference and its interval', (t) => {
  const draws = rowsOf(measures.ids('bootstrap_draws'));
  const pictures = draws[0]!.length;
  const resamples = new Resamples(pictures, draws.length);
  resamples.times.fill(0);
  for (const [draw, ids] of draws.entries())
    for (const id of ids) (resamples.times[draw * pictures + id] as number) += 1;
  const sample = (name: string) =>
    Array.from(measures.f64(name).data, (value) => ({ value, weight: 1 }));
  const [a, b] = [sample('bootstrap_a'), sample('bootstrap_b')];
  const { value, low, high } = intervalOf(
    combined([
      { drawn: resamples.drawn(a), factor: 1 },
      { drawn: resamples.drawn(b), factor: -1 },
    ]),
  );
  const expected = measures.f64('bootstrap_result').data;
  for (const [i, found] of [value, low, high].entries())
    t.true(Math.abs(found - expected[i]!) < 1e-12, `${i}: ${found} ${expected[i]}`);
});

withGolden(
  'recall: objects, instances, instances and labels half kept, pictures that keep all',
  (t) => {
    const pixels = (name: string): Float64Array[] =>
      rowsOf(measures.ids(name)).map((row) => Float64Array.from(row));
    const [unions, instances] = [pixels('recall_union_pixels'), pixels('recall_instance_pixels')];
    const { data: image } = measures.ids('recall_instance_image');
    const { data: category } = measures.ids('recall_instance_category');
    const found = new Map<string, { value: number; weight: number }>();
    const add = (name: string, { value, weight }: { value: number; weight: number }): void => {
      const sum = found.get(name) ?? { value: 0, weight: 0 };
      found.set(name, { value: sum.value + value, weight: sum.weight + weight });
    };
    const table = rowsOf(measures.f64('recall_table'));
    for (const [row, share] of [0.1, 0.2, 0.25, 0.5].entries()) {
      found.clear();
      for (const [i, scores] of rowsOf(measures.f32('recall_scores')).entries()) {
        const kept = descending(scores).slice(0, keptCount(scores.length, share));
        const own = [...instances.keys()].filter((k) => image[k] === i);
        const each = own.map((k) => instances[k] as Float64Array);
        const labels = [...new Set(own.map((k) => category[k]))].map((label) => {
          const all = new Float64Array(scores.length);
          for (const k of own.filter((k) => category[k] === label))
            for (const [patch, count] of (instances[k] as Float64Array).entries())
              (all[patch] as number) += count;
          return all;
        });
        const objects = { any: unions[i] as Float64Array, each };
        add('0', objectRecall(objects, kept));
        add('2', instanceRecall(objects, kept));
        add('3', halfKept(each, kept));
        const half = halfKept(labels, kept);
        add('4', half);
        add('5', { value: half.value === half.weight ? 1 : 0, weight: 1 });
      }
      for (const [column, { value, weight }] of found) {
        const expected = table[row]?.[Number(column)] ?? NaN;
        const figure = value / weight;
        t.true(Math.abs(figure - expected) < 1e-9, `${share}, ${column}: ${figure} ${expected}`);
      }
    }
  },
);

test('operations of selectors are those that the method was measured with, of a ViT-B with 196 patches', (t) => {
  const vit = { encoder: { dim: 768, depth: 12, heads: 12, mlpDim: 3072 }, patchSize: 16 };
  const decoder = { dim: 512, depth: 8, heads: 16, mlpDim: 2048 };
  const tiny = { encoder: { dim: 192, depth: 2, heads: 3, mlpDim: 768 }, patchSize: 16 };
  const classifier = { ...vit, pooling: 'cls' };
  const of = (name: SelectorName, kept = 98) =>
    selectorFlops(name, { ranker: tiny, mae: { ...vit, decoder }, classifier }, 196, kept) ?? NaN;
  // Counted elsewhere, as few products as possible; the core makes the last block's queries and values, too, and for rollout each
  // block's attention twice. A round of 19 patches is 218, and eleven of them have every patch once.
  for (const [name, gigaflops] of [
    ...[['mae-attention', 32.5] as const, ['cls-attention', 32.5] as const],
    ...[['rollout', 32.7] as const, ['grad-cam', 35.6] as const, ['tome', 24.5] as const],
    ...[['evit', 22] as const, ['teacher', 4 * 11 * 218] as const],
  ] as const)
    t.true(Math.abs(of(name) / 1e9 / gigaflops - 1) < 0.06, `${name} ${of(name) / 1e9}`);
  const asked = { ranker: undefined, mae: undefined, classifier: { ...vit, pooling: 'mean' } };
  // Where the head pools the patches, all 197 queries and not one.
  const more = (selectorFlops('cls-attention', asked, 196, 98) ?? NaN) - of('cls-attention');
  t.is(more, 196 * 2 * 197 * 768);
  t.is(of('variance'), 0);
  t.is(of('k-means'), NaN);
  t.true(of('evit', 49) < of('evit', 98) && of('tome', 49) < of('tome', 98));
});

withGolden('insertion and deletion by removed tokens, from the CLS token alone', async (t) => {
  const downstream = join(golden, 'downstream');
  await using vit = await VisionTransformer.load(join(downstream, 'ltrp-classifier.pth'), {
    device: 'cpu',
  });
  const paths = [0, 1, 2, 3].map((i) => join(golden, 'full', `image-${i}.png`));
  const images = await readImages(paths, { size: 224, fit: 'stretch' });
  const labels = new Tensors(join(downstream, 'classifier.safetensors')).ids('labels').data;
  const scores = rowsOf(measures.ids('curve_order')).flatMap((order) => {
    const scores = new Array<number>(order.length);
    for (const [place, id] of order.entries()) scores[id] = -place;
    return scores;
  });
  const curves = new RemovalCurves(vit, 8, undefined);
  await curves.add('ranker', images, Float32Array.from(scores), Array.from(labels));
  for (const which of ['insertion', 'deletion'] as const) {
    const expected = rowsOf(measures.f64(`curve_${which}`));
    const [means] = curves.means();
    t.deepEqual(means?.steps, Array.from(measures.ids('curve_steps').data));
    for (const [k, value] of (means?.[which] ?? []).entries()) {
      const mean = expected.reduce((sum, row) => sum + (row[k] as number), 0) / expected.length;
      t.true(Math.abs(value - mean) < 1e-6, `${which} ${k}: ${value} ${mean}`);
    }
    const [[name, areas] = []] = [...curves.areas(which)];
    t.is(name, 'ranker');
    for (const [i, value] of measures.f64(`curve_${which}_auc`).data.entries()) {
      const found = areas?.[i]?.value ?? NaN;
      t.true(Math.abs(found - value) < 1e-6, `${which} ${i}: ${found} ${value}`);
    }
  }
  await using mean = await VisionTransformer.load(join(downstream, 'mae-finetuned.pth'), {
    device: 'cpu',
  });
  t.throws(() => new RemovalCurves(mean, 8, undefined), {
    message: /need a classifier with pooling 'cls'; this one's is 'mean'/,
  });
});
