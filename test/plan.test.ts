/** `planSavings`: the decision on made-up measurements, threads on made-up systems, operations on a made-up profile. No time is asserted. */
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'ava';
import { table } from '../lib/cli/plan.js';
import { LtrpError, planSavings } from '../lib/index.js';
import { ownProcess } from '../lib/own-process.js';
import { decide, type Measured } from '../lib/plan/decide.js';
import { profiledFlops, rankerFlops, type ProfileEvent } from '../lib/plan/flops.js';
import { quantile } from '../lib/quantile.js';
import { usableThreads } from '../lib/plan/threads.js';
import { ltrp } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';
import { encode, grid, smallVit } from './support/small-vit.js';

const arm = (times: number[], flops: number | null = 1e9) => ({ times, flops, memory: 1e8 });
const always = (time: number): number[] => new Array<number>(8).fill(time);

/** Times of a full model of 100 ms, by share. */
function measured(scorer: number, shares: Record<number, number[]>): Measured {
  return {
    patches: 200,
    full: arm(always(100)),
    scorer: arm(always(scorer)),
    shares: Object.entries(shares).map(([share, times]) => ({
      share: Number(share),
      ...arm(times),
    })),
  };
}

test('it pays below the share where the line of scorer and model crosses the full model', (t) => {
  // Without scorer and overhead, time is the share; the scorer is 10% of the full model.
  const { shares, paysBelow, scorer, full } = decide(
    measured(10, { 0.5: always(50), 0.25: always(25), 0.8: always(80) }),
  );
  t.deepEqual(
    shares.map(({ share, keep, pays, total }) => [share, keep, pays, total.milliseconds]),
    [
      [0.8, 160, true, 90],
      [0.5, 100, true, 60],
      [0.25, 50, true, 35],
    ],
  );
  t.is(scorer.milliseconds, 10);
  t.is(full.milliseconds, 100);
  // From (0.8, 0.9) to (1, 1.1).
  t.true(Math.abs((paysBelow ?? NaN) - 0.9) < 1e-12);
  t.deepEqual(shares[0]?.ratio, { median: 0.9, from: 0.9, to: 0.9 });
  t.is(shares[0]?.total.flops, 2e9);
  t.is(shares[0]?.model.flops, 1e9);
});

test('a scorer that costs more than it saves: it does not pay', (t) => {
  const plan = decide(measured(80, { 0.75: always(75), 0.5: always(50), 0.25: always(25) }));
  t.is(plan.paysBelow, null);
  t.true(plan.shares.every(({ pays }) => !pays));
  const text = table('vit.onnx', {
    ...plan,
    patches: 200,
    batchSize: 1,
    threads: 2,
    rounds: 8,
    uncounted: [],
  });
  t.regex(text, /It does not pay: at no share down to 25% is ranker plus model faster/);
  t.regex(text, /vit\.onnx: 1 picture a run, 2 threads, medians of 8 rounds/);
});

test('only small shares pay: the line between the last that pays and the next', (t) => {
  const plan = decide(measured(40, { 0.75: always(75), 0.5: always(50) }));
  // (0.5, 0.9), (0.75, 1.15): crosses 1 at 0.6.
  t.true(Math.abs((plan.paysBelow ?? NaN) - 0.6) < 1e-12);
  const text = table('x', {
    ...plan,
    patches: 200,
    batchSize: 2,
    threads: 1,
    rounds: 8,
    uncounted: ['Einsum'],
  });
  t.regex(text, /It pays below 60% of the patches\./);
  t.regex(text, /Operations are not counted: Einsum\./);
});

test('what lies within the noise does not pay', (t) => {
  const noisy = [80, 120, 80, 120, 80, 120, 80, 80];
  const plan = decide(measured(1, { 0.5: noisy }));
  t.true((plan.shares[0]?.ratio.median ?? NaN) < 1);
  t.true((plan.shares[0]?.ratio.to ?? NaN) > 1);
  t.false(plan.shares[0]?.pays);
  t.is(plan.paysBelow, null);
  // Beside one that does, all that is known is what was measured to pay.
  t.is(decide(measured(1, { 0.5: noisy, 0.25: always(25) })).paysBelow, 0.25);
});

test('a larger share that pays beside a smaller one that does not is no break-even', (t) => {
  const plan = decide(measured(1, { 0.75: always(120), 0.5: always(50), 0.25: always(200) }));
  t.is(plan.paysBelow, null);
  const more = { patches: 200, batchSize: 1, threads: 2, rounds: 8, uncounted: [] };
  const text = table('vit.onnx', { ...plan, ...more });
  t.regex(text, /It pays at 50% of the patches, and not at 75%, 25%\./);
  t.notRegex(text, /does not pay/);
});

test('rounds are compared with themselves: what slows a whole round changes nothing', (t) => {
  const slow = [1, 5, 1, 1, 3, 1, 9, 1];
  const times = (time: number): number[] => slow.map((factor) => factor * time);
  const plan = decide({
    patches: 100,
    full: arm(times(100)),
    scorer: arm(times(10), null),
    shares: [{ share: 0.5, ...arm(times(50)) }],
  });
  t.deepEqual(plan.shares[0]?.ratio, { median: 0.6, from: 0.6, to: 0.6 });
  t.is(plan.shares[0]?.total.flops, null);
});

test('quantiles lie between neighbours', (t) => {
  t.is(quantile([4, 1, 3, 2], 0.5), 2.5);
  t.is(quantile([7], 0.25), 7);
  t.is(quantile([1, 2, 3, 4, 5], 0.75), 4);
  t.is(quantile([10, 20, 30], 1), 30);
});

const files =
  (given: Record<string, string>) =>
  (path: string): string | undefined =>
    given[path];

test('threads: affinity, and the least quota of a control group and those above it', (t) => {
  const own = '/proc/self/cgroup';
  t.is(usableThreads(8, files({})), 8);
  t.is(usableThreads(8, files({ [own]: '0::/\n' })), 8);
  const two = { [own]: '0::/user/job\n', '/sys/fs/cgroup/user/job/cpu.max': 'max 100000\n' };
  t.is(usableThreads(8, files(two)), 8);
  t.is(usableThreads(8, files({ ...two, '/sys/fs/cgroup/user/cpu.max': '350000 100000\n' })), 3);
  t.is(usableThreads(2, files({ ...two, '/sys/fs/cgroup/user/cpu.max': '350000 100000\n' })), 2);
  t.is(usableThreads(8, files({ [own]: '0::/\n', '/sys/fs/cgroup/cpu.max': '50000 100000' })), 1);
  const one = '/sys/fs/cgroup/cpu,cpuacct/docker/x';
  const first = {
    [own]: '5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n',
    [`${one}/cpu.cfs_quota_us`]: '200000',
    [`${one}/cpu.cfs_period_us`]: '100000',
  };
  t.is(usableThreads(8, files(first)), 2);
  t.is(usableThreads(8, files({ ...first, [`${one}/cpu.cfs_quota_us`]: '-1' })), 8);
  t.true(usableThreads() >= 1);
});

const node = (
  op_name: string,
  inputs: number[][],
  output: number[],
  type = 'float',
): ProfileEvent => ({
  cat: 'Node',
  args: {
    op_name,
    input_type_shape: inputs.map((shape) => ({ [type]: shape })),
    output_type_shape: [{ [type]: output }],
  },
});

test('operations of a profile: every kind of product, transposed or not', (t) => {
  const cases: [ProfileEvent, number][] = [
    [
      node(
        'MatMul',
        [
          [2, 7, 5],
          [5, 3],
        ],
        [2, 7, 3],
      ),
      2 * 2 * 7 * 5 * 3,
    ],
    [
      node(
        'MatMul',
        [
          [2, 4, 7, 5],
          [2, 4, 5, 7],
        ],
        [2, 4, 7, 7],
      ),
      2 * 2 * 4 * 7 * 7 * 5,
    ],
    [node('Gemm', [[6, 5], [3, 5], [3]], [6, 3]), 2 * 6 * 5 * 3],
    [node('MatMul', [[6, 5]], [6, 3]), 2 * 6 * 5 * 3],
    [node('Gemm', [[6, 5], [3]], [6, 3]), 2 * 6 * 5 * 3],
    [node('QLinearMatMul', [[6, 5], [], [], [5, 3]], [6, 3]), 2 * 6 * 5 * 3],
    [
      node(
        'MatMulInteger',
        [
          [6, 5],
          [5, 3],
        ],
        [6, 3],
        'uint8',
      ),
      2 * 6 * 5 * 3,
    ],
    // 3 colours, patches of 16 px, 14 x 14 of them, 8 channels.
    [node('Conv', [[1, 3, 224, 224], [8, 3, 16, 16], [8]], [1, 8, 14, 14]), 2 * 196 * 8 * 768],
    [
      node(
        'Attention',
        [
          [2, 4, 9, 8],
          [2, 4, 11, 8],
          [2, 4, 11, 8],
        ],
        [2, 4, 9, 8],
      ),
      4 * 2 * 4 * 9 * 11 * 8,
    ],
    [
      node('Attention', [[2, 9, 16], [16, 48], [48]], [2, 9, 16]),
      2 * 2 * 9 * 16 * 48 + 4 * 2 * 81 * 16,
    ],
    [
      node(
        'MultiHeadAttention',
        [
          [2, 9, 16],
          [2, 11, 16],
          [2, 11, 16],
        ],
        [2, 9, 16],
      ),
      4 * 2 * 9 * 11 * 16,
    ],
    [node('Softmax', [[2, 9]], [2, 9]), 0],
    [{ cat: 'Session', args: { op_name: 'MatMul' } }, 0],
  ];
  for (const [event, flops] of cases) {
    t.deepEqual(profiledFlops([event]), { flops, uncounted: [] }, JSON.stringify(event));
  }
  const all = profiledFlops([
    ...cases.map(([event]) => event),
    node('Einsum', [[2], [2]], [2]),
    node('QAttention', [[2]], [2]),
  ]);
  t.is(
    all.flops,
    cases.reduce((total, [, flops]) => total + flops, 0),
  );
  t.deepEqual(all.uncounted, ['Einsum', 'QAttention']);
});

test('operations of the embedded ranker are those of its published geometry', (t) => {
  // docs/benchmarks.md derives 0.87 GFLOP for width 192 and depth 4 on 196 patches.
  const encoder = { dim: 192, depth: 4, heads: 3, mlpDim: 768 };
  t.is((rankerFlops({ encoder, patchSize: 16 }, 196) / 1e9).toFixed(2), '0.87');
});

/** Whether a package of that folder of the repository finds the runtime. */
const hasRuntime = (folder: string): boolean => {
  try {
    const from = createRequire(join(repository, folder, 'package.json'));
    return from.resolve('onnxruntime-node') !== '';
  } catch {
    return false;
  }
};
const [here, inBench] = [hasRuntime('.'), hasRuntime('bench')];

async function model(t: Parameters<typeof temporaryFolder>[0]): Promise<string> {
  const path = join(await temporaryFolder(t), 'vit.onnx');
  await writeFile(path, encode(smallVit({ counts: 'computed' })));
  return path;
}

(here ? test.skip : test.serial)(
  `without onnxruntime-node: one sentence and its remedy${here ? ' (it is installed)' : ''}`,
  async (t) => {
    const path = await model(t);
    await t.throwsAsync(planSavings(path), {
      instanceOf: LtrpError,
      code: 'ERR_LTRP_UNSUPPORTED',
      message: /^onnxruntime-node runs the model .* `npm install onnxruntime-node` installs it\.$/,
    });
    const { code, stdout, stderr } = await ltrp(['plan', path]);
    t.is(code, 1);
    t.is(stdout, '');
    t.regex(stderr, /npm install onnxruntime-node/);
  },
);

(inBench ? test.serial : test.skip)(
  `a small model, measured${inBench ? '' : ' (no onnxruntime-node in bench/node_modules)'}`,
  async (t) => {
    const path = await model(t);
    const folder = process.cwd();
    process.chdir(join(repository, 'bench'));
    t.teardown(() => {
      process.chdir(folder);
    });
    const size = [grid.rows * grid.patch, grid.columns * grid.patch] as const;
    const plan = await planSavings(path, { rounds: 4, shares: [0.25, 0.5], size, batchSize: 2 });
    t.deepEqual(
      plan.shares.map(({ share, keep }) => [share, keep]),
      [
        [0.5, 10],
        [0.25, 5],
      ],
    );
    t.is(plan.patches, grid.patches);
    // The scorer alone takes a thousand times what this model does.
    t.is(plan.paysBelow, null);
    const projection = 2 * 2 * grid.patches * 3 * grid.patch ** 2 * grid.width;
    const blocks = (tokens: number): number =>
      2 * (2 * tokens * 4 * grid.width ** 2 + 4 * tokens ** 2 * grid.width);
    t.is(plan.full.flops, projection + blocks(grid.patches + 2));
    t.deepEqual(
      plan.shares.map(({ model: { flops } }) => flops),
      [projection + blocks(12), projection + blocks(7)],
    );
    t.true(plan.shares.every(({ total }) => (total.memory ?? 0) > (plan.full.memory ?? Infinity)));
    const controller = new AbortController();
    const stopped = new Error('stopped');
    setTimeout(() => {
      controller.abort(stopped);
    }, 200);
    const error = await t.throwsAsync(planSavings(path, { size, signal: controller.signal }));
    t.is(error, stopped);
  },
);

test('the processes that measure are Node in Electron too', (t) => {
  const { args, env } = ownProcess('measure-main', import.meta.url);
  t.regex(args.at(-1) ?? '', /test\/measure-main\.ts$/);
  t.is(env['ELECTRON_RUN_AS_NODE'], '1');
});

test('refused before anything is measured', async (t) => {
  const path = await model(t);
  for (const [options, message] of [
    [{ shares: [] }, /shares must be an array of 1 to 16 numbers/],
    [{ shares: [0.5, 1] }, /shares must be in \(0, 1\); got 1/],
    [{ rounds: 3 }, /rounds must be an integer in \[4, 10000\]; got 3/],
    [{ threads: 0 }, /threads must be an integer in \[1, 1024\]; got 0/],
    [{ batchSize: 1.5 }, /batchSize must be an integer/],
    [{ patches: 1 }, /patches must be an integer/],
    [{ size: 0 }, /size must be a positive integer/],
  ] as const) {
    await t.throwsAsync(planSavings(path, options), { code: 'ERR_LTRP_INVALID_ARGUMENT', message });
  }
  await t.throwsAsync(planSavings(`${path}x`), { code: 'ERR_LTRP_FILE_NOT_FOUND' });
});
