/** Where training pictures come from, in which order, and what happens to unreadable ones. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import sharp from 'sharp';
import { BatchStream, type BatchOptions } from '../lib/data/batches.js';
import { Dataset } from '../lib/data/dataset.js';
import { PictureDecoder } from '../lib/data/decoder.js';
import { sharedFolder } from './support/paths.js';

const root = sharedFolder();

/** A picture whose colour tells which one it is. */
async function picture(path: string, value: number, width = 48, height = 32): Promise<void> {
  const background = { r: value, g: 255 - value, b: 7 };
  await sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toFile(path);
}

test.before(async () => {
  await mkdir(join(root, 'a', 'deep', 'er'), { recursive: true });
  await mkdir(join(root, 'b'));
  await mkdir(join(root, 'empty'));
  for (let i = 0; i < 6; i++) {
    await picture(join(root, 'a', i % 2 === 0 ? `${i}.PNG` : `deep/er/${i}.png`), 10 * i);
  }
  for (let i = 0; i < 3; i++) await picture(join(root, 'b', `b${i}.png`), 100 + 10 * i);
  await writeFile(join(root, 'a', 'notes.md'), 'not an image');
  await writeFile(join(root, 'list.txt'), '# two of them\nb/b1.png\n\n  a/0.PNG\r\n');
});

const names = (dataset: Dataset): string[] => dataset.files.map((file) => basename(file));
const sequence = (dataset: Dataset, count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, position) => dataset.at(position, seed));

test('folders are searched recursively, sorted; lists keep their order; globs and files work', async (t) => {
  t.deepEqual(names(await Dataset.open([join(root, 'a')])), [
    '0.PNG',
    '2.PNG',
    '4.PNG',
    '1.png',
    '3.png',
    '5.png',
  ]);
  t.deepEqual(names(await Dataset.open([join(root, 'list.txt')])), ['b1.png', '0.PNG']);
  t.deepEqual(names(await Dataset.open([join(root, '{a,b}/*.{PNG,png}')])), [
    '0.PNG',
    '2.PNG',
    '4.PNG',
    'b0.png',
    'b1.png',
    'b2.png',
  ]);
  t.deepEqual(names(await Dataset.open([join(root, 'b', 'b2.png')])), ['b2.png']);
});

test('a source that is missing, empty or has an impossible share is refused by name', async (t) => {
  const code = async (...sources: string[]): Promise<unknown> => {
    const error = await t.throwsAsync(Dataset.open(sources));
    return (error as { code?: unknown }).code;
  };
  t.is(await code(join(root, 'nowhere')), 'ERR_LTRP_FILE_NOT_FOUND');
  t.is(await code(join(root, 'empty')), 'ERR_LTRP_DATA_EMPTY');
  t.is(await code(join(root, '*.webp')), 'ERR_LTRP_DATA_EMPTY');
  t.is(await code(`${join(root, 'a')}@1.5`), 'ERR_LTRP_INVALID_ARGUMENT');
  t.is(await code(`${join(root, 'a')}@1`, join(root, 'b')), 'ERR_LTRP_INVALID_ARGUMENT');
});

test('every epoch has every picture once, in an order of its own that only the seed decides', async (t) => {
  const first = await Dataset.open([join(root, 'a'), join(root, 'b')]);
  const again = await Dataset.open([join(root, 'a'), join(root, 'b')]);
  const epochs = [0, 1, 2].map((epoch) => sequence(first, 27, 5).slice(epoch * 9, epoch * 9 + 9));
  for (const epoch of epochs) {
    t.deepEqual(
      [...epoch].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
    );
  }
  t.notDeepEqual(epochs[0], epochs[1]);
  t.deepEqual(sequence(again, 27, 5), epochs.flat());
  t.notDeepEqual(sequence(again, 27, 6), epochs.flat());
  // Asking for a late position first changes nothing: a resumed run does just that.
  const late = await Dataset.open([join(root, 'a'), join(root, 'b')]);
  t.is(late.at(26, 5), epochs[2]?.[8] ?? -1);
  t.is(late.digest, first.digest);
});

test('shares say how much of an epoch a source gives, and its pictures take turns', async (t) => {
  const dataset = await Dataset.open([join(root, 'a'), `${join(root, 'b')}@0.667`]);
  const drawn = sequence(dataset, 9 * 4, 1);
  for (let epoch = 0; epoch < 4; epoch++) {
    const ofB = drawn.slice(epoch * 9, epoch * 9 + 9).filter((index) => index >= 6);
    t.is(ofB.length, 6); // of 9, from 3 files: each twice
    t.deepEqual(
      [...ofB].sort((a, b) => a - b),
      [6, 6, 7, 7, 8, 8],
    );
  }
  const ofA = drawn.filter((index) => index < 6); // 3 an epoch: each twice in four epochs
  t.deepEqual(
    [...ofA].sort((a, b) => a - b),
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
  );
});

function stream(dataset: Dataset, options: Partial<BatchOptions> = {}, concurrency = 3) {
  return new BatchStream({
    dataset,
    decoder: new PictureDecoder({ shortSide: 64, cacheBytes: 1e6, concurrency }),
    batchSize: 4,
    seed: 3,
    firstBatch: 0,
    prefetch: 2,
    maxUnreadable: 0.5,
    ...options,
  });
}

async function reds(batches: BatchStream, count: number): Promise<number[]> {
  const values: number[] = [];
  for (let i = 0; i < count; i++) {
    for (const { pixels } of await batches.next()) values.push(pixels[0] as number);
  }
  batches.close();
  return values;
}

test('batches do not depend on concurrency and continue at any batch', async (t) => {
  const dataset = await Dataset.open([join(root, 'a'), join(root, 'b')]);
  const all = await reds(stream(dataset), 6);
  t.deepEqual(await reds(stream(dataset, { prefetch: 0 }, 1), 6), all);
  t.deepEqual(await reds(stream(dataset, { firstBatch: 4 }), 2), all.slice(16));
});

test('decoding: no larger than asked, never enlarged, rotated, alpha on white, CMYK and 16 bits to RGB', async (t) => {
  const folder = await mkdtemp(join(root, 'kinds-'));
  const noise = sharp({
    create: { width: 200, height: 100, channels: 3, background: '#804020' },
  });
  const at = (name: string): string => join(folder, name);
  await noise.clone().jpeg().withMetadata({ orientation: 6 }).toFile(at('rotated.jpg'));
  await noise.clone().toColourspace('cmyk').jpeg().toFile(at('cmyk.jpg'));
  await noise.clone().toColourspace('rgb16').png().toFile(at('deep.png'));
  await sharp({
    create: { width: 20, height: 20, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } },
  })
    .png()
    .toFile(at('clear.png'));
  const decoder = new PictureDecoder({ shortSide: 50, cacheBytes: 0, concurrency: 2 });
  const rotated = await decoder.decode(at('rotated.jpg'));
  t.deepEqual([rotated.height, rotated.width], [100, 50]);
  const clear = await decoder.decode(at('clear.png'));
  t.deepEqual([clear.height, clear.width, clear.pixels[0]], [20, 20, 255]);
  for (const name of ['cmyk.jpg', 'deep.png']) {
    const { pixels, height, width } = await decoder.decode(at(name));
    t.is(pixels.length, height * width * 3, name);
    t.true(Math.abs((pixels[0] as number) - 0x80) < 12, name);
  }
  t.is(decoder.cachedBytes, 0);
});

test('unreadable pictures are named once and replaced; too many of them are an error', async (t) => {
  const folder = await mkdtemp(join(root, 'broken-'));
  for (let i = 0; i < 7; i++) await picture(join(folder, `${i}.png`), 10 * i);
  await writeFile(join(folder, 'text.jpg'), 'this is not a JPEG');
  await writeFile(join(folder, 'void.png'), '');
  await picture(join(folder, 'dot.png'), 1, 1, 1);
  const dataset = await Dataset.open([folder]);

  const reported: string[] = [];
  const onUnreadable = (path: string): number => reported.push(basename(path));
  const values = await reds(stream(dataset, { onUnreadable, maxUnreadable: 0.3 }), 10);
  t.deepEqual([...reported].sort(), ['dot.png', 'text.jpg', 'void.png']);
  t.is(values.length, 40);
  t.deepEqual(await reds(stream(dataset, { maxUnreadable: 0.3, prefetch: 0 }, 1), 10), values);
  // A resumed run has not met the earlier unreadable ones and still sees the same batches.
  t.deepEqual(
    await reds(stream(dataset, { maxUnreadable: 0.3, firstBatch: 7 }), 3),
    values.slice(28),
  );

  const strict = stream(dataset, { maxUnreadable: 0.1 });
  const error = await t.throwsAsync(reds(strict, 10), { code: 'ERR_LTRP_DATA_UNREADABLE' });
  t.regex(error.message, /2 of 10 images cannot be read.*(text\.jpg|void\.png|dot\.png)/);
  await t.throwsAsync(strict.next(), { code: 'ERR_LTRP_DISPOSED' });
});

test('a full cache keeps what it has and decodes the rest anew', async (t) => {
  const dataset = await Dataset.open([join(root, 'a')]);
  const decoder = new PictureDecoder({
    shortSide: 64,
    cacheBytes: 2 * 48 * 32 * 3,
    concurrency: 2,
  });
  for (const file of [...dataset.files, ...dataset.files]) await decoder.decode(file);
  t.is(decoder.cachedBytes, 2 * 48 * 32 * 3);
});

test('the digest of a data set is of shares and names, as runs of earlier versions have it', (t) => {
  const source = (names: string[], share: number | null) => {
    const files = names.map((name) => join('/somewhere', name));
    return { name: 'x', share, root: '/somewhere', files, names, problems: new Map() };
  };
  const { digest } = new Dataset([source(['a.png', 'b/c.png'], null), source(['d.png'], 0.5)]);
  const words = 'all\0a.png\0b/c.png\0\x000.5\0d.png\0\0';
  t.is(digest, createHash('sha256').update(words).digest('hex'));
});

test('pictures come with the digest of their bytes where it is asked for', async (t) => {
  const file = (await Dataset.open([join(root, 'a')])).files[0]!;
  const digest = createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
  const options = { shortSide: 64, cacheBytes: 2 ** 20, concurrency: 1 };
  const decoder = new PictureDecoder({ ...options, digests: true });
  for (const which of ['decoded', 'cached']) {
    t.is((await decoder.decode(file)).digest, digest, which);
  }
  t.false('digest' in (await new PictureDecoder(options).decode(file)));
});
