/** `qualityMap`, by hand. */
import test from 'ava';
import { LtrpError, qualityMap, rankFiles } from '../lib/index.js';
import { picture } from './support/pictures.js';

/** 2 x 2 patches of 32 x 32 px, worst to best in raster order. */
const ranking = {
  logits: Float32Array.of(-3, 0, 1, 8),
  grid: { rows: 2, columns: 2 },
  width: 64,
  height: 64,
};

test('blocks have the mean of the ranks under them', async (t) => {
  const half = await qualityMap(ranking, { block: 16 });
  t.deepEqual(half.grid, { rows: 4, columns: 4 });
  const [a, b, c, d] = [0, 1 / 3, 2 / 3, 1];
  const expected = [a, a, b, b, a, a, b, b, c, c, d, d, c, c, d, d];
  half.values.forEach((value, at) => {
    t.true(Math.abs(value - (expected[at] ?? NaN)) < 1e-9, `block ${at}: ${value}`);
  });
  t.is(half.pixels, undefined);
  t.deepEqual(Array.from((await qualityMap(ranking, { block: 64 })).values), [0.5]);
});

test('blocks that reach beyond the picture have the value of what is in it', async (t) => {
  const wide = { ...ranking, width: 72, height: 64, logits: Float32Array.of(0, 1, 0, 1) };
  const { values, grid, pixels, width, height } = await qualityMap(wide, {
    block: 32,
    pixels: true,
  });
  t.deepEqual(grid, { rows: 2, columns: 3 });
  // Patches of 36 px: the second block has 4 px of the first of them. Ties share their mean rank.
  const [low, high] = [1 / 6, 5 / 6];
  const row = [low, (4 * low + 28 * high) / 32, high];
  [...row, ...row].forEach((value, at) => {
    t.true(Math.abs(value - (values[at] ?? NaN)) < 1e-9, `block ${at}: ${String(values[at])}`);
  });
  t.deepEqual([width, height, pixels?.length], [72, 64, 72 * 64]);
  const at = (x: number, y: number): number => pixels?.[y * 72 + x] ?? NaN;
  t.deepEqual(
    [at(0, 0), at(31, 63), at(32, 0), at(64, 40), at(71, 63)],
    [row[0], row[0], row[1], row[2], row[2]].map((value) => Math.round(255 * (value ?? NaN))),
  );
});

test('of a picture as rankFiles ranks it; nothing ranked is 0', async (t) => {
  for await (const ranked of rankFiles([await picture(250, 130).png().toBuffer()])) {
    if (!ranked.ok) throw ranked.error;
    const { values, grid } = await qualityMap(ranked);
    t.deepEqual(grid, { rows: 9, columns: 16 });
    t.is(values.length, 9 * 16);
    t.true(values.every((value) => value >= 0 && value <= 1));
    t.true(Math.max(...values) > 0.9);
  }
  const some = { ...ranking, logits: Float32Array.of(-Infinity, 0, 1, 8) };
  t.deepEqual(Array.from((await qualityMap(some, { block: 32 })).values), [0, 0, 0.5, 1]);
});

test('what cannot be is refused', async (t) => {
  const wrong: [object, object, RegExp][] = [
    [ranking, { block: 3 }, /^block must be/],
    [ranking, { block: 1025 }, /^block must be/],
    [ranking, { pixels: 1 }, /^pixels must be/],
    [{ ...ranking, view: [0, 0, 8, 8] }, {}, /^ranking\.view is not for a quality map/],
    [{ ...ranking, width: 2 ** 14, height: 2 ** 14 }, { block: 4 }, /16777216 blocks/],
    [{ ...ranking, width: 0 }, {}, /width/],
    [{ ...ranking, height: 1.5 }, {}, /height/],
  ];
  for (const [given, options, message] of wrong) {
    await t.throwsAsync(qualityMap(given as never, options), {
      instanceOf: LtrpError,
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  }
});
