/** `npm run evaluate -- --photographs`: each measure against a number from elsewhere. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import sharp from 'sharp';
import { UsageError } from '../bench/command-line.js';
import { Resamples } from '../lib/evaluation/resamples.js';
import { spearmanBrown } from '../lib/evaluation/teacher-reference.js';
import { agreementWith } from '../scripts/evaluate/agreement.js';
import { heuristics, nearCentre, rankSum } from '../scripts/evaluate/heuristics.js';
import { background, keepOnly } from '../lib/evaluation/covered.js';
import { hasRuntime, Judge } from '../scripts/evaluate/judge.js';
import { allSelectors, keptPatches, topK } from '../scripts/evaluate/kept.js';
import { allMaps } from '../scripts/evaluate/maps.js';
import { markdown } from '../scripts/evaluate/markdown.js';
import {
  categoryPixels,
  fillPolygons,
  isMeasured,
  objectPixels,
  pixelsPerPatch,
} from '../lib/evaluation/masks.js';
import { halfKept, instanceRecall, objectRecall } from '../lib/evaluation/recall.js';
import { labelledPictures } from '../scripts/evaluate/instances.js';
import { readOptions } from '../scripts/evaluate/options.js';
import { allPhotographsOf, partOf, parts, photographsOf } from '../scripts/evaluate/parts.js';
import { pictureOf, readPicture, type Cut } from '../scripts/evaluate/pictures.js';
import { keeps, keptCount } from '../scripts/evaluate/shares.js';
import { Table } from '../scripts/evaluate/table.js';
import { CachedTeacher, chunkEnds } from '../scripts/evaluate/teacher-maps.js';
import { PatchRanker } from '../lib/index.js';
import { repository, temporaryFolder } from './support/paths.js';

const photographs = join(repository, '..', 'shared', 'photographs');
const withPhotographs = existsSync(join(photographs, 'README.md')) ? test : test.skip;
// Its runtime comes with the benchmark's packages: npm ci --prefix bench --ignore-scripts
const withJudge = hasRuntime() ? withPhotographs : test.skip;

/** `row row row` of digits to pixels. */
const rows = (text: string): number[] => Array.from(text.replaceAll(' ', ''), Number);

const square = (side: number, patch: number): Cut => ({ height: side, width: side, patch });

const grey = (values: readonly number[]): Uint8Array =>
  Uint8Array.from(values.flatMap((value) => [value, value, value]));

test('the part of a photograph follows from the SHA-256 of its name', (t) => {
  // printf %s NAME | sha256sum: d920d507 8fbdbaf9 ... / 2^32 = .848, .562; 000000000149.jpg: .351, .974;
  // n01440764_tench.JPEG: .901, .788
  t.is(partOf('coco/images', '000000000025.jpg'), 'test');
  t.is(partOf('coco/images', '000000000149.jpg'), 'validation');
  t.is(partOf('imagenette/val', 'any/folder/000000000149.jpg'), 'validation');
  t.is(partOf('in1k', '000000000149.jpg'), 'training');
  t.is(partOf('in1k', 'n01440764_tench.JPEG'), 'training');
  t.is(partOf('imagenette/train', '000000000149.jpg'), 'training');
  t.is(partOf('food/images', '000000000149.jpg'), 'training');
});

withPhotographs('every photograph has one part, and the shares are those of the rule', (t) => {
  const lists = parts.map((part) => allPhotographsOf(photographs, part));
  const all = lists.flat();
  t.is(new Set(all).size, all.length);
  // 8,680 photographs by the folder's README.
  t.is(all.length, 8680);
  const share = (folder: 'coco/images' | 'imagenette/val' | 'in1k', part: 'validation' | 'test') =>
    photographsOf(photographs, folder, part).length;
  const validation = share('imagenette/val', 'validation');
  t.true(Math.abs(validation / 1500 - 0.4) < 0.04, String(validation));
  t.is(validation + share('imagenette/val', 'test'), 1500);
  t.is(share('coco/images', 'validation') + share('coco/images', 'test'), 195);
  const heldOut = share('in1k', 'validation') + share('in1k', 'test');
  t.true(Math.abs(heldOut / 980 - 0.3) < 0.05, String(heldOut));
});

test('polygons to masks: stretched, even-odd, and a touched pixel counts', async (t) => {
  // A square of 2 to 6 pixels of an 8 x 4 picture, stretched to 8 x 8.
  const square = await fillPolygons([[2, 1, 6, 1, 6, 3, 2, 3]], [8, 4], [8, 8]);
  t.deepEqual(
    [...square],
    rows('00000000 00000000 00111100 00111100 00111100 00111100 00000000 00000000'),
  );
  // A second polygon inside the first is a hole; the outline of the hole covers some of pixel (3, 3).
  const ring = await fillPolygons(
    [
      [1, 1, 6, 1, 6, 6, 1, 6],
      [3.5, 3.5, 5, 3.5, 5, 5, 3.5, 5],
    ],
    [8, 8],
    [8, 8],
  );
  t.deepEqual(
    [...ring],
    rows('00000000 01111100 01111100 01111100 01110100 01111100 00000000 00000000'),
  );
  const touched = await fillPolygons([[1.75, 0, 3.25, 0, 3.25, 1, 1.75, 1]], [4, 4], [4, 4]);
  t.deepEqual([...touched], rows('0111 0000 0000 0000'));
  t.deepEqual([...pixelsPerPatch(square, 8, 4)], [4, 4, 4, 4]);
});

test('objects: small ones are in the picture but no instances', async (t) => {
  const picture = {
    width: 32,
    height: 32,
    objects: [
      [[0, 0, 8, 0, 8, 8, 0, 8]], // 64 pixels
      [[16, 16, 23, 16, 23, 24, 16, 24]], // 56
      [[4, 4, 12, 4, 12, 12, 4, 12]], // 64, 16 of them the first's
    ],
  };
  const objects = await objectPixels(picture, [32, 32], 16);
  t.deepEqual([...objects.any], [112, 0, 0, 56]);
  t.is(objects.each.length, 2);
  t.is(objects.cover, 168 / 1024);
  t.true(isMeasured(objects));
  t.false(isMeasured({ ...objects, cover: 0.6 }));
  t.false(isMeasured({ ...objects, each: [] }));
  t.deepEqual(objectRecall(objects, [0]), { value: 112 / 168, weight: 1 });
  t.deepEqual(instanceRecall(objects, [0, 1]), { value: 2, weight: 2 });
  t.deepEqual(instanceRecall(objects, [3]), { value: 0, weight: 2 });
  // The second category is as small as its object.
  const named = { ...picture, categories: ['cat', 'dog', 'cat'] };
  const categories = await categoryPixels(named, [32, 32], 16);
  t.deepEqual(
    categories.map((pixels) => [...pixels]),
    [[112, 0, 0, 0]],
  );
  t.deepEqual(halfKept([...objects.each, Float64Array.of(1, 0, 0, 2)], [0]), {
    value: 2,
    weight: 3,
  });
  t.deepEqual(halfKept([Float64Array.of(1, 1)], [1]), { value: 1, weight: 1 });
});

test('heuristics of a picture of four patches, by hand', (t) => {
  const picture = pictureOf(
    'made',
    grey(rows('1357 1357 0000 0044').map((v) => 10 * v)),
    square(4, 2),
  );
  const maps = heuristics(picture);
  // Forward differences: rows of 20, 20, 20, 0 to the right, and down where the next row is another.
  t.deepEqual(
    [...maps.gradient],
    [(4 * 20 + 10 + 30) / 4, (2 * 20 + 50 + 70) / 4, 40 / 4, (2 * 40) / 4],
  );
  const near = (map: Float64Array, expected: number[]): void => {
    for (const [i, value] of map.entries()) t.true(Math.abs(value - (expected[i] ?? NaN)) < 1e-9);
  };
  near(maps.lightness, [20, 60, 0, 20]);
  near(maps.variance, [100, 100, 0, 400]);
  t.deepEqual([...maps.centre], Array(4).fill(-Math.SQRT1_2));
  // Each channel differs from the mean of the three others by the same.
  const others = [20 - 80 / 3, 60 - 40 / 3, 0 - 100 / 3, 20 - 80 / 3];
  near(
    maps.contrast,
    others.map((value) => Math.sqrt(3) * Math.abs(value)),
  );
  t.deepEqual([...rankSum([maps.lightness, 1])], [1, 3, 0, 2], 'equal values in raster order');
  t.deepEqual([...rankSum([maps.lightness, 1], [[9, 8, 7, 6], -0.5])], [-0.5, 2, -0.5, 2]);
});

test('heuristics of a picture that is no square, by hand', (t) => {
  // Six columns and two rows of pixels: three patches beside each other.
  const pixels = grey(rows('001199 001199').map((v) => 10 * v));
  const maps = heuristics({ pixels, height: 2, width: 6, patch: 2 });
  t.deepEqual([...maps.centre], [-1, -0, -1]);
  // Rows and columns of 3 x 2 patches, in patches of the longer side.
  const tall = nearCentre({ height: 6, width: 4, patch: 2 });
  const [end, middle] = [-Math.hypot(1, 0.75), -0.75];
  t.deepEqual([...tall], [end, end, middle, middle, end, end]);
  t.deepEqual([...maps.gradient], [(2 * 10) / 4, (2 * 80) / 4, 0]);
  const contrast = [0 - (10 + 90) / 2, 10 - (0 + 90) / 2, 90 - (0 + 10) / 2];
  for (const [i, value] of maps.contrast.entries())
    t.true(Math.abs(value - Math.sqrt(3) * Math.abs(contrast[i] ?? NaN)) < 1e-9);
  // Kept patches before black: the middle one.
  const seen = keepOnly({ pixels, height: 2, width: 6, patch: 2 }, [1], new Uint8Array(36));
  t.deepEqual([...seen], [...grey(rows('001100 001100').map((v) => 10 * v))]);
});

test('what is kept: floor(L · keep), by scores or by selectPatches', async (t) => {
  t.deepEqual(
    keeps.map((keep) => keptCount(196, keep)),
    [49, 98, 147],
  );
  const picture = pictureOf(
    'made',
    Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251),
    square(64, 16),
  );
  const map = Float64Array.from([1, 5, 5, 2, 9, 0, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1]);
  t.deepEqual(await keptPatches(picture, map, 0.4, topK), [4, 11, 10, 9, 1, 2]);
  const shares = allSelectors.filter(({ options }) => options !== undefined);
  for (const selector of shares) {
    const kept = await keptPatches(picture, map, 0.4, selector);
    t.is(new Set(kept).size, 6, selector.name);
    const top = Math.floor(6 * (selector.options?.scoreShare ?? NaN));
    for (const id of [4, 11, 10, 9, 1, 2].slice(0, top)) t.true(kept.includes(id), selector.name);
  }
});

test('tau-b, NDCG and correlation are those of SciPy 1.17 and scikit-learn 1.9', async (t) => {
  const predicted = Float64Array.from([3, 1, 2, 2, 5, 4, 0, 7]);
  const target = Float64Array.from([0.5, 0.1, 0.4, 0.4, 0.2, 0.9, 0.3, 0.8]);
  const [found] = await agreementWith(new Map([['made', predicted]]), target);
  // scipy.stats.kendalltau(p, t).statistic; sklearn.metrics.ndcg_score([t - t.min()], [p])
  t.true(Math.abs((found?.tau ?? NaN) - 0.4814814814814815) < 1e-6);
  t.true(Math.abs((found?.ndcg ?? NaN) - 0.9050453161323767) < 1e-6);
  t.is(spearmanBrown(0.5), 2 / 3);
});

test('intervals are those of scipy.stats.bootstrap', (t) => {
  const values = [0.1, 0.4, 0.35, 0.8, 0.62, 0.05, 0.9, 0.33, 0.47, 0.71, 0.58, 0.2];
  const weights = [1, 3, 2, 5, 1, 1, 2, 4, 2, 1, 3, 2];
  const resamples = new Resamples(12, 20_000);
  // bootstrap((x,), np.mean, method='percentile', n_resamples=400000), and with
  // paired=True and lambda x, w, axis=-1: (x * w).sum(axis) / w.sum(axis); the tolerance is that of 20,000 draws.
  const plain = resamples.interval(values.map((value) => ({ value, weight: 1 })));
  const weighted = resamples.interval(
    values.map((value, i) => ({ value: value * (weights[i] ?? NaN), weight: weights[i] ?? NaN })),
  );
  for (const [found, expected] of [
    [plain, [0.45916666666666667, 0.3133, 0.6067]],
    [weighted, [0.502962962962963, 0.35, 0.6468]],
  ] as const) {
    for (const [i, value] of [found.value, found.low, found.high].entries()) {
      t.true(Math.abs(value - expected[i]!) < (i === 0 ? 1e-12 : 0.005), `${value} ${expected[i]}`);
    }
  }
  const sample = values.map((value) => ({ value, weight: 1 }));
  const shifted = sample.map(({ value }) => ({ value: value - 0.125, weight: 1 }));
  const difference = resamples.difference(sample, shifted);
  for (const value of Object.values(difference)) t.true(Math.abs(value - 0.125) < 1e-12);
  // A sum of samples with other weights, in the same draws: two of one less itself is itself.
  const heavier = values.map((value, i) => ({ value: value * (i + 1), weight: i + 1 }));
  const sum = resamples.sum([
    { sample: heavier, factor: 2 },
    { sample, factor: 1 },
    { sample: heavier, factor: -2 },
  ]);
  for (const [key, value] of Object.entries(plain))
    t.true(Math.abs(value - sum[key as keyof typeof sum]) < 1e-9, key);
  t.throws(() => resamples.interval(sample.slice(1)), { message: /11 pictures, but 12/ });
});

test('a table pairs pictures, and says what a reference has more', (t) => {
  const made = new Table('coco');
  for (const [own, other] of [
    [0.5, 0.25],
    [0.75, 0.5],
    [0.25, 0],
  ] as const) {
    for (const [measure, keep] of ['object recall', 'instance recall'].flatMap((name) =>
      keeps.map((share) => [name, share] as const),
    )) {
      const cell = { measure, selector: 'top-k', keep };
      made.add({ ...cell, row: 'ranker' }, { value: own, weight: 1 });
      made.add({ ...cell, row: 'centre' }, { value: other, weight: 1 });
      made.add({ ...cell, row: 'ranker', selector: 'other' }, { value: other, weight: 1 });
    }
  }
  const differences = made.differences(['ranker']);
  t.deepEqual(
    differences
      .filter(({ measure, keep }) => measure === 'object recall' && keep === 0.25)
      .map(({ row, selector, minus, value }) => [row, selector, minus, value]),
    [
      ['centre', 'top-k', { row: 'ranker', selector: 'top-k' }, -0.25],
      ['ranker', 'other', { row: 'ranker', selector: 'top-k' }, -0.25],
    ],
  );
  const text = markdown(
    {
      command: 'c',
      date: '',
      processor: 'p',
      part: 'test',
      size: 224,
      patch: 16,
      objectFit: 'stretch',
      models: [],
      teacherSettings: {},
      judge: null,
      sets: [{ name: 'coco', pictures: ['a', 'b', 'c'], instances: 3 }],
      selectors: ['top-k'],
      rows: ['ranker', 'centre'],
      figures: made.figures(),
      differences,
      reliability: [],
    },
    ['ranker'],
  );
  t.true(text.includes('| ranker | .500 / .500 / .500 | .500 / .500 / .500 |'), text);
  t.true(text.includes('| centre | +.250 [+.250, +.250] | +.250'), text);
});

test('the judge sees kept patches before the mean colour or a blurred copy', async (t) => {
  // Decoders return Buffers.
  const pixels = Buffer.from(grey(rows('1133 1133 5577 5577')));
  const picture = pictureOf('made', pixels, square(4, 2));
  const mean = await background(picture, 'mean');
  t.deepEqual([...mean], Array(48).fill(4));
  t.deepEqual([...keepOnly(picture, [1], mean)], [...grey(rows('4433 4433 4444 4444'))]);
  t.deepEqual([...mean], Array(48).fill(4), 'the background is as it was');
  const size = 224;
  const stripes = Uint8Array.from(
    { length: size * size * 3 },
    (_, i) => (Math.floor(i / 3) % 2) * 255,
  );
  const blurred = await background(pictureOf('stripes', stripes, square(size, 16)), 'blur');
  // Away from the edge, which goes on with the stripe that it ends with.
  const middle = 3 * (112 * size + 112);
  for (const value of blurred.subarray(middle, middle + 6)) {
    t.true(Math.abs(value - 127.5) < 4, `stripes of a pixel are gone: ${value}`);
  }
});

withJudge("the judge's answers are kept, and right as often as its card says", async (t) => {
  const cache = await temporaryFolder(t);
  const file = join(photographs, 'judge', 'mobilenet_v1_0.25_128.onnx');
  const labels = readFileSync(join(photographs, 'judge', 'labels.tsv'), 'utf8')
    .split('\n')
    .map((line) => line.split('\t')[1]); // below a line of headings
  const paths = ['training', 'validation', 'test'].flatMap((part) =>
    photographsOf(photographs, 'in1k', part as 'test'),
  );
  const judge = await Judge.open(file, cache);
  let right = 0;
  const judged = paths.sort().filter((_, i) => i % 6 === 0);
  for (const path of judged) {
    const picture = await readPicture(path, { size: 224, patch: 16, fit: 'crop' });
    const [answer = -1] = await judge.answers(picture, ['whole']);
    if (picture.name.startsWith(labels[answer + 1] ?? '-')) right++;
  }
  // .450 of every third picture by the folder's README: two standard errors of 164 pictures are .078.
  t.true(Math.abs(right / judged.length - 0.45) < 0.078, `${right} of ${judged.length}`);
  t.is(judge.spent, judged.length);
  const again = await Judge.open(file, cache);
  const first = await readPicture(judged[0] ?? '', { size: 224, patch: 16, fit: 'crop' });
  await again.answers(first, ['whole']);
  t.is(again.spent, 0);
  await again.answers(first, [
    'whole',
    { kept: [1, 2], fill: 'mean' },
    { kept: [2, 1], fill: 'mean' },
  ]);
  t.is(again.spent, 1);
});

withPhotographs(
  'coco: heuristics, their sums and the best possible as computed elsewhere; the embedded ranker is above each heuristic',
  async (t) => {
    // Share of object pixels at 25 / 50 / 75% of the patches, then of instances. The rows were computed elsewhere, with
    // masks and instances of another rasteriser.
    const expected = {
      centre: [0.432, 0.714, 0.894, 0.422, 0.695, 0.883],
      gradient: [0.429, 0.712, 0.886, 0.554, 0.817, 0.94],
      variance: [0.443, 0.726, 0.898, 0.465, 0.789, 0.943],
      'gradient + centre': [0.487, 0.763, 0.922, 0.549, 0.819, 0.946],
      'variance + centre': [0.501, 0.775, 0.922, 0.516, 0.792, 0.944],
      'variance + centre - 0.7 lightness': [0.525, 0.791, 0.937, 0.53, 0.813, 0.959],
      'best possible': [0.828, 0.982, 1, 0.705, 0.949, 1],
    };
    await using ranker = await PatchRanker.load('tiny');
    const found = new Map<string, number[]>();
    let pictures = 0;
    let instances = 0;
    for (const entry of await labelledPictures(join(photographs, 'coco'))) {
      const objects = await objectPixels(entry, [224, 224], 16);
      if (!isMeasured(objects)) continue;
      pictures++;
      instances += objects.each.length;
      const picture = await readPicture(entry.path, { size: 224, patch: 16, fit: 'stretch' });
      const rankers = [{ name: 'ranker tiny', ranker }];
      const maps = new Map([
        ...(await allMaps(picture, rankers, [])),
        ['best possible', objects.any],
      ]);
      for (const [row, map] of maps) {
        const sums = found.get(row) ?? [0, 0, 0, 0, 0, 0];
        for (const [i, keep] of keeps.entries()) {
          const kept = await keptPatches(picture, map, keep, topK);
          sums[i]! += objectRecall(objects, kept).value;
          sums[i + 3]! += instanceRecall(objects, kept).value;
        }
        found.set(row, sums);
      }
    }
    t.is(pictures, 160);
    t.true(Math.abs(instances - 1143) <= 1, String(instances));
    for (const [row, values] of Object.entries(expected)) {
      const sums = found.get(row);
      for (const [i, value] of values.entries()) {
        const own = (sums?.[i] ?? NaN) / (i < 3 ? pictures : instances);
        t.true(Math.abs(own - value) <= 0.003, `${row} ${i}: ${own.toFixed(4)}, expected ${value}`);
      }
    }
    const ranked = found.get('ranker tiny') ?? [];
    // Object pixels at 25, 50 and 75%.
    for (const row of ['centre', 'gradient', 'variance', 'contrast']) {
      for (const [i, more] of [0.03, 0.03, 0].entries()) {
        const difference = ((ranked[i] ?? NaN) - (found.get(row)?.[i] ?? NaN)) / pictures;
        t.true(difference >= more, `${row} ${i}: ${difference.toFixed(4)}`);
      }
    }
  },
);

test("a teacher's maps are the same in every run, and computed once", async (t) => {
  t.deepEqual(chunkEnds(16), [1, 2, 4, 8]);
  const settings = {
    maskRatio: 0.75,
    surprise: false,
    metric: 'l1',
    drop: 'decoder',
    precision: 'float32',
  } as const;
  const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251);
  const picture = pictureOf('made', noise, square(64, 16));
  const teachers: CachedTeacher[] = [];
  const maps = [];
  for (let run = 0; run < 2; run++) {
    const cache = await temporaryFolder(t);
    const teacher = await CachedTeacher.open('tiny', [2, 4], settings, cache);
    teachers.push(teacher);
    maps.push(await teacher.maps(picture));
    t.is(teacher.spent.rounds, 4);
    const again = await CachedTeacher.open('tiny', [4], settings, cache);
    t.deepEqual((await again.maps(picture)).mean.get(4), maps[run]?.mean.get(4));
    t.is(again.spent.rounds, 0);
  }
  t.deepEqual(maps[0], maps[1], 'computed again, elsewhere');
  const [first, second] = maps[0]?.halves.get(4) ?? [[], []];
  t.notDeepEqual(first, second);
  for (const [i, value] of (maps[0]?.mean.get(4) ?? []).entries()) {
    t.true(Math.abs(value - ((first[i] ?? NaN) + (second[i] ?? NaN)) / 2) < 1e-12);
  }
  for (const teacher of teachers) await teacher.dispose();
});

test('options', (t) => {
  const given = ['--photographs', 'folder'];
  t.like(readOptions(given), { part: 'test', rounds: [2, 16, 64], rankers: ['tiny'] });
  t.like(readOptions([...given, '--quick', '--rounds', '4,2']), { rounds: [2, 4], judge: 'v1' });
  t.deepEqual(readOptions([...given, '--ranker', 'a', '--ranker', 'b']).rankers, ['a', 'b']);
  for (const [wrong, message] of [
    [[], /needs a folder/],
    [[...given, '--part', 'training'], /only listed/],
    [[...given, '--part', 'dev'], /one of training, validation, test/],
    [[...given, '--rounds', '3'], /powers of two/],
    [[...given, '--pictures', '0'], /positive number/],
    [[...given, '--out', join(repository, 'docs')], /must not be in the repository/],
    [[...given, '--nonsense'], /nonsense/],
  ] as const) {
    t.throws(() => readOptions(wrong), { instanceOf: UsageError, message });
  }
});

test('a folder of that layout: JSON, Markdown and a page, and nothing of what is missing', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'out');
  mkdirSync(join(folder, 'coco', 'images'), { recursive: true });
  const names = Array.from({ length: 12 }, (_, i) => `made-${i}.jpg`);
  for (const [i, name] of names.entries()) {
    const noise = Uint8Array.from({ length: 60 * 40 * 3 }, (_, k) => (k * (7919 + i)) % 251);
    await sharp(noise, { raw: { width: 60, height: 40, channels: 3 } })
      .jpeg()
      .toFile(join(folder, 'coco', 'images', name));
  }
  const instances = {
    images: names.map((file_name, id) => ({ id, file_name, width: 60, height: 40 })),
    annotations: names.map((_, image_id) => ({
      image_id,
      iscrowd: 0,
      segmentation: [[0, 0, 30, 0, 30, 20, 0, 20]],
    })),
  };
  writeFileSync(join(folder, 'coco', 'instances.json'), JSON.stringify(instances));
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    ...['--import=tsx', join(repository, 'scripts', 'evaluate', 'photographs.ts')],
    ...['--photographs', folder, '--teacher', 'none', '--out', out],
  ]);
  t.regex(stderr, /nothing is judged/);
  t.is(readFileSync(join(out, 'results.md'), 'utf8'), stdout);
  const results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as {
    sets: { pictures: string[] }[];
    figures: { row: string; selector: string; measure: string; keep: number; value: number }[];
  };
  const expected = names.filter((name) => partOf('coco/images', name) === 'test').sort();
  t.true(expected.length > 0 && expected.length < names.length);
  t.deepEqual(results.sets[0]?.pictures, expected);
  // The object is the top left quarter, 49 of 196 patches.
  const best = results.figures.filter(
    (each) => each.row === 'best possible' && each.selector === 'top-k',
  );
  t.deepEqual([...new Set(best.map(({ value }) => value))], [1]);
  const page = readFileSync(join(out, 'page.html'), 'utf8');
  t.is(page.split('src="data:image/jpeg').length - 1, expected.length);
  t.true(page.includes('"variance + centre"'));

  // Rows have the names of models: two of one name were one row.
  const twice = await t.throwsAsync<Error & { code: number; stderr: string }>(
    promisify(execFile)(process.execPath, [
      ...['--import=tsx', join(repository, 'scripts', 'evaluate', 'photographs.ts')],
      ...['--photographs', folder, '--teacher', 'none', '--out', out],
      ...['--ranker', 'tiny', '--ranker', 'tiny'],
    ]),
  );
  t.is(twice.code, 2);
  t.regex(twice.stderr, /two models are called tiny; rename the file or folder of one/);
});
