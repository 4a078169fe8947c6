/** Losses and measures of long lists: memory in proportion to the items, aborts answered at once, results that are numbers. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { rankAgreement, rankingLoss, type LossName } from '../lib/index.js';

const ramp = (items: number, factor: number): Float32Array =>
  Float32Array.from({ length: items }, (_, i) => ((i * factor) % items) / items);

test.serial('rankNet of 6,000 items takes no memory for their 36 million pairs', async (t) => {
  t.timeout(120_000);
  const items = 6_000;
  await rankingLoss('rankNet', ramp(100, 7), ramp(100, 13), [1, 100]);
  const before = process.memoryUsage.rss();
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20);
  const { loss, gradient } = await rankingLoss('rankNet', ramp(items, 7), ramp(items, 13), [
    1,
    items,
  ]);
  clearInterval(watch);
  t.true(most - before < 150e6, `${String((most - before) / 1e6)} MB`);
  t.true(loss > 0.3 && loss < 0.4); // half of log 2 and little more: predictions and targets have nothing to do with each other
  // Only differences count, so that the derivatives cancel.
  const sum = gradient.reduce((total, value) => total + value, 0);
  t.true(Math.abs(sum) < 1e-6 && gradient.some((value) => value !== 0));
});

const slow: [string, (signal: AbortSignal) => Promise<unknown>][] = [
  ...(['rankNet', 'focusedRank'] as LossName[]).flatMap((name) =>
    [16_000, 60_000].map((items): [string, (signal: AbortSignal) => Promise<unknown>] => [
      `${name} of ${String(items)} items`,
      (signal) =>
        rankingLoss(name, ramp(items, 7), ramp(items, 13), [1, items], { k: items / 2, signal }),
    ]),
  ),
  [
    'listMle of two million items',
    (signal) => rankingLoss('listMle', ramp(2e6, 7), ramp(2e6, 13), [1, 2e6], { signal }),
  ],
  [
    'rankAgreement of two million items',
    (signal) => rankAgreement(ramp(2e6, 7), ramp(2e6, 13), [1, 2e6], { signal }),
  ],
];

for (const [name, call] of slow) {
  test.serial(`${name} answers an abort within 200 ms`, async (t) => {
    t.timeout(60_000);
    const reason = new Error('no longer');
    const waits: number[] = [];
    // The best of some: other programs may hold this one up.
    for (let i = 0; i < 4 && !waits.some((wait) => wait < 200); i++) {
      const controller = new AbortController();
      const running = call(controller.signal);
      const settled = running.then(
        () => null,
        (error: unknown) => error,
      );
      await sleep(120);
      const start = performance.now();
      controller.abort(reason);
      t.is(await settled, reason);
      waits.push(performance.now() - start);
    }
    t.true(Math.min(...waits) < 200, waits.join(', '));
  });
}

test('a loss that is no number is an error that says why', async (t) => {
  for (const name of ['pointWise', 'rankNet', 'listMle'] as const) {
    const [predicted, target] = [Float32Array.of(3e38, -3e38), Float32Array.of(0, 1)];
    await t.throwsAsync(rankingLoss(name, predicted, target, [1, 2]), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /not finite.*largest magnitudes are 3e\+38 and 1/,
    });
  }
  for (const value of [NaN, Infinity]) {
    await t.throwsAsync(
      rankingLoss('listNet', Float32Array.of(value), Float32Array.of(1), [1, 1]),
      {
        code: 'ERR_LTRP_INVALID_ARGUMENT',
        message: /predicted/,
      },
    );
  }
});

test('focusedRank with k beyond the list is listMle', async (t) => {
  const [s, y] = [ramp(19, 7), ramp(19, 5)];
  const whole = await rankingLoss('listMle', s, y, [1, 19]);
  for (const k of [19, 20, 1000]) {
    t.deepEqual(await rankingLoss('focusedRank', s, y, [1, 19], { k }), whole);
  }
});
