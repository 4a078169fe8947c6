/** Keep lists for other encoders, against the golden data, and against a computation in float64 rectangle by rectangle. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  keepFor,
  LtrpError,
  rankFiles,
  type Box,
  type KeepList,
  type KeepOptions,
  type KeepTarget,
  type PictureRanking,
} from '../lib/index.js';
import { withGolden } from './support/golden.js';
import { golden, hasGolden, repository } from './support/paths.js';
import { Tensors } from './support/safetensors.js';

const folder = join(golden, 'downstream');
const foreign = hasGolden ? new Tensors(join(folder, 'foreign.safetensors')) : (undefined as never);

const runs = { numRuns: 60, seed: 18 };

/** As definitions have it: ranks by counting, cells by intersecting all pairs of rectangles. */
function reference(
  { logits, grid, width, height, view = [0, 0, width, height] }: PictureRanking,
  cells: Box[],
): number[] {
  const [left, top, across, down] = view as Box;
  const ranked = [...logits.keys()].filter((i) => logits[i] !== -Infinity);
  const rank = (i: number): number => {
    const below = ranked.filter((j) => (logits[j] ?? 0) < (logits[i] ?? 0)).length;
    const equal = ranked.filter((j) => logits[j] === logits[i]).length;
    return ranked.length === 1 ? 0 : (below + (equal - 1) / 2) / (ranked.length - 1);
  };
  const ranks = new Map(ranked.map((i) => [i, rank(i)]));
  const [h, w] = [down / grid.rows, across / grid.columns];
  return cells.map(([x, y, cellWidth, cellHeight]) => {
    let [sum, area] = [0, 0];
    for (const [i, value] of ranks) {
      const row = Math.floor(i / grid.columns);
      const column = i % grid.columns;
      const [x0, y0] = [left + column * w, top + row * h];
      const common =
        Math.max(0, Math.min(x + cellWidth, x0 + w) - Math.max(x, x0)) *
        Math.max(0, Math.min(y + cellHeight, y0 + h) - Math.max(y, y0));
      if (common < 1e-9 * cellWidth * cellHeight) continue;
      sum += common * value;
      area += common;
    }
    return area === 0 ? -Infinity : sum / area;
  });
}

/** The cells of a grid that covers `[left, top, width, height]`, raster order. */
function cellsOf(rows: number, columns: number, [left, top, width, height]: Box): Box[] {
  const [w, h] = [width / columns, height / rows];
  return Array.from({ length: rows * columns }, (_, i) => {
    return [left + (i % columns) * w, top + Math.floor(i / columns) * h, w, h];
  });
}

/** The kept of such values: the largest, ties at 9 decimals to the lower index. */
function largest(values: readonly number[], keep: number): number[] {
  const key = (i: number): number => Math.round((values[i] ?? 0) * 1e9);
  return [...values.keys()]
    .sort((a, b) => (key(a) === key(b) ? a - b : key(b) - key(a)))
    .slice(0, keep)
    .sort((a, b) => a - b);
}

function close(t: ExecutionContext, got: Float64Array, want: readonly number[], what = ''): void {
  t.is(got.length, want.length, what);
  const off = [...got].findIndex((value, i) => {
    const other = want[i] ?? NaN;
    return value !== other && !(Math.abs(value - other) < 1e-11);
  });
  t.is(off, -1, `${what}: ${got[off]} is not ${want[off]}`);
}

/** No two values so near that another order of summation could exchange them. */
function distinct(values: readonly number[]): boolean {
  const sorted = [...values].filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.every((value, i) => {
    const step = value - (sorted[i - 1] ?? -1);
    return step < 1e-12 || step > 3e-9;
  });
}

const qwen = (rows: number, columns: number): KeepTarget => ({ imageGridThw: [1, rows, columns] });
const square: Box = [80, 0, 480, 480];
const targets: Record<string, KeepTarget> = {
  'clip-224': { shape: [1, 3, 224, 224], patchSize: 14, view: square },
  'clip-336': { shape: [1, 3, 336, 336], patchSize: 14, view: square },
  'dinov2-224': { shape: [1, 3, 224, 224], patchSize: 14, view: [110, 30, 420, 420] },
  'dinov2-518': { shape: [1, 3, 518, 518], patchSize: 14, view: square },
  'siglip-384': { shape: [1, 3, 384, 384], patchSize: 14 },
  'qwen2-vl': qwen(34, 46),
  'qwen3-vl': qwen(30, 40),
};
for (const [name, target] of Object.entries(targets)) {
  for (const seen of ['stretch', 'crop']) {
    withGolden(`golden: ${seen} ranking on ${name}`, async (t) => {
      const map = Float32Array.from(
        new Tensors(join(folder, 'selectors.safetensors')).f64('map_variance').data,
      );
      const ranking: PictureRanking = {
        logits: map.slice(0, 196),
        grid: { rows: 14, columns: 14 },
        width: 640,
        height: 480,
        ...(seen === 'crop' ? { view: square } : {}),
      };
      const { values, cells, ids, positions } = await keepFor(ranking, target, { keepRatio: 0.5 });
      close(t, values, [...foreign.f64(`${seen}.${name}.value`).data]);
      t.deepEqual(cells, foreign.ids(`${seen}.${name}.kept`).data);
      if (!name.startsWith('qwen')) t.deepEqual(ids, cells);
      else if (seen === 'stretch') {
        t.deepEqual(ids, foreign.ids(`tokens.${name}`).data);
        t.deepEqual(positions, foreign.ids(`positions.${name}`).data);
      }
    });
  }
}

withGolden('golden: positions in the language model, as docs/keep.md computes them', async (t) => {
  const map = Float32Array.from(
    new Tensors(join(folder, 'selectors.safetensors')).f64('map_variance').data,
  );
  const ranking = {
    logits: map.slice(0, 196),
    grid: { rows: 14, columns: 14 },
    width: 640,
    height: 480,
  };
  for (const name of ['qwen2-vl', 'qwen3-vl']) {
    const { cells, grid } = await keepFor(ranking, targets[name] ?? {}, { keepRatio: 0.5 });
    const start = 7;
    const row = (cell: number): number => start + Math.floor(cell / grid.columns);
    const axes = [Array.from(cells, () => start), Array.from(cells, row)];
    axes.push(Array.from(cells, (cell) => start + (cell % grid.columns)));
    t.deepEqual(axes.flat(), [...foreign.ids(`language_positions.${name}`).data]);
    t.is(
      start + Math.max(grid.rows, grid.columns),
      foreign.ids(`text_resumes.${name}`).data[0] ?? NaN,
    );
  }
});

withGolden(
  'every grid that Qwen makes of its sizes: whole cells, and as many as asked',
  async (t) => {
    interface Sizes {
      settings: Record<string, { factor: number }>;
      tables: Record<string, [[number, number], [number, number]][]>;
    }
    const path = join(folder, 'smart-resize.json');
    const { settings, tables } = JSON.parse(readFileSync(path, 'utf8')) as Sizes;
    let grids = 0;
    for (const [name, table] of Object.entries(tables)) {
      const patch = (settings[name]?.factor ?? NaN) / 2;
      for (const [[height, width], resized] of table) {
        const [rows = 0, columns = 0] = resized.map((side) => side / patch);
        const logits = Float32Array.from({ length: 196 }, (_, i) => Math.sin(i * i));
        const ranking = { logits, grid: { rows: 14, columns: 14 }, width, height };
        const list = await keepFor(ranking, qwen(rows, columns), { keepRatio: 0.3 });
        t.is(list.cells.length, Math.max(1, Math.floor(0.3 * (rows * columns * 0.25) + 0.5)));
        checkMerged(t, list, 2);
        close(
          t,
          list.values,
          reference(ranking, cellsOf(rows / 2, columns / 2, [0, 0, width, height])),
        );
        grids++;
      }
    }
    t.true(grids > 40);
  },
);

/** Each kept cell has all of its patches, one after the other, and their places. */
function checkMerged(t: ExecutionContext, list: KeepList, merge: number): void {
  const { ids, positions, cells, grid, mask } = list;
  const wanted: number[] = [];
  const places: number[] = [];
  for (const cell of cells) {
    for (let patch = 0; patch < merge ** 2; patch++) {
      wanted.push(cell * merge ** 2 + patch);
      places.push(Math.floor(cell / grid.columns) * merge + Math.floor(patch / merge));
      places.push((cell % grid.columns) * merge + (patch % merge));
    }
  }
  t.deepEqual([...ids], wanted);
  t.deepEqual([...positions], places);
  t.deepEqual(
    [...mask.keys()].filter((id) => mask[id] === 1),
    wanted,
  );
}

const side = fc.integer({ min: 1, max: 9 });
const rankings: fc.Arbitrary<PictureRanking> = fc
  .record({
    rows: side,
    columns: side,
    width: fc.integer({ min: 16, max: 900 }),
    height: fc.integer({ min: 16, max: 900 }),
  })
  .chain(({ rows, columns, width, height }) => {
    const length = rows * columns;
    // Few distinct values: ties.
    const logit = fc.oneof(
      fc.integer({ min: -3, max: 3 }),
      fc.float({ min: -9, max: 9, noNaN: true }),
    );
    return fc
      .array(logit, { minLength: length, maxLength: length })
      .map((list) => ({ logits: Float32Array.from(list), grid: { rows, columns }, width, height }));
  });

test('any two grids: values of the float64 reference, and the largest of them', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      rankings,
      side,
      side,
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      async (ranking, rows, columns, keepRatio) => {
        const { width, height } = ranking;
        const list = await keepFor(ranking, { spatialShape: [rows, columns] }, { keepRatio });
        const want = reference(ranking, cellsOf(rows, columns, [0, 0, width, height]));
        close(t, list.values, want);
        const keep = Math.max(1, Math.floor(keepRatio * (rows * columns) + 0.5));
        t.is(list.cells.length, keep);
        if (distinct(want)) t.deepEqual([...list.cells], largest(want, keep));
        checkMerged(t, list, 1);
      },
    ),
    runs,
  );
});

test('parts of the picture, and more than it: values of the float64 reference', async (t) => {
  const part = fc.record({
    x: fc.integer({ min: -50, max: 10 }),
    y: fc.integer({ min: -50, max: 10 }),
    w: fc.integer({ min: 64, max: 400 }),
    h: fc.integer({ min: 64, max: 400 }),
  });
  await fc.assert(
    fc.asyncProperty(rankings, part, part, async (ranking, seen, shown) => {
      const view: Box = [seen.x, seen.y, seen.w, seen.h];
      const box: Box = [shown.x, shown.y, shown.w, shown.h];
      const target: KeepTarget = { shape: [70, 58], patchSize: 14, view: box };
      const { values, ids } = await keepFor({ ...ranking, view }, target, { keep: 7 });
      // 5 x 4 patches of 14 px: two columns of pixels belong to none.
      const covered: Box = [shown.x, shown.y, (shown.w * 56) / 58, shown.h];
      const want = reference({ ...ranking, view }, cellsOf(5, 4, covered));
      close(t, values, want);
      if (distinct(want)) t.deepEqual([...ids], largest(want, 7));
    }),
    runs,
  );
});

test('all kept is all ids, and merged cells are whole', async (t) => {
  const merge = fc.integer({ min: 1, max: 3 });
  await fc.assert(
    fc.asyncProperty(
      rankings,
      side,
      side,
      merge,
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      async (ranking, rows, columns, merge, keepRatio) => {
        const target = { imageGridThw: [1n, BigInt(rows * merge), BigInt(columns * merge)], merge };
        const all = await keepFor(ranking, target, { keepRatio: 1 });
        t.deepEqual([...all.ids.keys()], [...all.ids]);
        t.is(all.ids.length, rows * columns * merge ** 2);
        t.true(all.mask.every((kept) => kept === 1));
        checkMerged(t, await keepFor(ranking, target, { keepRatio }), merge);
      },
    ),
    runs,
  );
});

test('the same grid keeps the order of the ranking; a monotone change of the logits changes nothing', async (t) => {
  await fc.assert(
    fc.asyncProperty(rankings, fc.integer({ min: 1, max: 81 }), async (ranking, most) => {
      const { logits, grid } = ranking;
      const keep = Math.min(most, logits.length);
      const target = { spatialShape: Int32Array.of(grid.rows, grid.columns) };
      const { ids, values } = await keepFor(ranking, target, { keep });
      const best = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
      t.deepEqual(
        [...ids],
        best.slice(0, keep).sort((a, b) => a - b),
      );
      const changed = { ...ranking, logits: logits.map((value) => 2 * value + 5) };
      if (new Set(changed.logits).size === new Set(logits).size)
        t.deepEqual((await keepFor(changed, target, { keep })).values, values);
    }),
    runs,
  );
});

test('padding changes neither order nor positions', async (t) => {
  const pads = fc.tuple(side, side, side, side);
  await fc.assert(
    fc.asyncProperty(
      rankings,
      side,
      side,
      pads,
      async (ranking, rows, columns, [top, right, bottom, left]) => {
        const keep = Math.ceil((rows * columns) / 2);
        const plain = await keepFor(
          ranking,
          { shape: [rows * 8, columns * 8], patchSize: 8 },
          { keep },
        );
        // Whole patches of padding, marked by a pixel mask.
        const [height, width] = [rows + top + bottom, columns + left + right];
        const pixelMask = new Uint8Array(height * width * 64);
        for (let y = top * 8; y < (top + rows) * 8; y++)
          pixelMask.fill(1, y * width * 8 + left * 8, y * width * 8 + (left + columns) * 8);
        const shape = [height * 8, width * 8];
        const masked = await keepFor(ranking, { shape, patchSize: 8, pixelMask }, { keep });
        // The same, as a box that reaches beyond the picture.
        const [w, h] = [ranking.width / columns, ranking.height / rows];
        const view: Box = [-left * w, -top * h, width * w, height * h];
        const boxed = await keepFor(ranking, { shape, patchSize: 8, view }, { keep });
        const moved = Array.from(plain.positions, (place, i) => place + (i % 2 === 0 ? top : left));
        t.is(masked.values.filter(Number.isFinite).length, rows * columns);
        if (distinct([...plain.values])) {
          t.deepEqual([...masked.positions], moved);
          t.deepEqual([...boxed.positions], moved);
        }
        // Rows after the patches.
        const shorter = { spatialShape: [rows, columns] };
        const padded = await keepFor(
          ranking,
          { ...shorter, tokens: rows * columns + top },
          { keep },
        );
        t.deepEqual(padded.ids, (await keepFor(ranking, shorter, { keep })).ids);
        t.is(padded.mask.length, rows * columns + top);
        t.deepEqual([...padded.mask.subarray(rows * columns)], new Array(top).fill(0));
      },
    ),
    runs,
  );
});

const cat: PictureRanking = {
  logits: Float32Array.of(1, 2, 3, 4),
  grid: { rows: 2, columns: 2 },
  width: 640,
  height: 480,
};

test('patches that are not ranked count for nothing', async (t) => {
  const logits = Float32Array.of(-Infinity, 2, -Infinity, 4);
  const list = await keepFor({ ...cat, logits }, { spatialShape: [1, 2] }, { keepRatio: 1 });
  t.deepEqual([...list.values], [-Infinity, 0.5]);
  const one = await keepFor({ ...cat, logits }, { spatialShape: [2, 1] }, { keep: 1 });
  t.deepEqual([...one.values, ...one.ids], [0, 1, 1]);
});

test('padding is kept only where the number asked for takes it', async (t) => {
  const target: KeepTarget = { shape: [4, 4], patchSize: 2, view: [0, -480, 640, 960] };
  const half = await keepFor(cat, target, { keepRatio: 0.5 });
  t.deepEqual([...half.ids], [2, 3]);
  const more = await keepFor(cat, target, { keepRatio: 0.75 });
  t.deepEqual([...more.ids], [0, 2, 3]);
});

test('centre crops: an odd difference begins at the floor or at the even number', async (t) => {
  // 600 x 400 px: the short side to 200 gives 300 x 200. 213 px of 300 leave 87, half of it 43.5: 43, or 44.
  const picture = { ...cat, width: 600, height: 400 };
  const values = async (view: KeepTarget['view']): Promise<Float64Array> =>
    (await keepFor(picture, { shape: [200, 213], patchSize: 71, view }, { keep: 1 })).values;
  const crop = { shortSide: 200, height: 200, width: 213 } as const;
  for (const [rounding, left] of [
    ['floor', 43],
    ['even', 44],
  ] as const) {
    const box: Box = [left * 2, 0, 213 * 2, 400];
    t.deepEqual(await values({ ...crop, rounding }), await values(box), rounding);
  }
  t.notDeepEqual(
    await values({ ...crop, rounding: 'floor' }),
    await values({ ...crop, rounding: 'even' }),
  );
  // 333 x 500 px: the long side is 300.3 px at 200, rounded down.
  const upright = { ...cat, width: 333, height: 500 };
  const target = (view: KeepTarget['view']): KeepTarget => ({
    shape: [200, 200],
    patchSize: 50,
    view,
  });
  const cropped = await keepFor(
    upright,
    target({ shortSide: 200, height: 200, width: 200, rounding: 'floor' }),
    { keep: 3 },
  );
  const boxed = await keepFor(upright, target([0, (50 * 500) / 300, 333, (200 * 500) / 300]), {
    keep: 3,
  });
  close(t, cropped.values, [...boxed.values]);
});

test('results of rankFiles are rankings', async (t) => {
  const photo = join(repository, 'demo', 'photos', 'cat.jpg');
  for await (const ranking of rankFiles([photo])) {
    if (!ranking.ok) throw ranking.error;
    const { ids, grid } = await keepFor(ranking, qwen(34, 52), { keepRatio: 0.25 });
    t.deepEqual(grid, { rows: 17, columns: 26 });
    t.is(ids.length, 4 * Math.round((17 * 26) / 4));
  }
});

const refusals: [what: string, RegExp, Partial<PictureRanking>, KeepTarget, KeepOptions][] = [
  [
    'a target of no grid',
    /target must have exactly one of shape, .*; got none/,
    {},
    {},
    { keep: 1 },
  ],
  [
    'two grids',
    /got imageGridThw, spatialShape/,
    {},
    { ...qwen(2, 2), spatialShape: [2, 2] },
    { keep: 1 },
  ],
  ['no patch size', /target\.patchSize must be an integer/, {}, { shape: [28, 28] }, { keep: 1 }],
  [
    'a patch larger than the input',
    /target\.patchSize must be in \[1, 28\]; got 32/,
    {},
    { shape: [28, 56], patchSize: 32 },
    { keep: 1 },
  ],
  [
    'a merge of another kind',
    /target\.merge is for a target with imageGridThw; this one has shape/,
    {},
    { shape: [28, 28], patchSize: 14, merge: 2 },
    { keep: 1 },
  ],
  [
    'half cells',
    /target\.merge must divide the grid of 34 x 45 patches; got 2/,
    {},
    qwen(34, 45),
    { keep: 1 },
  ],
  [
    'a video',
    /target\.imageGridThw must be of a picture.*got 4 frames/,
    {},
    { imageGridThw: [4, 2, 2] },
    { keep: 1 },
  ],
  [
    'another number of rows',
    /target\.tokens must be the number of patches in the grid, 16; got 12/,
    {},
    { ...qwen(4, 4), tokens: 12 },
    { keep: 1 },
  ],
  [
    'fewer rows than patches',
    /target\.tokens must be at least the number of patches in the grid, 16; got 12/,
    {},
    { spatialShape: [4, 4], tokens: 12 },
    { keep: 1 },
  ],
  ['too many cells kept', /keep must be in \[1, 4\]; got 5/, {}, qwen(4, 4), { keep: 5 }],
  ['no share', /keepRatio must be in \(0, 1\]; got 0/, {}, qwen(4, 4), { keepRatio: 0 }],
  ['both numbers', /Give exactly one of keep/, {}, qwen(4, 4), { keep: 1, keepRatio: 0.5 }],
  [
    'a view elsewhere',
    /target\.view must have a ranked patch in it/,
    {},
    { spatialShape: [4, 4], view: [640, 0, 10, 10] },
    { keep: 1 },
  ],
  [
    'a crop of another size',
    /target\.view must be the size of the input, 28 x 28; got 224 x 224/,
    {},
    {
      shape: [28, 28],
      patchSize: 14,
      view: { shortSide: 256, height: 224, width: 224, rounding: 'floor' },
    },
    { keep: 1 },
  ],
  [
    'a mask with a hole',
    /target\.pixelMask must mark a rectangle; 3 pixels in 2 rows and 2 columns/,
    {},
    { shape: [2, 2], patchSize: 1, pixelMask: Uint8Array.of(1, 1, 1, 0) },
    { keep: 1 },
  ],
  [
    'an empty mask',
    /target\.pixelMask must mark a rectangle; 0 pixels/,
    {},
    { shape: [2, 2], patchSize: 1, pixelMask: new BigInt64Array(4) },
    { keep: 1 },
  ],
  [
    'a mask of another size',
    /target\.pixelMask must have 4 values; got 3/,
    {},
    { shape: [2, 2], patchSize: 1, pixelMask: new Uint8Array(3) },
    { keep: 1 },
  ],
  [
    'logits of another grid',
    /ranking\.logits must have 9 values for the shape \[3, 3\]; got 4/,
    { grid: { rows: 3, columns: 3 } },
    qwen(2, 2),
    { keep: 1 },
  ],
  [
    'nothing ranked',
    /ranking\.logits must rank at least one patch/,
    { logits: new Float32Array(4).fill(-Infinity) },
    qwen(2, 2),
    { keep: 1 },
  ],
  [
    'a view without area',
    /ranking\.view\.width must be in .*; got 0/,
    { view: [0, 0, 0, 4] },
    qwen(2, 2),
    { keep: 1 },
  ],
  [
    'a rounding that there is not',
    /ranking\.view\.rounding must be .*'floor'.*'even'/,
    { view: { shortSide: 8, height: 8, width: 8, rounding: 'up' as never } },
    qwen(2, 2),
    { keep: 1 },
  ],
];
for (const [what, message, ranking, target, options] of refusals) {
  test(`refused: ${what}`, async (t) => {
    const call = keepFor({ ...cat, ...ranking }, target, options);
    const error = await t.throwsAsync(call, { instanceOf: LtrpError, message });
    t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT');
  });
}
