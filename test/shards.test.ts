/** Pictures in tar and Parquet files: which there are, in which order, what damage costs. */
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Dataset } from '../lib/data/dataset.js';
import { PictureDecoder } from '../lib/data/decoder.js';
import { memberOf } from '../lib/shards/member.js';
import { openShard } from '../lib/shards/shard.js';
import { jsonLines, ltrp } from './support/command.js';
import { temporaryFolder, sharedFolder } from './support/paths.js';
import { pretrain, writePictures } from './support/runs.js';
import { tarBytes, withDuckDB, writeParquet, writeTar, type TarEntry } from './support/shards.js';

/** Where LibTorch is, too: the command needs it. */
const userCache = process.env['XDG_CACHE_HOME'] ?? '';

const folder = sharedFolder();
process.env['XDG_CACHE_HOME'] = join(folder, 'cache');
const photos = await writePictures(join(folder, 'photos'), 12);
const png = await Promise.all(
  Array.from({ length: 12 }, (_, i) => readFile(join(photos, `${i + 1}.png`))),
);

const picturesOf = (count: number, key = (i: number) => `${i}`): TarEntry[] =>
  Array.from({ length: count }, (_, i) => [`${key(i)}.png`, png[i]!]);

/** Where the bytes of a member stand, by its content. */
const headerOf = (tar: Buffer, content: Buffer): number => tar.indexOf(content) - 512;

test.serial('the records of a tar file are those that WebDataset reads', async (t) => {
  const path = await writeTar(join(folder, 'records.tar'), [
    ['__index__', 'about the shard'],
    ['cat/a.JPG', png[0]!], // a field in any case
    ['cat/a.cls', '3'],
    ['cat/a.seg.png', png[1]!], // another field
    ['./b.webp', png[2]!],
    ['c.txt', 'no picture'],
    ['22.0/1.1.png', png[3]!], // the field is 1.png
    ['d.jpeg', png[4]!],
    ['d.png', png[5]!], // of two the first of jpg, jpeg, png, webp
    ['e.png', png[6]!],
    ['f.txt', ''],
    ['e.png', png[7]!], // not adjacent: another record
    ['g.gif', png[8]!], // no field of pictures
  ]);
  const shard = await openShard(path);
  t.deepEqual(shard.keys, ['cat/a.JPG', 'b.webp', 'd.jpeg', 'e.png', 'e.png#2']);
  t.deepEqual(shard.damage, []);
  t.is(shard.notes.length, 1);
  t.regex(shard.notes[0]!, /records\.tar: 1 records such as 22\.0\/1\.1\.png/);
  const bytes = await Promise.all(shard.keys.map((key) => shard.member(key)!.read()));
  t.deepEqual(
    bytes.map((each) => png.findIndex((other) => other.equals(each))),
    [0, 2, 4, 6, 7],
  );
});

test.serial('long names, PAX headers and archives of GNU tar', async (t) => {
  const tree = join(folder, 'tree');
  const long = `${'long-'.repeat(30)}name`;
  await mkdir(join(tree, long), { recursive: true });
  await writeFile(join(tree, long, 'ä.png'), png[0]!);
  await writeFile(join(tree, 'b.png'), png[1]!);
  for (const format of ['gnu', 'pax']) {
    const path = join(folder, `${format}.tar`);
    execFileSync('tar', ['-cf', path, `--format=${format}`, '--sort=name', '-C', tree, '.']);
    const shard = await openShard(path);
    t.deepEqual(shard.keys, ['b.png', `${long}/ä.png`], format);
    t.true((await shard.member(`${long}/ä.png`)!.read()).equals(png[0]!), format);
    t.deepEqual(shard.damage, [], format);
  }
});

test.serial('damage of a tar file costs what is damaged, and says how much', async (t) => {
  const whole = await tarBytes(picturesOf(6));
  const open = async (name: string, bytes: Buffer) => {
    const path = join(folder, `${name}.tar`);
    await writeFile(path, bytes);
    const shard = await openShard(path);
    const lines = shard.damage.map(({ line }) => line.replace(folder, ''));
    return {
      keys: shard.keys,
      lines,
      lost: shard.damage.reduce((sum, { records }) => sum + records, 0),
    };
  };
  const keys = ['0.png', '1.png', '2.png', '3.png', '4.png', '5.png'];
  t.deepEqual(await open('whole', whole), { keys, lines: [], lost: 0 });

  const broken = Buffer.from(whole);
  const at = headerOf(whole, png[2]!);
  broken.fill(0xff, at + 20, at + 40);
  const next = headerOf(whole, png[3]!);
  t.deepEqual(await open('header', broken), {
    keys: keys.filter((key) => key !== '2.png'),
    lines: [
      `/header.tar: bad header at byte ${at}; ${next - at} bytes lost up to the header at byte ${next}; 1 record lost.`,
    ],
    lost: 1,
  });

  const inside = headerOf(whole, png[4]!);
  const cut = await open('cut', whole.subarray(0, inside + 512 + 100));
  t.deepEqual(cut.keys, keys.slice(0, 4));
  t.deepEqual(cut.lines, [
    `/cut.tar: 4.png is cut off (100 of ${png[4]!.length} bytes are there) at byte ${inside}; 612 bytes lost to the end; 1 record lost.`,
  ]);

  // Nothing but the missing end tells that a member is missing.
  const boundary = await open('boundary', whole.subarray(0, inside));
  t.deepEqual([boundary.keys, boundary.lost], [keys.slice(0, 4), 1]);
  t.regex(boundary.lines[0]!, /ends without the empty blocks/);

  // A size that is not true, under a right sum.
  const liar = Buffer.from(whole);
  liar.write('77777777777\0', at + 124, 'latin1');
  let sum = 8 * 32;
  for (let i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 0 : liar[at + i]!;
  liar.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  t.deepEqual(
    (await open('liar', liar)).keys,
    keys.filter((key) => key !== '2.png'),
  );

  const repeated = await tarBytes([...picturesOf(2), ['1.png', png[5]!], ['2.png', png[2]!]]);
  t.deepEqual(await open('repeated', repeated), {
    keys: ['0.png', '2.png'],
    lines: ['/repeated.tar: 1 has the field png twice; 1 record lost.'],
    lost: 1,
  });
  t.deepEqual((await open('empty', Buffer.alloc(0))).keys, []);
  t.is((await open('noise', Buffer.from(png[0]!))).lost, 1);
});

test.serial('a shard is scanned once, and again when it has changed', async (t) => {
  const path = await writeTar(join(folder, 'once.tar'), picturesOf(3));
  t.is((await openShard(path)).keys.length, 3);
  const cache = join(folder, 'cache', 'ltrp', 'shards');
  const files = await readdir(cache);
  const mine = (
    await Promise.all(files.map(async (name) => [name, await readFile(join(cache, name), 'utf8')]))
  ).find(([, text]) => text!.includes('once.tar'))!;
  // What the index says is believed: the file was not read again.
  await writeFile(join(cache, mine[0]!), mine[1]!.replace('"0.png"', '"x.png"'));
  t.is((await openShard(path)).keys[0], 'x.png');
  const member = (await openShard(path)).member('1.png')!;
  await writeTar(path, picturesOf(2));
  await utimes(path, 1, 1);
  await t.throwsAsync(member.read(), { code: 'ERR_LTRP_FILE_READ', message: /changed while/ });
  t.deepEqual((await openShard(path)).keys, ['0.png', '1.png']);
});

test.serial(
  'Parquet: struct or binary, any codec, row groups; null rows are lost records',
  async (t) => {
    for (const [name, image, options] of [
      ['struct', '{bytes: content, path: filename}', ', COMPRESSION zstd, ROW_GROUP_SIZE 2048'],
      ['binary', 'content', ', COMPRESSION snappy'],
      ['plain', 'content', ', COMPRESSION uncompressed'],
      ['gzip', 'content', ', COMPRESSION gzip, PARQUET_VERSION V2'],
      ['brotli', '{path: filename, bytes: content}', ', COMPRESSION brotli'],
      ['lz4', 'content', ', COMPRESSION lz4_raw'],
    ] as const) {
      const path = await writeParquet(join(folder, `${name}.parquet`), photos, { image, options });
      const shard = await openShard(path);
      t.deepEqual(
        shard.keys,
        Array.from({ length: 12 }, (_, i) => `${i}`),
        name,
      );
      t.deepEqual(shard.damage, [], name);
      for (const i of [0, 7, 11])
        t.true((await shard.member(`${i}`)!.read()).equals(png[i]!), name);
    }
    const nulls = await writeParquet(join(folder, 'nulls.parquet'), photos, {
      image: `CASE WHEN filename LIKE '%/3.png' THEN NULL WHEN filename LIKE '%/5.png' THEN {bytes: NULL, path: filename} ELSE {bytes: content, path: filename} END`,
    });
    const shard = await openShard(nulls);
    t.deepEqual(shard.keys, ['0', '1', '3', '5', '6', '7', '8', '9', '10', '11']);
    t.deepEqual(shard.damage, [
      { line: `${nulls}: no picture in rows 2, 4 (null); 2 records lost.`, records: 2 },
    ]);
    t.true((await shard.member('3')!.read()).equals(png[3]!));

    await t.throwsAsync(openShard(nulls, { imageColumn: 'picture' }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /no column 'picture'; its columns are image, label/,
    });
    await t.throwsAsync(openShard(nulls, { imageColumn: 'label' }), {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /must be binary/,
    });
    const { size } = { size: shard.groups![0]!.bytes };
    await t.throwsAsync(openShard(nulls, { rowGroupMemory: size - 1 }), {
      code: 'ERR_LTRP_OUT_OF_MEMORY',
      message: new RegExp(`row group of .* \\(${size} bytes, rows 0 to 11\\)`),
    });
    await t.notThrowsAsync(openShard(nulls, { rowGroupMemory: size }));
  },
);

test.serial('damage of a Parquet file: a row group, or the end that describes it', async (t) => {
  const path = await writeParquet(join(folder, 'chunk.parquet'), photos, {
    options: ', COMPRESSION zstd',
  });
  const bytes = await readFile(path);
  const broken = Buffer.from(bytes);
  broken.fill(0, 4, 60);
  await writeFile(path, broken);
  const shard = await openShard(path);
  t.is(shard.keys.length, 12);
  const messages = await Promise.all(
    shard.keys.map(async (key) => {
      const error = await t.throwsAsync(shard.member(key)!.read());
      return error.message;
    }),
  );
  t.is(new Set(messages).size, 1);
  t.regex(
    messages[0]!,
    /chunk\.parquet: the row group of rows 0 to 11 is damaged \(.*\); 12 records lost\.$/,
  );

  await writeFile(path, bytes.subarray(0, bytes.length - 20));
  const cut = await openShard(path);
  t.deepEqual(cut.keys, []);
  t.regex(cut.damage[0]!.line, /chunk\.parquet: the end that describes it is damaged/);
});

test.serial(
  'folders, globs and lists of shards, beside loose pictures; names do not depend on where they lie',
  async (t) => {
    const place = join(folder, 'mixed');
    await mkdir(join(place, 'sub'), { recursive: true });
    await writeTar(
      join(place, 'b.tar'),
      picturesOf(2, (i) => `cat/${i}`),
    );
    await writeParquet(join(place, 'sub', 'c.parquet'), photos, { image: 'content' });
    await writeFile(join(place, 'a.png'), png[0]!);
    const dataset = await Dataset.open([place]);
    t.deepEqual(dataset.sources[0]!.names, [
      ...['a.png', 'b.tar/cat/0.png', 'b.tar/cat/1.png'],
      ...Array.from({ length: 12 }, (_, i) => `sub/c.parquet/${i}`),
    ]);
    t.deepEqual(dataset.files.slice(0, 2), [join(place, 'a.png'), join(place, 'b.tar/cat/0.png')]);
    t.is((await Dataset.open([join(place, '*.tar')])).size, 2);
    t.is((await Dataset.open([join(place, '**/*.{tar,parquet}')])).size, 14);
    t.is((await Dataset.open([join(place, 'b.tar'), join(place, 'sub/c.parquet')])).size, 14);
    await writeFile(join(place, 'list.txt'), 'b.tar\na.png\n');
    t.is((await Dataset.open([join(place, 'list.txt')])).size, 3);
    const moved = join(folder, 'moved');
    await mkdir(join(moved, 'sub'), { recursive: true });
    for (const name of ['a.png', 'b.tar', 'sub/c.parquet']) {
      await writeFile(join(moved, name), await readFile(join(place, name)));
    }
    t.is((await Dataset.open([moved])).digest, dataset.digest);
    // A folder that is called like a shard is a folder.
    await mkdir(join(folder, 'odd', 'x.tar'), { recursive: true });
    await writeFile(join(folder, 'odd', 'x.tar', '1.png'), png[0]!);
    const odd = await Dataset.open([join(folder, 'odd')]);
    t.is(await memberOf(odd.files[0]!), undefined);
    t.is(
      (
        await new PictureDecoder({ shortSide: 32, cacheBytes: 0, concurrency: 1 }).decode(
          odd.files[0]!,
        )
      ).height,
      32,
    );
  },
);

test.serial(
  'an epoch is a function of seed and epoch; row groups come in windows of bounded memory',
  async (t) => {
    // DuckDB's row groups have 2048 rows at least.
    const many = join(folder, 'many');
    await mkdir(many);
    for (let i = 0; i < 4; i++) {
      await withDuckDB((connection) =>
        connection.run(
          `COPY (SELECT repeat('x', 100)::BLOB AS image FROM range(6144)) TO '${many}/${i}.parquet' (FORMAT parquet, ROW_GROUP_SIZE 2048)`,
        ),
      );
    }
    await writeTar(
      join(many, 'loose.tar'),
      Array.from({ length: 2000 }, (_, i) => [`${i}.png`, '']),
    );
    const shard = await openShard(join(many, '0.parquet'));
    t.is(shard.groups!.length, 3);
    const bytes = shard.groups![0]!.bytes;
    const open = () => Dataset.open([many], { rowGroupMemory: 8.5 * bytes });
    const dataset = await open();
    t.is(dataset.size, 4 * 6144 + 2000);
    const epoch = (from: Dataset, number: number, seed: number): number[] =>
      Array.from({ length: from.size }, (_, i) => from.at(number * from.size + i, seed));
    const first = epoch(dataset, 0, 5);
    t.is(new Set(first).size, dataset.size, 'each once');
    t.deepEqual(epoch(await open(), 0, 5), first);
    t.notDeepEqual(epoch(dataset, 1, 5), first);
    t.notDeepEqual(epoch(dataset, 0, 6), first);
    // Of 12 groups, 4 fit a window (half of the memory): 3 windows, and never more than two windows' groups within one's length.
    const groupOf = (index: number): number => (index < 4 * 6144 ? Math.floor(index / 2048) : -1);
    const length = Math.ceil(dataset.size / 3);
    for (let from = 0; from + length <= first.length; from += 500) {
      const groups = new Set(first.slice(from, from + length).map(groupOf));
      groups.delete(-1);
      t.true(groups.size <= 8, `${groups.size}`);
    }
    // Loose pictures are spread over all of it, and each group over all of its window.
    const loose = first.flatMap((index, place) => (groupOf(index) === -1 ? [place] : []));
    const gaps = loose.map((place, i) => place - (loose[i - 1] ?? 0));
    t.true(Math.max(...gaps) < 200, `${Math.max(...gaps)}`);
    for (let group = 0; group < 12; group++) {
      const places = first.flatMap((index, place) => (groupOf(index) === group ? [place] : []));
      const mean = places.reduce((sum, place) => sum + place, 0) / places.length;
      const middle = (Math.floor(mean / length) + 0.5) * length;
      // The mean of 2048 uniform places of a window has a standard deviation of 0.64% of its length.
      t.true(Math.abs(mean - middle) < 0.03 * length, `${group}: ${mean} of ${middle}`);
    }
  },
);

test.serial('training reads shards as it reads the folder that they were made of', async (t) => {
  process.env['XDG_CACHE_HOME'] = userCache;
  const place = await temporaryFolder(t);
  const shards = join(place, 'shards');
  await mkdir(shards);
  const tar = await tarBytes(Array.from({ length: 8 }, (_, i) => [`${i + 1}.png`, png[i]!]));
  await writeFile(join(shards, 'a.tar'), tar);
  const eight = await writePictures(join(place, 'eight'), 8);
  const more = ['--steps', '3', '--json'];
  const curve = async (data: string, out: string) => {
    const outcome = await pretrain(data, join(place, out), ...more);
    t.is(outcome.code, 0, outcome.stderr);
    const log = await readFile(join(place, out, 'log.jsonl'), 'utf8');
    return { outcome, losses: [...log.matchAll(/"loss":([^,]+)/g)].map(([, loss]) => loss) };
  };
  const loose = await curve(eight, 'loose');
  const packed = await curve(join(shards, 'a.tar'), 'packed');
  t.deepEqual(packed.losses, loose.losses);
  t.regex(packed.outcome.stderr, /^8 images, 3 steps of 2/m);

  const broken = Buffer.from(tar);
  const at = headerOf(tar, png[2]!);
  broken.fill(0xff, at + 20, at + 40);
  broken.fill(0, tar.indexOf(png[4]!), tar.indexOf(png[4]!) + 100);
  await writeFile(join(shards, 'a.tar'), broken);
  const damaged = await curve(shards, 'damaged');
  t.regex(damaged.outcome.stderr, /^7 images/m);
  t.regex(damaged.outcome.stderr, /^.*a\.tar: bad header at byte \d+; .*1 record lost\.$/m);
  const result = JSON.parse(damaged.outcome.stdout) as { unreadable: number; lost: number };
  t.deepEqual([result.unreadable, result.lost], [1, 1]);
});

test.serial('ltrp rank names pictures of shards; a broken row group is said once', async (t) => {
  process.env['XDG_CACHE_HOME'] = userCache;
  const place = await temporaryFolder(t);
  await writeTar(join(place, 'a.tar'), [...picturesOf(2), ['x.png', 'no picture']]);
  const path = await writeParquet(join(place, 'b.parquet'), photos, {
    image: 'content',
    options: ', COMPRESSION zstd',
  });
  const outcome = await ltrp(['rank', 'a.tar', 'b.parquet', '--json'], { cwd: place });
  t.is(outcome.code, 1);
  const images = jsonLines<{ image: string; kept: number[] }>(outcome).map(({ image }) => image);
  t.deepEqual(images, [
    ...['a.tar/0.png', 'a.tar/1.png'],
    ...Array.from({ length: 12 }, (_, i) => `b.parquet/${i}`),
  ]);
  t.regex(outcome.stderr, /a\.tar\/x\.png/);
  const bytes = await readFile(path);
  await writeFile(path, bytes.fill(0, 4, 60));
  const broken = await ltrp(['rank', path, '--json', '--image-column', 'image'], { cwd: place });
  t.is(broken.code, 1);
  t.is(broken.stderr.match(/b\.parquet/g)?.length, 1, broken.stderr);
  t.regex(broken.stderr, /12 records lost/);
});
