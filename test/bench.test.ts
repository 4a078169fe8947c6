/** The benchmark's own arithmetic: counts, statistics, tables, what is decoded around a peer's decoder. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { agreement, disagreement } from '../bench/agreement.js';
import { fillShares } from '../bench/compare.js';
import { Contender, ContenderError } from '../bench/child.js';
import { allContenders } from '../bench/contenders.js';
import {
  decoderFlops,
  deltaFlops,
  directFlops,
  encoderFlops,
  loopFlops,
  peerFlops,
  rankerFlops,
  shareOfPeak,
  vitBaseFlops,
} from '../bench/flops.js';
import { visibleCount } from '../bench/material.js';
import { UsageError } from '../bench/command-line.js';
import { help, readOptions, threadCounts } from '../bench/options.js';
import { chart } from '../bench/report/chart.js';
import { markdown } from '../bench/report/markdown.js';
import { withSection } from '../bench/report/section.js';
import { digits, percent, ratePerSecond, table, tiny } from '../bench/report/tables.js';
import type { Comparison, Results, Row } from '../bench/results.js';
import {
  affordable,
  drawAscending,
  errorOverMean,
  meanRelativeError,
  slope,
  spread,
} from '../bench/statistics.js';
import { maskedDifference, scoreWith, withoutTokens } from '../bench/workers/decoding.js';
import { patchRows, readGraph } from '../bench/workers/tfjs-model.js';
import { convertCheckpoint } from '../lib/index.js';
import { run, type Outcome } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';

const vitBase = {
  encoder: { dim: 768, depth: 12, heads: 12, mlpDim: 3072 },
  decoder: { dim: 512, depth: 8, heads: 16, mlpDim: 2048 },
  patchSize: 16,
};
const usual = { patches: 196, visible: 19, variants: 19 };

test('operations of ViT-B are those of the method: 218 GFLOP, 98% of it in 20 decoder passes', (t) => {
  const loop = loopFlops(vitBase, usual);
  t.is(Math.round(loop / 1e9), 218);
  t.is((decoderFlops(vitBase, 197) / 1e9).toFixed(1), '10.7');
  t.is((encoderFlops(vitBase, usual) / 1e9).toFixed(1), '3.7');
  const share = (20 * decoderFlops(vitBase, 197)) / loop;
  t.true(share > 0.97 && share < 0.99, String(share));
  // By hand: eight blocks on 197 tokens, then 196 predictions of 768 values.
  const block = 2 * 197 * (4 * 512 ** 2 + 2 * 512 * 2048) + 4 * 197 ** 2 * 512;
  t.is(decoderFlops(vitBase, 197), 8 * block + 2 * 196 * 512 * 768);
});

test('fewer variants cost less, and every other form costs less than the loop', (t) => {
  const few = { ...usual, variants: 1 };
  t.is(loopFlops(vitBase, usual) - loopFlops(vitBase, few), 18 * decoderFlops(vitBase, 197));
  t.is(peerFlops(vitBase, usual) - peerFlops(vitBase, few), 18 * decoderFlops(vitBase, 196));
  const loop = loopFlops(vitBase, usual);
  const direct = directFlops(vitBase, usual);
  const delta = deltaFlops(vitBase, usual);
  t.is(direct.own, 0);
  t.true(direct.float32 < loop && direct.float32 > 0.9 * loop);
  // The anchor and the encoder are what the direct form needs when there is no variant.
  t.is(delta.float32, directFlops(vitBase, { ...usual, variants: 0 }).float32);
  t.is(deltaFlops(vitBase, { ...usual, variants: 0 }).own, 0);
});

test('a ranker of the size of the paper costs 26% of a ViT-B classifier', (t) => {
  const ranker = { encoder: { dim: 384, depth: 12, heads: 6, mlpDim: 1536 }, patchSize: 16 };
  t.is(Math.round((100 * rankerFlops(ranker, 196)) / vitBaseFlops()), 26);
});

test('share of peak: ideal time at each precision over the time taken', (t) => {
  const flops = { float32: 100e9, own: 400e9 };
  // 100 GFLOP at 200 and 400 at 800 take a second; it took two.
  t.is(shareOfPeak(flops, 2000, { float32: 200, own: 800 }), 0.5);
  t.is(shareOfPeak(flops, 2000, { float32: 200, own: null }), null);
  t.is(shareOfPeak({ float32: 100e9, own: 0 }, 1000, { float32: 200, own: null }), 0.5);
});

test('median and quartiles', (t) => {
  t.is(spread([]), null);
  t.deepEqual(spread([5]), { median: 5, low: 5, high: 5, count: 1 });
  t.deepEqual(spread([4, 1, 3, 2]), { median: 2.5, low: 1.75, high: 3.25, count: 4 });
});

test('the slope of a line, exact and fitted', (t) => {
  t.is(slope([10, 20, 30].map((x) => [x, 5 - 0.25 * x])), -0.25);
  // By hand: means 1 and 2; (1 + 0 + 2) / 2.
  t.is(
    slope([
      [0, 1],
      [1, 1],
      [2, 4],
    ]),
    1.5,
  );
});

test('a command writes its section of a document, and leaves heading and neighbours', async (t) => {
  const document = await readFile(join(repository, 'docs', 'serve.md'), 'utf8');
  const written = withSection(document, 'load', 'Under load', 'Figures $1.');
  t.true(written.includes('\n<!-- load -->\n\n## Under load\n\nFigures $1.\n\n<!-- /load -->\n'));
  const headings = (text: string): string[] => text.match(/^#.*$/gm) ?? [];
  t.deepEqual(headings(written), headings(document));
  t.is(withSection(written, 'load', 'Under load', 'Figures $1.'), written);
  t.throws(() => withSection(document, 'none', 'x', 'y'), { message: /no section none/ });
});

test('errors against a reference of more rows and columns', async (t) => {
  const reference = [
    [1, 2, 4],
    [8, 16, 32],
  ];
  t.is(meanRelativeError([[1.1, 1.8]], [[1, 2, 4]]).toFixed(10), '0.1000000000');
  t.is(errorOverMean([[1, -1]], [[2, -2]]), 0.5);
  t.true(Number.isNaN(meanRelativeError([[1, 2, 3, 4]], reference)));
  t.true(Number.isNaN(meanRelativeError([], reference)));
  const exact = await agreement('scores', reference, reference);
  t.deepEqual(exact, { error: 0, kendallTau: 1 });
  const turned = await agreement('scores', [[4, 2, 1]], reference);
  t.is(turned.kendallTau, -1);
  t.is(
    (await agreement('scores', [[1]], reference)).kendallTau,
    null,
    'a list of one has no order',
  );
});

test('who disagrees, or gives no numbers, is not timed', (t) => {
  const tolerance = { error: 1e-3, kendallTau: 0.9 };
  t.is(disagreement({ error: 1e-3, kendallTau: 0.9 }, tolerance), null);
  t.is(disagreement({ error: 0, kendallTau: null }, tolerance), null);
  t.regex(disagreement({ error: 2e-3, kendallTau: 1 }, tolerance) ?? '', /error .* 2\.0e-3/);
  t.regex(disagreement({ error: 0, kendallTau: 0.8 }, tolerance) ?? '', /tau .* 0\.800/);
  t.regex(disagreement({ error: NaN, kendallTau: null }, tolerance) ?? '', /NaN/);
});

test('how much a slow contender is given', (t) => {
  const wanted = { images: 2, variants: 19 };
  t.deepEqual(affordable(wanted, 1, 1000), wanted);
  t.deepEqual(affordable(wanted, 1, 30), { images: 1, variants: 19 });
  t.deepEqual(affordable(wanted, 1, 5), { images: 1, variants: 4 });
  t.deepEqual(affordable(wanted, 100, 5), { images: 1, variants: 1 });
});

test('masks are ascending, without repetition, and the same every time', (t) => {
  t.is(visibleCount(196), 19);
  t.is(visibleCount(100), 9);
  const ids = drawAscending(196, 19, 7);
  t.deepEqual(ids, drawAscending(196, 19, 7));
  t.notDeepEqual(ids, drawAscending(196, 19, 8));
  t.is(new Set(ids).size, 19);
  t.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  );
  t.true(ids.every((id) => id >= 0 && id < 196));
  t.deepEqual(drawAscending(3, 3, 1), [0, 1, 2]);
});

test('around a peer: tokens are deleted, and predictions compared at the masked patches', async (t) => {
  // 4 patches, width 2; token t is (10 t, 10 t + 1).
  const tokens = Float32Array.from({ length: 10 }, (_, i) => 10 * Math.floor(i / 2) + (i % 2));
  const without = withoutTokens(tokens, 5, 2, [0, 3]);
  t.deepEqual(without.shape, [2, 4, 2]);
  t.deepEqual([...without.data], [0, 1, 20, 21, 30, 31, 40, 41, 0, 1, 10, 11, 20, 21, 30, 31]);

  const anchor = { data: Float32Array.of(1, 1, 2, 2, 3, 3, 4, 4), shape: [1, 4, 2] };
  const changed = { data: Float32Array.of(9, 9, 3, 4, 9, 9), shape: [1, 3, 2] };
  // Visible are 0, 1 and 3; 1 was removed, so patch 2 is in place 1: |3 - 3| and |3 - 4|.
  t.is(maskedDifference(anchor, changed, 0, 1, [0, 1, 3]), 0.5);

  // A "decoder" that predicts the sum of all tokens for every patch: removing one changes it by that token.
  const sizes: number[] = [];
  const scores = await scoreWith(
    ({ data, shape: [count = 0, length = 0, width = 0] }) => {
      sizes.push(count);
      const values = new Float32Array(count * (length - 1));
      for (let m = 0; m < count; m++) {
        const sum = data
          .subarray(m * length * width, (m + 1) * length * width)
          .reduce((a, b) => a + b, 0);
        values.fill(sum, m * (length - 1), (m + 1) * (length - 1));
      }
      return Promise.resolve({ data: values, shape: [count, length - 1, 1] });
    },
    { tokens: { data: tokens, shape: [1, 5, 2] }, visible: [[0, 1, 3]] },
    { images: 1, variants: 3, batch: 2 },
  );
  t.deepEqual(scores, [[21, 41, 81]]);
  t.deepEqual(sizes, [1, 2, 1], 'the anchor, then variants two at a time');
});

test('patches and weights for the libraries that get them from us', async (t) => {
  // One channel, 2 x 4 pixels, patches of 2: (0 1 4 5) and (2 3 6 7).
  const image = { data: Float32Array.from({ length: 8 }, (_, i) => i), shape: [1, 1, 2, 4] };
  t.deepEqual([...patchRows(image, 2)], [0, 1, 4, 5, 2, 3, 6, 7]);
  const file = join(await temporaryFolder(t), 'ranker.onnx');
  await convertCheckpoint('tiny', file, { kind: 'ranker' });
  const { config, tensors } = readGraph(file);
  t.deepEqual(config.encoder, { dim: 192, depth: 4, heads: 3, mlpDim: 768 });
  t.is(config.head, 'token');
  const { data, shape } = tensors.get('pos_embed') ?? {};
  t.deepEqual(shape, [197, 192]);
  t.true(
    data?.subarray(0, 192).every((value) => value === 0),
    'CLS has no position',
  );
  // Token 16: row 1, column 1; the first frequency is 1; columns first.
  t.is(data?.[16 * 192], Math.fround(Math.sin(1)));
  t.is(tensors.get('blocks.3.mlp.fc1.weight')?.data.length, 192 * 768);
});

test('options: quick and full, refusals', (t) => {
  const quick = readOptions(['--quick']);
  const full = readOptions([]);
  t.is(quick.out, 'bench/results');
  t.is(full.out, 'docs');
  t.true(quick.limitSeconds < 300 && full.limitSeconds === Infinity);
  t.true(quick.budgetMs < full.budgetMs && quick.rounds < full.rounds);
  t.deepEqual(full.curves.patches, [49, 100, 196, 400, 784]);
  t.throws(() => readOptions(['--sections', 'speed']), {
    instanceOf: UsageError,
    message: /'speed'/,
  });
  t.throws(() => readOptions(['--rounds', '0']), { instanceOf: UsageError });
  t.throws(() => readOptions(['--slow']), { instanceOf: UsageError });
  t.deepEqual(threadCounts(1), [1]);
  t.deepEqual(threadCounts(6), [1, 2, 4, 6]);
});

test('a program prints its help, and refuses what it does not know', async (t) => {
  const bench = (option: string): Promise<Outcome> =>
    run(process.execPath, ['--import=tsx', join(repository, 'bench', 'main.ts'), option]);
  t.like(await bench('-h'), { code: 0, stdout: help });
  const refused = await bench('--slow');
  t.is(refused.code, 2);
  t.regex(refused.stderr, /^bench: Unknown option '--slow'/);
});

test('numbers as text', (t) => {
  t.is(digits(1234567), '1,230,000');
  t.is(digits(12.345), '12.3');
  t.is(digits(0.0123456), '0.0123');
  t.is(digits(0), '0');
  t.is(digits(NaN), '–');
  t.is(percent(0.876), '88%');
  t.is(tiny(1.23e-5), '1.2e−5');
  t.is(ratePerSecond({ median: 100, low: 80, high: 125, count: 5 }), '10.0 (8.00 to 12.5)');
  t.is(ratePerSecond({ median: 100, low: 100, high: 100, count: 1 }), '10.0');
  t.is(table(['a', 'b'], [['x|y', '1']]), '| a | b |\n| --- | --: |\n| x\\|y | 1 |');
});

function row(contender: string, more: Partial<Row>): Row {
  return {
    contender,
    label: contender,
    group: 'ours',
    precision: 'float32',
    status: 'timed',
    reason: null,
    images: 1,
    variants: 19,
    msPerImage: { median: 100, low: 100, high: 100, count: 3 },
    error: 1e-6,
    kendallTau: 1,
    gflops: 100,
    ownGflops: 90,
    flops: { float32: 40e9, own: 0 },
    peakShare: 0.5,
    loopPeakShare: 0.55,
    memory: { beyondProcess: 512, beyondLoad: 64 },
    eventLoopWorst: 1.5,
    versions: {},
    ...more,
  };
}

test('the report says what was timed, how fast against the loop, and what was not timed and why', (t) => {
  const comparison: Comparison = {
    title: 'Scores: a model',
    kind: 'scores',
    model: 'a model',
    patches: 196,
    visible: 19,
    batch: null,
    gflopPerImage: 217.8,
    baseline: 'loop',
    rounds: 3,
    rows: [
      row('fast', {}),
      row('loop', { group: 'authors', msPerImage: { median: 400, low: 390, high: 410, count: 3 } }),
      row('broken', { status: 'failed', reason: 'It disagrees.', msPerImage: null }),
    ],
  };
  const results: Results = {
    ltrp: '1.2.3',
    commit: 'abc',
    date: '2026-01-02',
    mode: 'quick',
    threads: 2,
    seconds: 60,
    machine: {
      cpu: 'A CPU',
      cores: 2,
      memoryGiB: 24,
      features: ['avx2'],
      system: 'Linux',
      node: '20',
      versions: {},
    },
    peaks: [{ precision: 'float32', gflops: 200, shape: [1, 2, 3], how: 'mkl' }],
    bandwidth: { gbPerSecond: 20, how: 'a copy' },
    comparisons: [comparison],
    files: [],
    curves: [],
    kernels: [
      {
        flops: 2e6,
        disagreement: 1e-7,
        name: 'k',
        shape: [4, 8],
        precision: 'int8',
        oursMs: 1,
        plainMs: 3,
        oursBytes: 1e7,
        plainBytes: 2e7,
      },
    ],
    tolerance: [],
    metrics: [],
    memory: [],
    training: [],
    profiles: [],
    profileProblem: 'perf is not installed.',
    notes: [],
    failures: ['Scores: no luck.'],
  };
  fillShares(comparison, results.peaks);
  // 40 GFLOP in 100 ms are 400 GFLOP/s, twice the peak of 200; the loop's 100 GFLOP/s are half of it.
  t.is(comparison.rows[0]?.peakShare, 2);
  t.is(comparison.rows[0]?.loopPeakShare, 0.5);
  t.is(comparison.rows[2]?.peakShare, null);
  const text = markdown(results);
  t.regex(text, /^\| fast \| 10\.0 \(10\.0 to 10\.0\) \| 4\.00x \|/m);
  t.regex(text, /^\| loop \| 2\.50 \(2\.44 to 2\.56\) \| 1\.00x \|/m);
  t.regex(text, /^- broken: \*\*failed\*\*: It disagrees\.$/m);
  t.regex(text, /^\| k \| 4×8 \| int8 \| 1\.00 \| 3\.00x \| 50% \| 2\.00 \| 1\.0e−7 \|$/m);
  t.regex(text, /^- \*\*Broke off:\*\* Scores: no luck\.$/m);
  t.regex(text, /217\.8/, 'the derivation of the count');
  t.regex(text, /^Not measured: perf is not installed\.$/m);
  const drawn = JSON.stringify(chart(results));
  t.true(drawn.includes('"fast"') && !drawn.includes('"broken"'));
});

test('contenders have keys of their own, and ours are held to the tightest tolerances', (t) => {
  const all = allContenders(null);
  t.is(new Set(all.map(({ key }) => key)).size, all.length);
  const ours = all.filter(({ group }) => group === 'ours');
  t.deepEqual(
    ours.map(({ tolerance }) => tolerance.scores.error),
    [1e-5, 1e-3, 2e-3],
  );
});

const echo = `
process.stdin.on('data', (chunk) => {
  for (const line of chunk.toString().trim().split('\\n')) {
    const { id, op } = JSON.parse(line);
    if (op === 'die') { console.error('out of luck'); process.exit(3); }
    if (op === 'hang') return;
    console.log('a library says hello');
    console.log(JSON.stringify(op === 'refuse'
      ? { id, ok: false, code: 'ERR_LTRP_UNSUPPORTED', message: 'Not here.' }
      : { id, ok: true, op }));
  }
});`;

test('the protocol: answers, refusals, death and silence', async (t) => {
  const start = (): Contender =>
    new Contender('echo', { command: process.execPath, args: ['-e', echo] });
  const contender = start();
  t.is((await contender.ask('hello'))['op'], 'hello');
  const refusal = await t.throwsAsync<ContenderError>(contender.ask('refuse'), {
    instanceOf: ContenderError,
  });
  t.true(refusal.unsupported);
  t.is((await contender.ask('again'))['op'], 'again', 'it goes on after a refusal');
  if (process.platform === 'linux') {
    const memory = contender.memory();
    t.true(memory !== null && memory.now > 1e6 && memory.peak >= memory.now);
  }
  const death = await t.throwsAsync<ContenderError>(contender.ask('die'), {
    instanceOf: ContenderError,
  });
  t.regex(death.message, /status 3.*out of luck/);
  t.false(death.unsupported);
  await t.throwsAsync(contender.ask('hello'), { message: /status 3/ });
  await contender.close();
  const silent = start();
  await t.throwsAsync(silent.ask('hang', {}, 300), { message: /did not answer 'hang'/ });
  await silent.close();
  const missing = new Contender('missing', { command: '/no/such/program', args: [] });
  await t.throwsAsync(missing.ask('hello'), { message: /cannot be started/ });
});
