/** Labels that files list: COCO's, VOC's, text; `ltrp finetune --labels`. */
import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';
import { Dataset } from '../lib/data/dataset.js';
import { entryOf, readLabels } from '../lib/data/label-files.js';
import { foldersAsLabels, labelsOfFile } from '../lib/data/labels.js';
import { readImages, VisionTransformer } from '../lib/index.js';
import { ltrp } from './support/command.js';
import { temporaryFolder } from './support/paths.js';
import { readLog, runJson } from './support/runs.js';

const entries = async (path: string): Promise<Record<string, string[]>> =>
  Object.fromEntries([...(await readLabels(path)).entries].map(([name, set]) => [name, [...set]]));

test("COCO's labels: in the order of its categories, crowds count, pictures without any stay", async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'instances.json');
  const good = {
    categories: [
      { id: 7, name: 'dog' },
      { id: 3, name: 'cat' },
    ],
    images: [
      { id: 1, file_name: 'train/a.jpg' },
      { id: 2, file_name: 'b.jpg' },
      { id: 9, file_name: 'c.jpg' },
    ],
    annotations: [
      { image_id: 1, category_id: 3, iscrowd: 1 },
      { image_id: 1, category_id: 7 },
      { image_id: 1, category_id: 7 },
      { image_id: 9, category_id: 3 },
    ],
  };
  await writeFile(path, JSON.stringify(good));
  t.deepEqual((await readLabels(path)).categories, ['dog', 'cat']);
  t.deepEqual(await entries(path), {
    'train/a.jpg': ['cat', 'dog'],
    'b.jpg': [],
    'c.jpg': ['cat'],
  });
  const refused = async (text: string, message: RegExp): Promise<void> => {
    await writeFile(path, text);
    await t.throwsAsync(readLabels(path), { code: 'ERR_LTRP_INVALID_ARGUMENT', message });
  };
  await refused('{', /instances\.json is not a COCO file: /);
  await refused('[]', /it has no list 'categories'/);
  await refused(
    JSON.stringify({ ...good, images: [{ id: 1 }] }),
    /images\[0\]\.file_name is no string/,
  );
  await refused(
    JSON.stringify({ ...good, annotations: [{ image_id: 1, category_id: 4 }] }),
    /an annotation of the category 4, which it does not list/,
  );
  await refused(
    JSON.stringify({ ...good, annotations: [{ image_id: 5, category_id: 3 }] }),
    /an annotation of the image 5, which it does not list/,
  );
  await t.throwsAsync(readLabels(join(folder, 'none.json')), { code: 'ERR_LTRP_FILE_NOT_FOUND' });
});

test("VOC's labels: objects, not their parts; text with tabs", async (t) => {
  const folder = await temporaryFolder(t);
  const voc = join(folder, 'Annotations');
  await mkdir(voc);
  const xml = (file: string, objects: string): string =>
    `<?xml version="1.0"?>\n<!-- <object> --><annotation verified="yes">\n<folder>V</folder><filename>${file}</filename>\n` +
    `<size><width>3</width><depth/></size>${objects}</annotation>\n`;
  const object = (name: string, more = ''): string =>
    `<object>\n<name>${name}</name>${more}<bndbox><xmin>1</xmin></bndbox></object>`;
  await writeFile(
    join(voc, 'b.xml'),
    xml('b.jpg', object('person', '<part><name>head</name></part>') + object('cup &amp; plate')),
  );
  await writeFile(join(voc, 'a.xml'), xml('JPEGImages/a.jpg', ''));
  t.deepEqual(await entries(voc), { 'a.jpg': [], 'b.jpg': ['person', 'cup & plate'] });
  t.deepEqual((await readLabels(voc)).categories, ['cup & plate', 'person']);
  const refused = async (text: string, message: RegExp): Promise<void> => {
    await writeFile(join(voc, 'b.xml'), text);
    await t.throwsAsync(readLabels(voc), { code: 'ERR_LTRP_INVALID_ARGUMENT', message });
  };
  await refused('<annotation></annotation>', /b\.xml has no <annotation> with a <filename>/);
  await refused('<annotation><filename>x', /b\.xml is not XML: <filename> is not closed/);
  await refused('<annotation></object>', /b\.xml is not XML: <\/object> closes nothing/);
  await refused(xml('b.jpg', '<object><pose/></object>'), /has no <name> in its <object> 1/);
  await mkdir(join(folder, 'empty'));
  await t.throwsAsync(readLabels(join(folder, 'empty')), { message: /has no XML files/ });

  const table = join(folder, 'labels.tsv');
  await writeFile(table, '\uFEFFx/a.jpg\tsky\tsea\r\n\n./b.jpg\nb.jpg\tsky\n');
  t.deepEqual(await entries(table), { 'x/a.jpg': ['sky', 'sea'], 'b.jpg': ['sky'] });
  t.deepEqual((await readLabels(table)).categories, ['sea', 'sky']);
  const file = await readLabels(table);
  t.is(entryOf(file, '/data/x/a.jpg'), 'x/a.jpg');
  t.is(entryOf(file, 'C:\\x\\a.jpg'), 'x/a.jpg');
  t.is(entryOf(file, '/data/y/b.jpg'), 'b.jpg');
  t.is(entryOf(file, '/data/a.jpg'), undefined);
  await writeFile(table, '\tsky\n');
  await t.throwsAsync(readLabels(table), { message: /a line without a picture/ });
});

/** Pictures in whose quarters there may be things of a colour. */
async function writeScenes(folder: string, count: number): Promise<Record<string, string[]>> {
  const colours = { amber: [250, 180, 20], blue: [20, 40, 250], cyan: [20, 240, 240] };
  await mkdir(folder, { recursive: true });
  const found: Record<string, string[]> = {};
  for (let i = 0; i < count; i++) {
    const names = Object.keys(colours).filter((_, k) => ((i * 5 + 3) >> k) & 1);
    const data = Buffer.alloc(48 * 48 * 3);
    for (let j = 0; j < data.length; j++) data[j] = 90 + ((j * (7919 + i)) % 31);
    for (const [k, name] of names.entries()) {
      const [top, left] = [k % 2, (k + i) % 2].map((v) => v * 24 + 3) as [number, number];
      for (let y = top; y < top + 18; y++)
        for (let x = left; x < left + 18; x++)
          data.set(colours[name as keyof typeof colours], 3 * (48 * y + x));
    }
    await sharp(data, { raw: { width: 48, height: 48, channels: 3 } })
      .png()
      .toFile(join(folder, `${i}.png`));
    found[`${i}.png`] = names;
  }
  return found;
}

const asTable = (labels: Record<string, string[]>): string =>
  Object.entries(labels)
    .map((line) => line.flat().join('\t'))
    .join('\n');

test('every picture has an entry; categories are those of the file, of a list, or of a model', async (t) => {
  const folder = await temporaryFolder(t);
  const labels = await writeScenes(join(folder, 'data'), 3);
  const dataset = await Dataset.open([join(folder, 'data')]);
  const path = join(folder, 'labels.tsv');
  await writeFile(path, `${asTable(labels)}\nother.png\tamber\tzebra\n`);
  const file = await readLabels(path);
  const all = labelsOfFile(dataset, file);
  t.deepEqual(all.classes, ['amber', 'blue', 'cyan', 'zebra']);
  t.deepEqual(
    all.ofFiles.map(({ labels }) => [...(labels ?? [])]),
    [[0, 1], [], [0, 2]],
  );
  t.deepEqual(all.notes, [
    `1 of the 4 pictures in ${path} are not among the images.`,
    'No picture shows these categories, so nothing is learned of them: zebra.',
  ]);
  const some = labelsOfFile(dataset, file, { only: ['cyan', 'amber'] });
  t.deepEqual(
    some.ofFiles.map(({ labels }) => [...(labels ?? [])]),
    [[1], [], [0, 1]],
  );
  t.not(some.digest, all.digest);
  const refused = (message: RegExp, choice: object): void => {
    t.throws(() => labelsOfFile(dataset, file, choice), { message });
  };
  refused(/category 'horse' is none of the 4 that there are: amber, blue, cyan, zebra/, {
    only: ['horse', 'cyan'],
  });
  refused(/at least two categories that count; of .*labels\.tsv there is only 'cyan'/, {
    only: ['cyan'],
  });
  refused(/category 'blue' is none of the 2 that there are/, { known: ['amber', 'cyan'] });
  t.notThrows(() =>
    labelsOfFile(dataset, file, { known: ['amber', 'cyan'], only: ['amber', 'cyan'] }),
  );
  // Of a model's classes only some count; the numbers are the model's.
  const counted = labelsOfFile(dataset, file, { known: ['amber', 'blue', 'cyan'], only: ['cyan'] });
  t.deepEqual(
    counted.ofFiles.map(({ labels }) => [...(labels ?? [])]),
    [[], [], [2]],
  );
  refused(/category 'zebra' is none of the 3/, {
    known: ['amber', 'blue', 'cyan'],
    only: ['zebra'],
  });
  await writeFile(path, '0.png\tamber\tblue\n1.png\n');
  const lacking = await readLabels(path);
  t.throws(() => labelsOfFile(dataset, lacking), {
    message: /Every picture must be in .*labels\.tsv; .*2\.png is not\./,
  });
});

test('names are the same however accents are written, and an entry is of one picture', async (t) => {
  const folder = await temporaryFolder(t);
  const [nfc, nfd] = ['café'.normalize('NFC'), 'café'.normalize('NFD')];
  const data = join(folder, 'data');
  await writeScenes(data, 2);
  await rename(join(data, '0.png'), join(data, `${nfd}.png`));
  const path = join(folder, 'labels.tsv');
  await writeFile(path, `${nfc}.png\t${nfd}\n1.png\t ${nfc} \tblue\n`);
  const dataset = await Dataset.open([data]);
  const labels = labelsOfFile(dataset, await readLabels(path));
  t.deepEqual(labels.classes, ['blue', nfc]);
  t.deepEqual(labels.ofFiles.map(({ labels }) => [...(labels ?? [])]).sort(), [[0, 1], [1]]);
  // The same for folders.
  for (const name of [nfc, nfd, 'blue']) {
    await mkdir(join(folder, name === nfd ? 'b' : 'a', name), { recursive: true });
    await copyFile(join(data, '1.png'), join(folder, name === nfd ? 'b' : 'a', name, '1.png'));
  }
  const both = await Dataset.open([join(folder, 'a'), join(folder, 'b')]);
  t.deepEqual((await foldersAsLabels(both)).classes, ['blue', nfc]);

  for (const sub of ['a', 'b']) {
    await mkdir(join(folder, 'twice', sub), { recursive: true });
    await copyFile(join(data, '1.png'), join(folder, 'twice', sub, '1.png'));
  }
  const twice = await Dataset.open([join(folder, 'twice')]);
  const file = await readLabels(path);
  t.throws(() => labelsOfFile(twice, file), { message: /'1\.png' in .* names both .*a.*and .*b/ });
  await writeFile(path, 'a/1.png\tblue\nb/1.png\tred\n');
  const apart = labelsOfFile(twice, await readLabels(path));
  t.deepEqual(
    apart.ofFiles.map(({ labels }) => [...(labels ?? [])]),
    [[0], [1]],
  );
  await writeFile(path, 'a/1.png\t\nb/1.png\t\n');
  const none = await readLabels(path);
  t.throws(() => labelsOfFile(twice, none, { known: ['blue', 'red'] }), {
    message: /None of the pictures shows a category of .*labels\.tsv/,
  });
});

test('files of labels in other encodings, with entities, and those that contradict themselves', async (t) => {
  const folder = await temporaryFolder(t);
  const read = async (name: string, content: string | Buffer) => {
    const path = join(folder, name);
    await writeFile(path, content);
    return readLabels(path);
  };
  const listed = ({ entries }: { entries: ReadonlyMap<string, ReadonlySet<string>> }) =>
    [...entries].map(([name, categories]) => [name, [...categories]]);
  const lines = 'a.jpg\tcafé\nb.jpg\tdog\n';
  const expected = [
    ['a.jpg', ['café']],
    ['b.jpg', ['dog']],
  ];
  const wide = Buffer.from(`\uFEFF${lines}`, 'utf16le');
  t.deepEqual(listed(await read('wide.tsv', wide)), expected);
  t.deepEqual(listed(await read('big.tsv', Buffer.from(wide).swap16())), expected);
  const coco = (more: object) =>
    JSON.stringify({
      categories: [
        { id: 1, name: 'cat' },
        { id: 2, name: ' dog ' },
      ],
      images: [{ id: 7, file_name: 'a.jpg' }],
      annotations: [{ image_id: 7, category_id: 2 }],
      ...more,
    });
  t.deepEqual(listed(await read('bom.json', `\uFEFF${coco({})}`)), [['a.jpg', ['dog']]]);
  await mkdir(join(folder, 'voc'));
  const xml = (name: string) =>
    `<?xml version="1.0" encoding="ISO-8859-1"?><annotation><filename>C:\\pictures\\a.jpg</filename><object><name>${name}</name></object></annotation>`;
  for (const name of ['caf&#233;', 'caf&#xE9;', '<![CDATA[café]]>', 'café']) {
    await writeFile(join(folder, 'voc', 'a.xml'), Buffer.from(xml(name), 'latin1'));
    t.deepEqual(listed(await readLabels(join(folder, 'voc'))), [['a.jpg', ['café']]], name);
  }
  const refused = async (why: RegExp, name: string, content: string) => {
    await t.throwsAsync(read(name, content), { message: why, code: 'ERR_LTRP_INVALID_ARGUMENT' });
  };
  const pictures = [
    { id: 7, file_name: 'a.jpg' },
    { id: 7, file_name: 'b.jpg' },
  ];
  await refused(/list 'images' has two with the id 7/, 'images.json', coco({ images: pictures }));
  const animals = [
    { id: 1, name: 'cat' },
    { id: 1, name: 'dog' },
  ];
  await refused(
    /list 'categories' has two with the id 1/,
    'ids.json',
    coco({ categories: animals, annotations: [] }),
  );
  const nameless = [{ id: 1, name: ' ' }];
  await refused(
    /a category whose name is empty/,
    'empty.json',
    coco({ categories: nameless, annotations: [] }),
  );
  const long = [{ id: 1, name: 'dining\ntable' }];
  await refused(
    /whose name is of several lines: "dining\\ntable"/,
    'lines.json',
    coco({ categories: long, annotations: [] }),
  );
  await refused(/has no line with a tab/, 'commas.tsv', 'a.jpg,cat\n');
});

const small =
  '--batch-size 6 --dim 24 --depth 2 --heads 3 --image-size 32 --patch-size 8 --threads 1 --learning-rate 3e-3'.split(
    ' ',
  );

const finetune = (folder: string, out: string, ...more: string[]) =>
  ltrp(['finetune', '--out', join(folder, out), ...small, ...more]);

test.serial('it learns categories, reports the unseen apart, and goes on', async (t) => {
  t.timeout(180_000);
  const folder = await temporaryFolder(t);
  const [data, val] = [join(folder, 'train'), join(folder, 'val')];
  await writeFile(join(folder, 'train.tsv'), asTable(await writeScenes(data, 24)));
  await writeFile(join(folder, 'val.tsv'), asTable(await writeScenes(val, 8)));
  await writeFile(join(folder, 'unseen.txt'), 'blue\n');
  const args = [
    ...['--data', data, '--labels', join(folder, 'train.tsv')],
    ...['--val', val, '--val-labels', join(folder, 'val.tsv')],
    ...['--unseen', join(folder, 'unseen.txt'), '--steps', '80', '--warmup', '5'],
    ...['--val-every', '40', '--checkpoint-every', '40', '--export-type', 'float32'],
  ];
  const whole = await finetune(folder, 'whole', ...args, '--keep', '75%', '--selector', 'variance');
  t.is(whole.code, 0, whole.stderr);
  t.regex(whole.stderr, /validation after step 80: loss .*, meanAveragePrecision /);
  t.is(await readFile(join(folder, 'whole', 'classes.txt'), 'utf8'), 'amber\nblue\ncyan\n');
  const { settings, options } = runJson(join(folder, 'whole')) as unknown as Record<
    string,
    Record<string, unknown>
  >;
  t.like(settings, { cropScale: [0.5, 1], labelSmoothing: 0 });
  t.like(options, { labels: 'many', unseen: [1], labelSmoothing: 0 });
  const log = readLog(join(folder, 'whole')) as unknown as Record<string, unknown>[];
  const last = log.flatMap(({ validation }) => validation ?? []).at(-1) as Record<string, unknown>;
  t.true((last['meanAveragePrecision'] as number) > 0.8, JSON.stringify(last));
  const perClass = last['averagePrecision'] as number[];
  t.is(perClass.length, 3);
  t.is(last['unseenAveragePrecision'], perClass[1]);
  t.is(last['accuracy'], null);

  await using vit = await VisionTransformer.load(join(folder, 'whole'), { device: 'cpu' });
  t.like(vit.config, { classes: 3, pooling: 'queries', queries: 3, queryDim: 24 });
  const images = await readImages([join(val, '0.png')], { size: 32 });
  const { logits } = await vit.classify(images, { keepRatio: 0.75 });
  t.is(logits.length, 3);
  t.deepEqual((await vit.embed(images)).shape, [1, 24]);

  // Other labels of the same pictures are another run.
  await writeFile(
    join(folder, 'train.tsv'),
    asTable(await writeScenes(data, 24)).replace('blue', 'cyan'),
  );
  const other = await ltrp(['finetune', '--out', join(folder, 'whole'), '--resume']);
  t.regex(other.stderr, /labels are not those .*ERR_LTRP_RUN_CONFLICT/s);
});

test.serial('labels that cannot be learned are one clear sentence', async (t: ExecutionContext) => {
  t.timeout(120_000);
  const folder = await temporaryFolder(t);
  const data = join(folder, 'train');
  const labels = join(folder, 'labels.tsv');
  await writeFile(labels, asTable(await writeScenes(data, 6)));
  const names = join(folder, 'names.txt');
  const refused = async (why: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await finetune(folder, 'run', '--data', data, '--steps', '1', ...args);
    const last = stderr.trim().split('\n').at(-1) ?? '';
    t.regex(last, why);
    t.is(code, 2, last);
  };
  await writeFile(names, 'zebra\nblue\n');
  await refused(/category 'zebra' is none of the 3/, '--labels', labels, '--categories', names);
  await refused(/--unseen names 'zebra'/, '--labels', labels, '--unseen', names);
  await writeFile(names, 'blue\nblue\n');
  await refused(/names the category 'blue' twice/, '--labels', labels, '--unseen', names);
  await writeFile(names, 'amber\nblue\ncyan\n');
  await refused(/--unseen must leave at least one/, '--labels', labels, '--unseen', names);
  await refused(/are for --labels/, '--unseen', names);
  await refused(/--label-smoothing must be 0/, '--labels', labels, '--label-smoothing', '0.1');
  await refused(/--queries must be in \[1, 3\]; got 4/, '--labels', labels, '--queries', '4');
  await refused(
    /--query-dim are for --pooling queries/,
    ...['--labels', labels, '--pooling', 'cls', '--query-dim', '8'],
  );
});
