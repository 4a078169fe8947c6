/** `ltrp evaluate`: its figures are those of the classifier on the same patches, and what it cannot measure is refused. */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import {
  MaskedAutoencoder,
  meanAveragePrecision,
  rankAgreement,
  readImages,
  selectors,
  selectPatches,
  VisionTransformer,
  type SelectorName,
} from '../lib/index.js';
import { pathToFileURL } from 'node:url';
import { ltrp } from './support/command.js';
import { withGolden } from './support/golden.js';
import { golden, repository, temporaryFolder } from './support/paths.js';
import { Tensors } from './support/safetensors.js';

const downstream = join(golden, 'downstream');
const pictures = [0, 1, 2, 3].map((i) => join(golden, 'full', `image-${i}.png`));

interface Printed {
  pictures: number;
  unreadable: string[];
  reference: string;
  keeps: number[];
  figures: {
    measure: string;
    selector: SelectorName;
    keep: number | null;
    value: number;
    low: number;
    high: number;
    more: object | null;
    change: { value: number } | null;
  }[];
  classes: string[];
  precision: {
    groups: { measure: string; classes: number; withoutPositive: number }[];
    perClass: { selector: string; keep: number; precision: (number | null)[] }[];
  } | null;
  gigaflops: {
    classifier: Record<string, number>;
    selectors: Partial<Record<SelectorName, Record<string, number>>>;
  };
  fineTuned: { selector: string; keep: number; model: string }[];
  picturesWithObjects: number | null;
  teacher: {
    rounds: number;
    halves: { spearman: { value: number }; kendallTau: { value: number } };
    whole: { value: number };
  } | null;
  judge: { model: string; fill: string } | null;
  curves: { selector: string; steps: number[]; insertion: number[]; deletion: number[] }[];
}

/** Names of ten classes, and a folder in which each golden picture has its own. */
async function labelled(
  folder: string,
  labels: ArrayLike<number> = new Tensors(join(downstream, 'classifier.safetensors')).ids('labels')
    .data,
): Promise<{ classes: string; data: string }> {
  const names = Array.from({ length: 10 }, (_, i) => `class-${i}`);
  const classes = join(folder, 'names.txt');
  await writeFile(classes, `${names.join('\n')}\n`);
  const data = join(folder, 'data');
  for (const [i, path] of pictures.entries()) {
    const own = join(data, names[labels[i]!]!);
    await mkdir(own, { recursive: true });
    await copyFile(path, join(own, `${i}.png`));
  }
  return { classes, data };
}

withGolden('accuracy and curves are those of the classifier on these patches', async (t) => {
  const folder = await temporaryFolder(t);
  const { classes, data } = await labelled(folder);
  const model = join(downstream, 'ltrp-classifier.pth');
  const out = join(folder, 'out');
  const asked = ['--model', model, '--data', data, '--classes', classes, '--fit', 'stretch'];
  const { code, stdout, stderr } = await ltrp([
    ...['evaluate', ...asked, '--selectors', 'variance,grid,cls-attention', '--keep', '25%,100%'],
    ...['--curves', '8', '--batch-size', '3', '--json', '--out', out],
  ]);
  t.is(code, 0, stderr);
  const printed = JSON.parse(stdout) as Printed;
  t.like(printed, { pictures: 4, unreadable: [], reference: 'variance' });
  t.deepEqual(JSON.parse(await readFile(join(out, 'evaluate.json'), 'utf8')), printed);
  t.regex(await readFile(join(out, 'evaluate.md'), 'utf8'), /\| `cls-attention` \| yes \|/);
  // All patches in the classifier; of the grid there is nothing to compute.
  const { gigaflops } = printed;
  t.is(gigaflops.selectors.grid?.['0.25'], 0);
  t.true(gigaflops.selectors['cls-attention']!['1']! < gigaflops.classifier['1']!);
  t.regex(
    await readFile(join(out, 'evaluate.html'), 'utf8'),
    /Accuracy on kept patches[^]*Insertion: /,
  );

  const labels = new Tensors(join(downstream, 'classifier.safetensors')).ids('labels').data;
  await using vit = await VisionTransformer.load(model);
  const images = await readImages(pictures, { size: 224, fit: 'stretch' });
  const figure = (selector: string, keep: number | null, measure = 'accuracy') =>
    printed.figures.find(
      (each) => each.selector === selector && each.keep === keep && each.measure === measure,
    );
  for (const selector of ['variance', 'grid', 'cls-attention'] as const) {
    for (const keep of [0.25, 1]) {
      const { scores } = await selectors[selector].score(images, { model: vit, keep: 196 * keep });
      const { indices } = await selectPatches(images, scores, { keepRatio: keep, scoreShare: 1 });
      const { top } = await vit.classify(images, { keep: indices, topK: 1 });
      const right = labels.filter((label, i) => top?.[i] === label).length;
      t.is(figure(selector, keep)?.value, right / 4, `${selector} ${keep}`);
      const change = keep === 1 ? undefined : right / 4 - (figure(selector, 1)?.value ?? NaN);
      t.is(figure(selector, keep)?.change?.value, change, `${selector} ${keep}`);
    }
  }
  t.is(figure('variance', 1)?.more, null);
  // All begin with all patches or with none, whatever their order.
  const [first, second] = printed.curves;
  t.is(printed.curves.length, 2); // the grid's ranking depends on how many are kept
  t.deepEqual(first?.steps, [0, 24, 49, 74, 98, 122, 147, 172, 196]);
  for (const [a, b] of [
    [first?.insertion[0], first?.deletion[8]],
    [first?.insertion[8], first?.deletion[0]],
    [first?.insertion[8], second?.insertion[8]],
  ])
    t.true(Math.abs(a! - b!) < 1e-6, `${a} ${b}`);
  t.truthy(figure('variance', null, 'insertion area'));
});

withGolden('many labels: mean average precision, and of unseen categories alone', async (t) => {
  const folder = await temporaryFolder(t);
  const { data } = await labelled(folder);
  const model = join(downstream, 'ltrp-multilabel.pth');
  const file = new Tensors(join(downstream, 'multilabel.safetensors'));
  const targets = Float32Array.from(file.ids('ml_targets').data);
  const names = Array.from({ length: 20 }, (_, i) => `thing-${i}`);
  const [classes, unseen, list] = ['classes.txt', 'unseen.txt', 'labels.tsv'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  await writeFile(classes, names.join('\n'));
  await writeFile(unseen, names.slice(0, 9).join('\n'));
  const own = names.map((name, c) => ({ name, c }));
  const lines = pictures.map((_, i) =>
    [`${i}.png`, ...own.filter(({ c }) => targets[20 * i + c] === 1).map(({ name }) => name)].join(
      '\t',
    ),
  );
  await writeFile(list, `${lines.join('\n')}\n`);
  const { code, stdout, stderr } = await ltrp([
    ...['evaluate', '--model', model, '--data', data, '--labels', list, '--classes', classes],
    // What is asked for twice is measured once.
    ...['--selectors', 'centre,random,centre', '--keep', '100%,50%,0.5', '--batch-size', '3'],
    ...['--unseen', unseen, '--json'],
  ]);
  t.is(code, 0, stderr);
  const printed = JSON.parse(stdout) as Printed;
  t.deepEqual(printed.keeps, [0.5, 1]);
  await using vit = await VisionTransformer.load(model);
  // Files in the order of their names, by class.
  const order = printed.pictures === 4 ? await inOrder(data) : [];
  const images = await readImages(
    order.map((i) => pictures[i] as string),
    { size: 224, fit: 'stretch' },
  );
  const { logits } = await vit.classify(images);
  const of = (columns: readonly number[]) => {
    const pick = (values: Float32Array, rows: readonly number[]) =>
      Float32Array.from(rows.flatMap((i) => columns.map((c) => values[20 * i + c]!)));
    return meanAveragePrecision(pick(logits, [0, 1, 2, 3]), pick(targets, order), [
      4,
      columns.length,
    ]);
  };
  const value = (measure: string) =>
    printed.figures.find(
      (each) => each.measure === measure && each.selector === 'centre' && each.keep === 1,
    );
  const all = await of(own.map(({ c }) => c));
  t.true(Math.abs((value('mAP')?.value ?? NaN) - all.mean) < 1e-9);
  t.true((value('mAP')?.low ?? 1) < (value('mAP')?.high ?? 0));
  const some = await of([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  t.true(Math.abs((value('mAP, unseen')?.value ?? NaN) - some.mean) < 1e-9);
  const seen = own.slice(9).map(({ c }) => c);
  const others = await of(seen);
  t.true(Math.abs((value('mAP, seen')?.value ?? NaN) - others.mean) < 1e-9);
  // A class that none of the four pictures shows has no precision, and no place in a mean.
  const shown = own.map(({ c }) => order.some((i) => targets[20 * i + c] === 1));
  const absent = (classes: readonly number[]) => classes.filter((c) => !shown[c]).length;
  t.true(absent(seen) > 0, 'the goldens have such a class');
  const ids = own.map(({ c }) => c);
  t.deepEqual(printed.precision?.groups, [
    { measure: 'mAP', classes: 20, withoutPositive: absent(ids) },
    { measure: 'mAP, seen', classes: 11, withoutPositive: absent(seen) },
    { measure: 'mAP, unseen', classes: 9, withoutPositive: absent(ids.slice(0, 9)) },
  ]);
  t.deepEqual(printed.classes, names);
  const perClass = printed.precision?.perClass.find(
    (each) => each.selector === 'centre' && each.keep === 1,
  )?.precision;
  t.deepEqual(
    perClass?.map((each) => each !== null),
    shown,
  );
  for (const [c, each] of (perClass ?? []).entries())
    if (each !== null) t.true(Math.abs(each - averagePrecision(logits, targets, order, c)) < 1e-6);
  // What half the patches change of the unseen, minus what they change of the seen.
  const at = (measure: string, keep: number) =>
    printed.figures.find(
      (each) => each.measure === measure && each.selector === 'centre' && each.keep === keep,
    )?.value ?? NaN;
  const lost = (group: string) => at(`mAP, ${group}`, 0.5) - at(`mAP, ${group}`, 1);
  const change = at('mAP change, unseen minus seen', 0.5);
  t.true(Math.abs(change - (lost('unseen') - lost('seen'))) < 1e-9);
});

/** Of a class, by its definition: mean precision at the positives of the falling order, which has no ties here. */
function averagePrecision(
  logits: Float32Array,
  targets: Float32Array,
  order: readonly number[],
  c: number,
): number {
  const falling = [0, 1, 2, 3].sort((a, b) => logits[20 * b + c]! - logits[20 * a + c]!);
  const hits = falling.map((row) => targets[20 * order[row]! + c] === 1);
  const at = hits.flatMap((hit, i) =>
    hit ? [hits.slice(0, i + 1).filter(Boolean).length / (i + 1)] : [],
  );
  return at.reduce((sum, value) => sum + value, 0) / at.length;
}

/** Numbers of the pictures as the command finds them. */
async function inOrder(data: string): Promise<number[]> {
  const labels = new Tensors(join(downstream, 'classifier.safetensors')).ids('labels').data;
  const paths = Array.from(labels, (label, i) => ({
    path: join(data, `class-${label}`, `${i}`),
    i,
  }));
  return Promise.resolve(paths.sort((a, b) => (a.path < b.path ? -1 : 1)).map(({ i }) => i));
}

withGolden('a classifier of its own for a selector and share', async (t) => {
  const folder = await temporaryFolder(t);
  const [model, own] = ['ltrp-classifier.pth', 'mae-finetuned.pth'].map((name) =>
    join(downstream, name),
  ) as [string, string];
  await using one = await VisionTransformer.load(model);
  await using other = await VisionTransformer.load(own);
  const images = await readImages(pictures, { size: 224, fit: 'stretch' });
  const answers = async (vit: VisionTransformer, selector: 'grid' | 'centre', keep: number) => {
    const { scores } = await selectors[selector].score(images, { keep: 196 * keep });
    const { indices } = await selectPatches(images, scores, { keepRatio: keep, scoreShare: 1 });
    return Array.from((await vit.classify(images, { keep: indices, topK: 1 })).top ?? []);
  };
  // The classes are what the second model answers on the grid's half.
  const truth = await answers(other, 'grid', 0.5);
  const { classes, data } = await labelled(folder, truth);
  const right = (found: readonly number[]) => found.filter((id, i) => id === truth[i]).length / 4;
  t.true(right(await answers(one, 'grid', 0.5)) < 1);
  const asked = ['--model', model, '--data', data, '--classes', classes, '--fit', 'stretch'];
  const evaluate = ['evaluate', ...asked, '--selectors', 'grid,centre', '--keep', '50%,100%'];
  const { code, stdout, stderr } = await ltrp([
    ...[...evaluate, '--json', '--fine-tuned', `grid@50%=${own}`],
    ...['--fine-tuned', `centre@1=${own}`],
  ]);
  t.is(code, 0, stderr);
  const printed = JSON.parse(stdout) as Printed;
  t.like(printed.fineTuned, [
    { selector: 'grid', keep: 0.5, model: own },
    { selector: 'centre', keep: 1, model: own },
  ]);
  for (const [selector, keep, vit] of [
    ['grid', 0.5, other],
    ['grid', 1, one],
    ['centre', 0.5, one],
    ['centre', 1, other],
  ] as const) {
    const found = printed.figures.find((each) => each.selector === selector && each.keep === keep);
    t.is(found?.value, right(await answers(vit, selector, keep)), `${selector} ${keep}`);
  }

  for (const [given, why] of [
    [`grid@25%=${own}`, /a model for grid at 25%, which is not evaluated/],
    [`variance@50%=${own}`, /a model for variance at 50%, which is not evaluated/],
    ['grid=runs/x', /It must be SELECTOR@SHARE=MODEL/],
    ['grid@0%=runs/x', /It must be a share in \(0, 1\]/],
    [`grid@50%=${join(downstream, 'ltrp-multilabel.pth')}`, /has other classes than --model/],
    [`grid@50%=${join(golden, 'full', 'mae-official.pth')}`, /has a .* grid .*, but --model has/],
  ] as const) {
    const refused = await ltrp([...evaluate, '--fine-tuned', given]);
    t.is(refused.code, 2, refused.stderr);
    t.regex(refused.stderr, why);
  }
  const twice = await ltrp([...evaluate, '--fine-tuned', `grid@50%=${own}`, `grid@0.5=${own}`]);
  t.regex(twice.stderr, /grid@0\.5 has a model already/);
  // A training run's own names count, too: here in another order.
  const run = join(folder, 'run');
  await mkdir(run);
  await copyFile(own, join(run, 'model.pth'));
  await copyFile(join(downstream, 'config.json'), join(run, 'config.json'));
  const names = (await readFile(classes, 'utf8')).trim().split('\n');
  await writeFile(join(run, 'classes.txt'), names.reverse().join('\n'));
  const reversed = await ltrp([
    ...evaluate,
    ...['--fine-tuned', `grid@50%=${join(run, 'model.pth')}`],
  ]);
  t.is(reversed.code, 2, reversed.stderr);
  t.regex(reversed.stderr, /has other classes than --model/);
});

/** Rectangles in patches of a picture of 14 x 14, as a COCO file. */
async function writeMasks(
  path: string,
  objects: readonly (readonly [
    picture: number,
    category: number,
    box: readonly [left: number, top: number, right: number, bottom: number],
  ])[],
): Promise<void> {
  const annotations = objects.map(([image_id, category_id, [left, top, right, bottom]]) => ({
    ...{ image_id, category_id, iscrowd: 0 },
    segmentation: [[left, top, right, top, right, bottom, left, bottom]],
  }));
  const images = [0, 1, 2].map((id) => ({ id, file_name: `${id}.png`, width: 14, height: 14 }));
  const categories = ['cat', 'dog'].map((name, i) => ({ id: i + 1, name }));
  // A crowd has run lengths, which nobody reads.
  const crowd = { image_id: 0, category_id: 1, iscrowd: 1, segmentation: { counts: 'a' } };
  await writeFile(
    path,
    JSON.stringify({ images, categories, annotations: [...annotations, crowd] }),
  );
}

withGolden(
  'objects: the part of their pixels that is kept, and of unseen categories',
  async (t) => {
    const folder = await temporaryFolder(t);
    const { classes, data } = await labelled(folder);
    const [masks, unseen] = [join(folder, 'masks.json'), join(folder, 'unseen.txt')];
    // Of picture 1 too much is an object; picture 3 is not in the file.
    const boxes = [
      [0, 1, [0, 0, 2, 2]],
      [0, 2, [5, 5, 9, 8]],
      [1, 1, [0, 0, 14, 9]],
      [2, 2, [9, 3, 14, 6]],
    ] as const;
    await writeMasks(masks, boxes);
    await writeFile(unseen, 'dog\n');
    const { code, stdout, stderr } = await ltrp([
      ...['evaluate', '--model', join(downstream, 'ltrp-classifier.pth'), '--data', data],
      ...['--classes', classes, '--masks', masks, '--unseen', unseen, '--json'],
      ...['--selectors', 'centre,variance', '--keep', '25%,100%'],
    ]);
    t.is(code, 0, stderr);
    const printed = JSON.parse(stdout) as Printed;
    t.is(printed.picturesWithObjects, 2);
    const value = (measure: string, keep: number, selector = 'centre') =>
      printed.figures.find(
        (each) => each.measure === measure && each.keep === keep && each.selector === selector,
      )?.value ?? NaN;
    // With masks the default is the whole picture, stretched.
    const images = await readImages([pictures[0] as string, pictures[2] as string], {
      ...{ size: 224, fit: 'stretch' },
    });
    const { scores } = await selectors.variance.score(images);
    const { indices } = await selectPatches(images, scores, { keepRatio: 0.25, scoreShare: 1 });
    // The 49 patches nearest to the middle, in raster order where they are as near.
    const kept = Array.from({ length: 196 }, (_, i) => i)
      .map((i) => ({ i, far: Math.hypot(Math.floor(i / 14) - 6.5, (i % 14) - 6.5) }))
      .sort((a, b) => a.far - b.far || a.i - b.i)
      .slice(0, 49)
      .map(({ i }) => i);
    const inside = (
      [, , [left, top, right, bottom]]: (typeof boxes)[number],
      ids = kept,
    ): Part => ({
      kept: ids.filter((i) => {
        const [x, y] = [i % 14, Math.floor(i / 14)];
        return x >= left && x < right && y >= top && y < bottom;
      }).length,
      all: (right - left) * (bottom - top),
    });
    const [cat, dog, , other] = boxes.map((box) => inside(box)) as [Part, Part, Part, Part];
    const share = (...parts: Part[]) =>
      parts.reduce((sum, { kept }) => sum + kept, 0) / parts.reduce((sum, { all }) => sum + all, 0);
    t.true(share(other) > 0 && share(other) < 1);
    for (const [measure, expected] of [
      ['object recall', (share(cat, dog) + share(other)) / 2],
      ['instance recall', (share(cat) + share(dog) + share(other)) / 3],
      ['instance recall, seen', share(cat)],
      ['instance recall, unseen', (share(dog) + share(other)) / 2],
    ] as const) {
      t.true(Math.abs(value(measure, 0.25) - expected) < 1e-12, `${measure} ${expected}`);
      t.is(value(measure, 1), 1);
      t.is(value(measure, 1, 'variance'), 1);
    }
    const [first, second] = [Array.from(indices.subarray(0, 49)), Array.from(indices.subarray(49))];
    const expected =
      (share(inside(boxes[0], first), inside(boxes[1], first)) + share(inside(boxes[3], second))) /
      2;
    t.true(Math.abs(value('object recall', 0.25, 'variance') - expected) < 1e-12, `${expected}`);
  },
);

interface Part {
  kept: number;
  all: number;
}

/** Kendall's tau-b by its definition. */
function tauB(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [sum, ofA, ofB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < i; j++) {
      const [x, y] = [Math.sign(a[i]! - a[j]!), Math.sign(b[i]! - b[j]!)];
      sum += x * y;
      ofA += x * x;
      ofB += y * y;
    }
  }
  return sum / Math.sqrt(ofA * ofB);
}

withGolden('the judge sees kept patches before the mean colour or a blurred copy', async (t) => {
  const folder = await temporaryFolder(t);
  const { classes, data } = await labelled(folder);
  const files = (await inOrder(data)).map((i) => pictures[i] as string);
  const judge = join(downstream, 'mae-finetuned.pth');
  await using model = await VisionTransformer.load(judge);
  const { scores } = await selectors.variance.score(
    await readImages(files, { size: 224, fit: 'stretch' }),
  );
  const pixels = await Promise.all(files.map((file) => sharp(file).removeAlpha().raw().toBuffer()));
  const top = async (data: Uint8Array) => {
    const answers = await model.classify({ data, shape: [4, 224, 224, 3] }, { topK: 1 });
    return [...answers.top!];
  };
  const whole = await top(Buffer.concat(pixels));
  const found: number[] = [];
  for (const fill of ['mean', 'blur']) {
    const { code, stdout, stderr } = await ltrp([
      ...['evaluate', '--model', join(downstream, 'ltrp-classifier.pth'), '--data', data],
      ...['--classes', classes, '--fit', 'stretch', '--selectors', 'variance', '--json'],
      ...['--keep', '5%,50%,100%', '--judge', judge, '--judge-fill', fill, '--batch-size', '4'],
    ]);
    t.is(code, 0, stderr);
    const { figures, judge: told } = JSON.parse(stdout) as Printed;
    t.like(told, { model: judge, fill });
    for (const keep of [0.05, 0.5, 1]) {
      const covered = await Promise.all(
        pixels.map(async (picture, i) => {
          const row = [...scores.subarray(196 * i, 196 * (i + 1))];
          const least = [...row].sort((a, b) => b - a)[Math.floor(196 * keep) - 1]!;
          const raw = { width: 224, height: 224, channels: 3 } as const;
          const blurred = await sharp(picture, { raw }).blur(16).raw().toBuffer();
          const means = [0, 1, 2].map((c) =>
            Math.round(picture.filter((_, p) => p % 3 === c).reduce((a, b) => a + b) / 224 ** 2),
          );
          return picture.map((value, p) => {
            const [y, x] = [Math.floor(p / 3 / 224), Math.floor(p / 3) % 224];
            if (row[14 * Math.floor(y / 16) + Math.floor(x / 16)]! >= least) return value;
            return fill === 'mean' ? means[p % 3]! : blurred[p]!;
          });
        }),
      );
      const answers = await top(Buffer.concat(covered));
      const same = answers.filter((answer, i) => answer === whole[i]).length / 4;
      const figure = figures.find((each) => each.measure === 'judge' && each.keep === keep);
      t.is(figure?.value, same, `${fill} ${keep}`);
      found.push(same);
    }
  }
  t.true(
    found.some((same) => same < 1),
    'nothing changes its answer',
  );
});

withGolden("agreement with the teacher's scores, and of their halves", async (t) => {
  const folder = await temporaryFolder(t);
  const { classes, data } = await labelled(folder);
  const { code, stdout, stderr } = await ltrp([
    ...['evaluate', '--model', join(downstream, 'ltrp-classifier.pth'), '--data', data],
    ...['--classes', classes, '--fit', 'stretch', '--agreement', '2', '--seed', '5', '--json'],
    ...['--selectors', 'variance,grid', '--keep', '25%', '--batch-size', '4'],
  ]);
  t.is(code, 0, stderr);
  const printed = JSON.parse(stdout) as Printed;
  const images = await readImages(
    (await inOrder(data)).map((i) => pictures[i] as string),
    { size: 224, fit: 'stretch' },
  );
  await using mae = await MaskedAutoencoder.load('tiny');
  const half = async (seed: number) => (await mae.scoreMap(images, { rounds: 1, seed })).mean;
  const [first, second] = [await half(5 + 2 ** 32), await half(5 + 2 ** 33)];
  const target = first.map((value, i) => (value + second[i]!) / 2);
  const { scores } = await selectors.variance.score(images);
  const mean = (of: (row: (values: Float32Array) => Float32Array) => number) =>
    [0, 1, 2, 3].reduce(
      (sum, i) => sum + of((values) => values.subarray(196 * i, 196 * (i + 1))) / 4,
      0,
    );
  const value = (measure: string, selector: string, keep: number | null) =>
    printed.figures.find(
      (each) => each.measure === measure && each.selector === selector && each.keep === keep,
    )?.value;
  const tau = mean((row) => tauB(row(scores), row(target)));
  t.true(Math.abs((value('tau-b', 'variance', null) ?? NaN) - tau) < 1e-9, `${tau}`);
  const { spearman, ndcg } = await rankAgreement(scores, target, [4, 196], { k: 49 });
  for (const [measure, keep, list] of [
    ['Spearman', null, spearman],
    ['NDCG', 0.25, ndcg],
  ] as const) {
    const expected = list.reduce((sum, each) => sum + each / 4, 0);
    t.true(Math.abs((value(measure, 'variance', keep) ?? NaN) - expected) < 1e-9, measure);
  }
  // The grid's ranking depends on how many are kept: it has no order of all patches.
  t.is(value('tau-b', 'grid', null), undefined);
  t.truthy(value('NDCG', 'grid', 0.25));
  const halves = printed.teacher?.halves;
  const ofHalves = mean((row) => tauB(row(first), row(second)));
  t.true(Math.abs((halves?.kendallTau.value ?? NaN) - ofHalves) < 1e-9);
  const rho = halves?.spearman.value ?? NaN;
  t.true(rho > 0 && rho < 1);
  t.true(Math.abs((printed.teacher?.whole.value ?? NaN) - (2 * rho) / (1 + rho)) < 1e-12);
});

withGolden('what cannot be measured is refused in a sentence', async (t) => {
  const folder = await temporaryFolder(t);
  const { classes, data } = await labelled(folder);
  const [cls, mean] = ['ltrp-classifier.pth', 'mae-finetuned.pth'].map((name) =>
    join(downstream, name),
  ) as [string, string];
  const mae = join(golden, 'full', 'mae-official.pth');
  const given = ['--data', data, '--classes', classes];
  const [masks, bare, strange, unseen] = [
    'masks.json',
    'bare.json',
    'strange.json',
    'unseen.txt',
  ].map((name) => join(folder, name)) as [string, string, string, string];
  await writeMasks(masks, [[0, 1, [0, 0, 14, 14]]]);
  await writeFile(
    bare,
    JSON.stringify({ images: [], annotations: [{ image_id: 0, category_id: 1 }] }),
  );
  await writeFile(
    strange,
    JSON.stringify({
      images: [{ id: 0, file_name: 'nowhere.png', width: 14, height: 14 }],
      annotations: [{ image_id: 0, segmentation: [[0, 0, 9, 0, 9, 9]] }],
    }),
  );
  await writeFile(unseen, 'bird\n');
  for (const [args, code, why] of [
    [['--data', data], 2, /--model/],
    [['--model', cls, ...given, '--selectors', 'best'], 2, /There is no selector 'best'/],
    [['--model', cls, ...given, '--keep', '0%'], 2, /It must be a share in \(0, 1\]/],
    [
      // 0.1% of 14 x 14 patches is a fifth of one.
      ['--model', cls, ...given, '--selectors', 'grid', '--keep', '50%,0.1%'],
      2,
      /--keep must keep at least one of the 196 patches; got 0\.001, which keeps none/,
    ],
    [
      ['--model', cls, ...given, '--selectors', 'grid', '--reference', 'ranker'],
      2,
      /--reference must be one of --selectors; ranker is not/,
    ],
    [
      ['--model', cls, ...given, '--masks', masks, '--fit', 'crop'],
      2,
      /--masks needs --fit stretch/,
    ],
    [
      ['--model', cls, ...given, '--masks', masks, '--selectors', 'grid', '--keep', '50%'],
      1,
      /None of the pictures of --data has objects in .*masks\.json that cover less than 60%/,
    ],
    [
      ['--model', cls, ...given, '--masks', strange],
      1,
      /None of the pictures of --data is in .*strange/,
    ],
    [['--model', cls, ...given, '--masks', bare], 2, /no polygons in annotations\[0\]/],
    [['--model', cls, ...given, '--masks', classes], 2, /names\.txt is not a COCO file/],
    [
      ['--model', cls, ...given, '--masks', masks, '--unseen', unseen],
      2,
      /--unseen names 'bird', which is not a category of the run/,
    ],
    [['--model', cls, ...given, '--unseen', unseen], 2, /--unseen is for --labels and --masks/],
    [['--model', cls, ...given, '--agreement', '3'], 2, /It must be even/],
    [['--model', cls, ...given, '--categories', classes], 2, /--categories is for --labels/],
    [
      ['--model', cls, ...given, '--image-size', '230'],
      2,
      /--image-size 230x230 is not made of whole patches; both must be multiples of 16/,
    ],
    [
      ['--model', cls, '--data', `${data}@0.5`, '--classes', classes],
      2,
      /must be named without a share/,
    ],
    [['--model', cls, ...given, '--out', classes], 1, /names\.txt is a file; choose another --out/],
    [['--model', mean, ...given, '--curves', '4'], 2, /need a classifier with pooling 'cls'/],
    [['--model', cls, '--data', data], 2, /The model has 10 classes, but there are \d names in/],
    [['--model', mae, ...given], 1, /has no head for classes/],
    [['--model', cls, '--data', join(folder, 'none')], 1, /none/],
  ] as const) {
    const found = await ltrp(['evaluate', ...args]);
    t.is(found.code, code, `${args.join(' ')}: ${found.stderr}`);
    t.regex(found.stderr, why);
  }
  // A picture that cannot be read is named and left out.
  await writeFile(join(data, 'class-0.txt'), '');
  await mkdir(join(data, 'class-1'), { recursive: true });
  await writeFile(join(data, 'class-1', 'torn.png'), 'no picture');
  const torn = await ltrp([
    ...['evaluate', '--model', cls, ...given, '--selectors', 'grid', '--keep', '50%'],
  ]);
  t.is(torn.code, 1);
  t.regex(torn.stderr, /torn\.png/);
  t.regex(torn.stdout, /on 4 pictures of .*; 1 cannot be read/);
});

withGolden('selectors of modules are measured beside the others', async (t) => {
  const folder = await temporaryFolder(t);
  const { classes, data } = await labelled(folder);
  const model = join(downstream, 'ltrp-classifier.pth');
  const write = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const here = JSON.stringify(pathToFileURL(join(repository, 'dist', 'index.js')).href);
  // As the package's, by another road; and the opposite.
  const same = await write(
    'same.mjs',
    `import { selectors } from ${here};
    export default { name: 'same', score: (images, options) => selectors.variance.score(images, options) };`,
  );
  const least = await write(
    'least.mjs',
    `import { registerSelector, selectors } from ${here};
    registerSelector('least', {
      async score(images, options) {
        const { scores, shape } = await selectors.variance.score(images, options);
        return { scores: Float64Array.from(scores, (score) => -score), shape };
      },
    });`,
  );
  const torn = await write('torn.mjs', `export default { name: 'torn', score: () => null };`);
  const nothing = await write('nothing.mjs', 'export const none = 1;');
  const taken = await write('taken.mjs', `export default { name: 'grid', score: () => null };`);
  const evaluate = ['evaluate', '--model', model, '--data', data, '--classes', classes];
  const { code, stdout, stderr } = await ltrp([
    ...[...evaluate, '--fit', 'stretch', '--selectors', 'variance,same,least', '--keep', '5%,25%'],
    ...['--reference', 'same', '--selector-module', same, '--selector-module', least],
    ...['--out', join(folder, 'out'), '--json', '--curves', '2'],
  ]);
  t.is(code, 0, stderr);
  const { figures, reference, curves } = JSON.parse(stdout) as Printed;
  t.is(reference, 'same');
  const of = (name: string): (readonly [number | null, number])[] =>
    figures
      .filter(({ selector, measure }) => (selector as string) === name && measure === 'accuracy')
      .map(({ keep, value }) => [keep, value] as const);
  t.is(of('least').length, 2);
  t.deepEqual(of('same'), of('variance'));
  // Whether a ranking depends on how many are kept, nobody has said.
  t.deepEqual(
    curves.map(({ selector }) => selector),
    ['variance'],
  );
  t.regex(await readFile(join(folder, 'out', 'evaluate.md'), 'utf8'), /\| `least` \| \? \|/);
  // What it keeps is what it ranks first.
  await using vit = await VisionTransformer.load(model);
  const images = await readImages(pictures, { size: 224, fit: 'stretch' });
  const { scores } = await selectors.variance.score(images);
  const worst = scores.map((score) => -score);
  const { indices } = await selectPatches(images, worst, { keepRatio: 0.25, scoreShare: 1 });
  const { top } = await vit.classify(images, { keep: indices, topK: 1 });
  const labels = new Tensors(join(downstream, 'classifier.safetensors')).ids('labels').data;
  t.is(of('least')[1]?.[1], labels.filter((label, i) => top?.[i] === label).length / 4);

  for (const [args, exit, why] of [
    [['--selector-module', torn, '--selectors', 'torn'], 2, /selector must score with a promise/],
    [['--selector-module', nothing], 2, /nothing\.mjs adds no selector; it must export one/],
    [['--selector-module', taken], 2, /taken\.mjs adds no selector: .*there is 'grid' already/],
    [['--selector-module', join(folder, 'none.mjs')], 1, /There is no module .*none\.mjs/],
    [['--selectors', 'same'], 2, /There is no selector 'same'; there are .*variance/],
    [['--selectors', 'grid', '--reference', 'same'], 2, /--reference must be one of/],
  ] as const) {
    const found = await ltrp([...evaluate, '--keep', '25%', ...args]);
    t.is(found.code, exit, `${args.join(' ')}: ${found.stderr}`);
    t.regex(found.stderr, why);
  }
});
