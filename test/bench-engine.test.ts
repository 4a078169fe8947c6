/** The benchmark's sections about the engine itself: sparse deltas, memory, profile. */
import { join } from 'node:path';
import test from 'ava';
import { root } from '../bench/contenders.js';
import { deltaFlops, directFlops, splitByKind } from '../bench/flops.js';
import { memoryPlans, readOptions } from '../bench/options.js';
import { fillProfileShares } from '../bench/profile.js';
import { parseReport, partOf, shares, type Sample } from '../bench/profile-parts.js';
import { memory, metrics, profile, tolerance } from '../bench/report/engine.js';
import type { MemoryRow, Profile, Results, ToleranceCurve } from '../bench/results.js';
import { agreementOfLists, medianRatio } from '../bench/tolerance.js';
import { readConfig } from '../bench/workers/tensors.js';
import { MaskedAutoencoder } from '../lib/index.js';

const vitBase = {
  encoder: { dim: 768, depth: 12, heads: 12, mlpDim: 3072 },
  decoder: { dim: 512, depth: 8, heads: 16, mlpDim: 2048 },
  patchSize: 16,
};
const usual = { patches: 196, visible: 19, variants: 19 };
const once = (median: number) => ({ median, low: median, high: median, count: 1 });

test('products and attention apart come to what is counted together', (t) => {
  const direct = splitByKind(vitBase, usual, 'direct');
  t.is(direct.products.own, 0);
  t.is(direct.products.float32 + direct.attention, directFlops(vitBase, usual).float32);
  const delta = splitByKind(vitBase, usual, 'delta');
  const counted = deltaFlops(vitBase, usual);
  // By hand: six blocks with 196 queries and the last with 177, over 196 keys; the count has every product twice.
  const attended = 19 * 4 * 196 * 512 * (6 * 196 + 177);
  t.is(delta.products.own + 2 * attended, counted.own);
  const anchor = splitByKind(vitBase, { ...usual, variants: 0 }, 'delta');
  t.is(delta.attention, anchor.attention + attended);
  t.is(delta.products.float32 + anchor.attention, counted.float32);
});

test('speed-up is the median of the ratios of rounds', (t) => {
  // The second round met a busy machine; medians of the times would say 20 / 15.
  t.is(medianRatio([10, 200, 20], [5, 100, 15]), 2);
  t.is(medianRatio([10, 20], [5]), 2, 'a round that was cut short has no ratio');
  t.is(medianRatio([10], []), null);
});

test('every image is a list of its own', async (t) => {
  const expected = [
    [1, 2, 4, 8],
    [8, 4, 2, 1],
  ];
  const turned = [
    [1, 2, 4, 8],
    [4, 8, 2, 1],
  ];
  const found = await agreementOfLists(turned, expected);
  // One of six pairs of the second list is the wrong way round: (5 - 1) / 6.
  t.true(Math.abs(found.lowestTau - 4 / 6) < 1e-6);
  t.true(Math.abs(found.kendallTau - (1 + 4 / 6) / 2) < 1e-6);
  t.is(found.error, (0.5 + 1) / 8);
});

test('plans: quick is short and without a profile', (t) => {
  const quick = readOptions(['--quick']);
  const full = readOptions([]);
  t.false(quick.sections.includes('profile'));
  t.true(quick.sections.includes('tolerance') && quick.sections.includes('memory'));
  for (const name of ['tolerance', 'metrics', 'memory', 'profile'] as const) {
    t.true(full.sections.includes(name));
  }
  const asked = readOptions(['--quick', '--sections', 'profile']);
  t.true(asked.sections.includes('profile'), 'who asks for it gets it');
  t.deepEqual(quick.toleranceModels, ['tiny']);
  t.deepEqual(full.tolerance.tolerances, [0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]);
  t.true(quick.tolerance.trainedLists >= 20 && quick.tolerance.tolerances[0] === 0);
  t.deepEqual(
    memoryPlans(false, []).map(({ source, images }) => [source, ...images]),
    [
      ['vit_b', 1, 8, 64],
      ['vit_l', 1, 2],
      ['vit_h14', 1, 2],
    ],
  );
  t.deepEqual(memoryPlans(true, []), [
    { source: 'vit_b', images: [1, 8], precisions: ['float32', 'bfloat16', 'int8'] },
  ]);
});

test("a teacher's geometry out of its header is the one that loading gives", async (t) => {
  const path = join(root, 'models', 'tiny-mae.safetensors');
  const mae = await MaskedAutoencoder.load(path);
  const { config } = mae;
  mae.dispose();
  const found = readConfig(path);
  t.deepEqual(found.encoder, config.encoder);
  t.deepEqual(found.decoder, config.decoder);
  t.deepEqual([found.imageHeight, found.imageWidth], [config.imageHeight, config.imageWidth]);
  t.is(found.patchSize, config.patchSize);
  const close = (a: readonly number[], b: readonly number[]): boolean =>
    a.every((value, i) => Math.abs(value - (b[i] as number)) < 1e-6);
  t.true(close(found.mean, config.mean) && close(found.std, config.std));
});

const core = 'libltrp_core-2.13-cpu.so';
const reported = `
 6000000    ;ltrp-compute;[JIT] tid 22853         ;[.] 0x00007f139af803c8
 1000000    ;ltrp-compute;${core};[.] ltrp::simd::avx512::(anonymous namespace)::logits_tile<6, 4>
  500000    ;ltrp-compute;${core};[.] ltrp::simd::avx512::attention
  500000    ;ltrp-compute;${core};[.] ltrp::simd::avx512::(anonymous namespace)::logits_tile<6, 4>
 1000000    ;node        ;[JIT] tid 22853         ;[.] 0x00007f139af80562
 1000000    ;ltrp-compute;[kernel.kallsyms]       ;[k] clear_page_rep
not a line of the report
`;

test('the report of perf: parts, functions, and what is none', (t) => {
  const samples = parseReport(reported);
  t.is(samples.length, 6);
  t.deepEqual(samples[1], {
    period: 1e6,
    thread: 'ltrp-compute',
    object: core,
    kernel: false,
    name: 'ltrp::simd::avx512::(anonymous namespace)::logits_tile<6, 4>',
  });
  const { parts, functions } = shares(samples);
  t.deepEqual(parts, [
    { part: 'products', share: 0.6 },
    { part: 'logits', share: 0.15 },
    { part: 'operands', share: 0.05 },
    { part: 'kernel', share: 0.1 },
    { part: 'node', share: 0.1 },
  ]);
  t.deepEqual(
    functions.map(({ part, share }) => [part, share]),
    [
      ['logits', 0.15],
      ['kernel', 0.1],
      ['operands', 0.05],
    ],
    'one line for each function, none for generated code',
  );
});

test('functions are sorted into parts by their names', (t) => {
  const part = (object: string, name: string, more: Partial<Sample> = {}): string =>
    partOf({ period: 1, thread: 'ltrp-compute', kernel: false, object, name, ...more });
  const level = 'ltrp::simd::avx2::';
  t.is(part(core, `${level}(anonymous namespace)::values_tile<6, 2>`), 'values');
  t.is(part(core, `${level}(anonymous namespace)::attend<6>`), 'softmax');
  t.is(
    part(core, `${level}(anonymous namespace)::tile<${level}(anonymous namespace)::Uint8, 5>`),
    'products',
  );
  t.is(part(core, `${level}product`), 'products');
  t.is(part(core, `${level}(anonymous namespace)::attend_rows`), 'softmax');
  t.is(part(core, `${level}removal_attention`), 'removal');
  t.is(part(core, `${level}attention`), 'operands');
  t.is(part(core, `${level}layer_norm_difference`), 'norm');
  t.is(part(core, `${level}add_layer_norm`), 'norm');
  t.is(part(core, `${level}gelu_difference`), 'gelu');
  t.is(part(core, `${level}finish`), 'gelu');
  t.is(part(core, `${level}round_rows`), 'rounding');
  t.is(part(core, `${level}split_heads`), 'heads');
  t.is(part(core, `${level}row_sums`), 'core');
  t.is(part(core, 'ltrp::split_heads(at::Tensor const&)'), 'core', 'around a kernel is no kernel');
  t.is(part('libtorch_cpu.so', 'dnnl::impl::cpu::x64::brgemm_matmul_t'), 'products');
  t.is(part('libtorch_cpu.so', 'at::native::AVX2::copy_kernel'), 'library');
  t.is(part('libc.so.6', '_int_malloc'), 'allocation');
  t.is(part('libc.so.6', '__memmove_avx512_unaligned_erms'), 'allocation');
  t.is(part('libc.so.6', '__sched_yield'), 'waiting');
  t.is(part('libgomp.so.1', '0x000000000001e073'), 'waiting');
  t.is(part('[kernel.kallsyms]', 'do_sched_yield', { kernel: true }), 'waiting');
  t.is(part('[kernel.kallsyms]', 'free_pages', { kernel: true }), 'kernel');
  t.is(part('libc.so.6', 'malloc', { thread: 'node' }), 'node');
});

function profiled(more: Partial<Profile>): Profile {
  return {
    model: 'a teacher',
    label: 'ltrp int8',
    precision: 'int8',
    images: 4,
    calls: 3,
    msPerImage: once(120),
    threads: 2,
    busy: 0.95,
    cpuMsPerImage: 200,
    parts: [
      { part: 'products', share: 0.5 },
      { part: 'logits', share: 0.15 },
      { part: 'values', share: 0.1 },
      { part: 'gelu', share: 0.25 },
    ],
    functions: [],
    productFlops: { float32: 5e9, own: 30e9 },
    attentionFlops: 2.5e9,
    productsOfPeak: null,
    attentionOfPeak: null,
    ...more,
  };
}

test('products of the profile against the peaks', (t) => {
  const peak = (precision: 'float32' | 'int8', gflops: number) => ({
    precision,
    gflops,
    shape: [],
    how: '',
  });
  const found = profiled({});
  fillProfileShares(found, [peak('float32', 200), peak('int8', 1200)]);
  // Half of 100 ms on both threads; at the peaks 25 ms in float32 and 25 in int8.
  t.is(found.productsOfPeak, 1);
  // A quarter of 100 ms; at the peak 12.5.
  t.is(found.attentionOfPeak, 0.5);
  const unknown = profiled({});
  fillProfileShares(unknown, [peak('float32', 200)]);
  t.is(unknown.productsOfPeak, null);

  const results = (more: Partial<Results>): Results =>
    ({ profiles: [], profileProblem: null, ...more }) as Results;
  const text = profile(results({ profiles: [found] }));
  t.regex(text, /^\| products, GFLOP in the precision \| 30\.0 \|/m);
  t.regex(text, /^\| products, of peak \| 100% \|/m);
  t.regex(text, /^\| attention, GFLOP \| 2\.50 \|/m);
  t.regex(text, /^\| attention, of peak \| 50% \|/m);
  t.regex(text, /^\| matrix products \| 50% \| Every token/m);
  t.regex(text, /^\| attention: q kᵀ \| 15% \| Float32/m);
  t.notRegex(text, /layer norms/, 'no part without a sample');
  t.regex(profile(results({ profileProblem: 'perf is gone.' })), /^Not measured: perf is gone\.$/m);
  t.is(profile(results({})), '');
});

test('the curve of tolerances names the fastest point in order', (t) => {
  const point = (value: number, speedUp: number, kendallTau: number) => ({
    contender: 'ltrp-int8',
    label: 'ltrp int8',
    precision: 'int8' as const,
    tolerance: value,
    msPerImage: once(100 / speedUp),
    speedUp,
    kendallTau,
    lowestTau: kendallTau - 0.05,
    error: 0.01,
  });
  const curve = (...points: ToleranceCurve['points']): ToleranceCurve[] => [
    { model: 'a teacher', patches: 196, visible: 19, lists: 40, points },
  ];
  const good = tolerance(curve(point(0, 1, 0.999), point(1e-3, 1.5, 0.98), point(0.1, 3, 0.8)));
  t.regex(good, /the most that keeps .* 0\.97 is 1\.50x, ltrp int8 at tolerance 1\.0e−3\./);
  t.regex(good, /^\| 1\.0e−3 \| 1\.50x \| 0\.980 \(0\.930\) \| 1\.0e−2 \|$/m);
  t.regex(tolerance(curve(point(0, 1, 0.999), point(0.1, 3, 0.8))), /no tolerance is faster/);
  t.regex(tolerance(curve(point(0, 1, 0.9))), /no point keeps/);
  t.is(tolerance([]), '');
});

test('metrics are held against l1', (t) => {
  const text = metrics([
    {
      model: 'a teacher',
      label: 'ltrp int8',
      metric: 'ssim',
      msPerImage: once(120),
      againstL1: 1.2,
    },
  ]);
  t.regex(text, /^\| a teacher \| ltrp int8 \| ssim \| 120 \| 1\.20x \|$/m);
  t.is(metrics([]), '');
});

test('memory beyond its limit is marked', (t) => {
  const row = (model: string, afterLoad: number, peak: number): MemoryRow => ({
    model,
    label: 'ltrp int8',
    precision: 'int8',
    images: 64,
    msPerImage: once(100),
    weights: 447e6,
    beforeLoad: 200e6,
    afterLoad,
    loadPeak: afterLoad,
    peak,
  });
  const fits = memory([row('ViT-B/16 teacher', 700e6, 2100e6)]);
  // 2,100 less 200 before the load and 447 of weights.
  t.regex(fits, /\| 700 \| 2,100 \| 1,450 \|$/m);
  t.notRegex(fits, /too much/);
  const packed = memory([row('ViT-B/16 teacher', 1700e6, 2200e6)]);
  t.regex(packed, /\| 2,200 \| 1,550 \*\*too much\*\* \|/, 'copies of the weights count');
  t.regex(memory([row('ViT-B/16 teacher', 500e6, 2100e6)]), /\| 2,100 \| 1,450 \*\*too much/);
  t.notRegex(memory([row('ViT-H/14 teacher', 5e9, 8e9)]), /too much/);
  t.regex(memory([row('ViT-H/14 teacher', 5e9, 27e9)]), /too much/);
  t.is(memory([]), '');
});
