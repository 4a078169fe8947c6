/** Dense regions, against a flood fill of their own, and by hand. */
import test from 'ava';
import fc from 'fast-check';
import { denseRegions, LtrpError, type PictureRanking, type RegionOptions } from '../lib/index.js';

const runs = { numRuns: 80, seed: 18 };

/** 4 x 5 patches of 10 x 10 px; the higher the digit, the higher the rank. */
function picture(...rows: string[]): PictureRanking {
  const columns = rows[0]?.length ?? 0;
  return {
    logits: Float32Array.from(rows.join(''), Number),
    grid: { rows: rows.length, columns },
    width: columns * 10,
    height: rows.length * 10,
  };
}
const two = picture('99000', '90000', '00007', '00088');

test('patches that touch are a region; regions come by weight', async (t) => {
  const regions = await denseRegions(two, { count: 5, keepRatio: 0.3 });
  // Six are kept: 9 9 9 have the ranks 6 5 4, 8 8 have 3 2, and 7 has 1.
  t.deepEqual(regions, [
    { box: [0, 0, 20, 20], weight: 15 / 21 },
    { box: [30, 20, 20, 20], weight: 6 / 21 },
  ]);
  t.deepEqual(await denseRegions(two, { keepRatio: 0.3 }), regions.slice(0, 1));
});

test('corners do not touch', async (t) => {
  const regions = await denseRegions(picture('90', '09'), { count: 9, keepRatio: 0.5 });
  t.deepEqual(
    regions.map(({ box }) => box),
    [
      [0, 0, 10, 10],
      [10, 10, 10, 10],
    ],
  );
});

test('padding and aspect: grown around the centre, moved into the picture, or cut to it', async (t) => {
  const middle = picture('00000', '00900', '00000');
  const box = async (options: RegionOptions, of = middle): Promise<number[] | undefined> =>
    (await denseRegions(of, { keepRatio: 0.01, ...options }))[0]?.box;
  t.deepEqual(await box({ padding: 0.2 }), [18, 8, 14, 14]);
  t.deepEqual(await box({ aspect: 2 }), [15, 10, 20, 10]);
  t.deepEqual(await box({ aspect: 0.5 }), [20, 5, 10, 20]);
  t.deepEqual(await box({ aspect: 0.5 }, picture('00000', '00000', '90000')), [0, 10, 10, 20]);
  // No box of that aspect around it fits: the largest that does.
  t.deepEqual(await box({ aspect: 0.5, padding: 2 }), [18, 0, 15, 30]);
  t.deepEqual(await box({ padding: 10 }), [0, 0, 50, 30]);
});

test('patches that are not ranked are in no region', async (t) => {
  const logits = Float32Array.of(-Infinity, 2, -Infinity, -Infinity);
  const ranking = { logits, grid: { rows: 1, columns: 4 }, width: 40, height: 10 };
  t.deepEqual(await denseRegions(ranking, { keepRatio: 1 }), [{ box: [10, 0, 10, 10], weight: 1 }]);
});

test('any ranking: the regions of a flood fill', async (t) => {
  const side = fc.integer({ min: 1, max: 8 });
  const given = fc.tuple(side, side).chain(([rows, columns]) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      logits: fc.uniqueArray(fc.integer({ min: -999, max: 999 }), {
        minLength: rows * columns,
        maxLength: rows * columns,
      }),
      keepRatio: fc.double({ min: 0.05, max: 1, noNaN: true }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(given, async ({ rows, columns, logits, keepRatio }) => {
      const ranking = {
        logits: Float32Array.from(logits),
        grid: { rows, columns },
        width: columns * 7,
        height: rows * 9,
      };
      const order = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
      const kept = order.slice(0, Math.max(1, Math.round(rows * columns * keepRatio)));
      const regions = await denseRegions(ranking, { count: 64, keepRatio });
      const expected = components(kept, columns);
      t.is(regions.length, expected.length);
      t.true(regions.every(({ weight }, i) => weight <= (regions[i - 1]?.weight ?? 1)));
      t.true(Math.abs(regions.reduce((sum, { weight }) => sum + weight, 0) - 1) < 1e-12);
      const boxes = expected.map((patches) => {
        const ys = patches.map((patch) => Math.floor(patch / columns));
        const xs = patches.map((patch) => patch % columns);
        const [top, left] = [Math.min(...ys), Math.min(...xs)];
        return [
          left * 7,
          top * 9,
          (Math.max(...xs) + 1 - left) * 7,
          (Math.max(...ys) + 1 - top) * 9,
        ];
      });
      const sorted = (list: number[][]): string[] => list.map((box) => box.join()).sort();
      t.deepEqual(sorted(regions.map(({ box }) => [...box])), sorted(boxes));
    }),
    runs,
  );
});

/** Sets of patches that touch: merged until nothing changes. */
function components(patches: number[], columns: number): number[][] {
  const sets = patches.map((patch) => [patch]);
  const touch = (a: number, b: number): boolean =>
    Math.abs(Math.floor(a / columns) - Math.floor(b / columns)) +
      Math.abs((a % columns) - (b % columns)) ===
    1;
  for (let i = 0; i < sets.length; i++) {
    for (let j = i + 1; j < sets.length; j++) {
      if (sets[i]?.some((a) => sets[j]?.some((b) => touch(a, b))) !== true) continue;
      sets[i]?.push(...(sets.splice(j, 1)[0] ?? []));
      j = i;
    }
  }
  return sets;
}

test('boxes with padding and aspect lie in the picture', async (t) => {
  const options = fc.record({
    count: fc.integer({ min: 1, max: 9 }),
    padding: fc.double({ min: 0, max: 10, noNaN: true }),
    aspect: fc.double({ min: 0.01, max: 100, noNaN: true }),
  });
  const sizes = fc.integer({ min: 1, max: 400 });
  await fc.assert(
    fc.asyncProperty(options, sizes, sizes, async (given, width, height) => {
      for (const { box } of await denseRegions({ ...two, width, height }, given)) {
        const [left, top, w, h] = box;
        t.true(
          box.every(Number.isInteger) && left >= 0 && top >= 0 && w >= 1 && h >= 1,
          box.join(),
        );
        t.true(left + w <= width && top + h <= height, box.join());
        // Rounding is by half a pixel a side.
        const fits = w > 1 && h > 1;
        if (fits)
          t.true(
            (w - 0.51) / (h + 0.51) <= given.aspect && (w + 0.51) / (h - 0.51) >= given.aspect,
          );
      }
    }),
    runs,
  );
});

for (const [what, options, message, ranking] of [
  ['count', { count: 0 }, /count must be in \[1, 1024\]; got 0/],
  ['aspect', { aspect: 0 }, /aspect must be in \[0\.01, 100\]; got 0/],
  ['padding', { padding: -1 }, /padding must be in \[0, 10\]; got -1/],
  ['share', { keepRatio: 0 }, /keepRatio must be in \(0, 1\]; got 0/],
  ['view', {}, /ranking\.view is not for regions/, { ...two, view: [0, 0, 1, 1] }],
] as [string, RegionOptions, RegExp, PictureRanking?][]) {
  test(`refused: ${what}`, async (t) => {
    await t.throwsAsync(denseRegions(ranking ?? two, options), {
      instanceOf: LtrpError,
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  });
}
