/** Results in parts: `ltrp rank --store`, `ltrp score --parts`, `ltrp store verify`, read back by an engine that is not ours. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { modelDigest } from '../lib/file-digest.js';
import { partPictures, unitsOf, type Unit } from '../lib/store/division.js';
import { ResultStore } from '../lib/store/manifest.js';
import { PartFile } from '../lib/store/part-file.js';
import { mergeStore, verifyStore } from '../lib/store/verify.js';
import { jsonLines, ltrp } from './support/command.js';
import { smallMae } from './support/models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';
import { query, writeParquet, writeTar } from './support/shards.js';
import { writePictures } from './support/runs.js';

const { signal } = new AbortController();
const png = (seed: number): Promise<Buffer> => picture(96, 64, 3, seed).png().toBuffer();

/** A tar of some pictures, one of them damaged, and a loose one. */
async function data(folder: string): Promise<void> {
  const entries = await Promise.all(
    Array.from({ length: 7 }, async (_, i) => [`${i}.png`, await png(i + 1)] as const),
  );
  await mkdir(join(folder, 'data'));
  await writeTar(join(folder, 'data', 'a.tar'), [...entries, ['x.jpg', 'no picture']]);
  await writeFile(join(folder, 'data', 'b.png'), await png(9));
}

interface Ranked {
  image: string;
  width: number;
  grid: { rows: number; columns: number };
  scores: number[];
  kept: number[];
}

test.serial(
  'parts by number, by an index and by what is missing are what ltrp rank prints',
  async (t) => {
    t.timeout(300_000);
    const cwd = await temporaryFolder(t);
    await data(cwd);
    const rank = (more: string[], env: Record<string, string> = {}) =>
      ltrp(['rank', 'data', '--store', 'ranks', '--keep', '0.25', ...more], { cwd, env });
    const first = await rank(['--part', '1/3']);
    t.is(first.code, 0, first.stderr);
    const store = join(cwd, 'ranks');
    const parts = async () => (await readdir(store)).filter((name) => !name.startsWith('.')).sort();
    t.deepEqual(await parts(), ['part-00001-of-00003.parquet', 'store.json']);
    // The number of parts is the store's: an index out of it and another number are no parts of these results.
    const beyond = await rank([], { SLURM_ARRAY_TASK_ID: '3', SLURM_ARRAY_TASK_COUNT: '8' });
    t.is(beyond.code, 2);
    t.regex(beyond.stderr, /SLURM_ARRAY_TASK_ID is 3, and the results have 3 parts/);
    const other = await rank(['--part', '1/4']);
    t.is(other.code, 2);
    t.regex(other.stderr, /3 parts and not 4.*ERR_LTRP_RUN_CONFLICT/);
    const incomplete = await ltrp(['store', 'verify', 'ranks'], { cwd });
    t.is(incomplete.code, 1);
    t.regex(
      incomplete.stderr,
      /part-00002-of-00003\.parquet is missing\n.*part-00003-of-00003\.parquet is missing/,
    );
    const second = await rank([], { JOB_COMPLETION_INDEX: '1' });
    t.regex(second.stderr, /part 2 of 3, by JOB_COMPLETION_INDEX/);
    const rest = await rank(['--json']);
    t.is(rest.code, 0, rest.stderr);
    t.deepEqual((await parts()).length, 4);
    const all = [first, second, rest].map(({ stderr }) => stderr).join('');
    t.regex(all, /x\.jpg/, 'the damaged picture is named');
    const again = await rank(['--part', '1/3']);
    t.regex(again.stderr, /part 1 of 3 is there/);

    const printed = await ltrp(['rank', 'data', '--keep', '0.25', '--json'], { cwd });
    const expected = new Map(jsonLines<Ranked>(printed).map((each) => [each.image, each]));
    t.is(expected.size, 8);
    const rows = await query(`SELECT * FROM read_parquet('${store}/*.parquet') ORDER BY image`);
    t.is(rows.length, 9);
    t.is(new Set(rows.map(({ image }) => image)).size, 9);
    const digest = await modelDigest(join(repository, 'models', 'tiny-ranker.safetensors'));
    for (const row of rows) {
      const { image, width, logits, kept, model } = row;
      t.is(model, digest);
      const wanted = expected.get(image as string);
      if (image === 'data/a.tar/x.jpg') {
        t.deepEqual([width, logits, wanted], [null, null, undefined]);
        t.regex(row['problem'] as string, /ERR_LTRP_IMAGE_DECODE/);
        continue;
      }
      t.deepEqual(
        [row['rows'], row['columns'], width],
        [wanted!.grid.rows, wanted!.grid.columns, wanted!.width],
      );
      t.deepEqual(kept, wanted!.kept);
      t.deepEqual(
        (logits as number[]).map(Math.fround),
        wanted!.scores.map(Math.fround),
        image as string,
      );
      t.is(row['problem'], null);
    }
    const [types] = await query(
      `SELECT list(column_name || ' ' || column_type) AS types FROM (DESCRIBE SELECT * FROM read_parquet('${store}/*.parquet'))`,
    );
    t.deepEqual(types!['types'], [
      ...['image VARCHAR', 'width INTEGER', 'height INTEGER', 'rows INTEGER', 'columns INTEGER'],
      ...[
        'logits FLOAT[]',
        'kept INTEGER[]',
        'model VARCHAR',
        'version VARCHAR',
        'problem VARCHAR',
      ],
    ]);

    const merged = await ltrp(['store', 'verify', 'ranks', '--merge', 'all.parquet', '--json'], {
      cwd,
    });
    t.is(merged.code, 0, merged.stderr);
    const { images, unreadable } = JSON.parse(merged.stdout) as Record<string, number>;
    t.deepEqual([images, unreadable], [9, 1]);
    t.deepEqual(await query(`SELECT * FROM '${cwd}/all.parquet' ORDER BY image`), rows);

    // One bit of a part's content.
    const path = join(store, 'part-00001-of-00003.parquet');
    const bytes = await readFile(path);
    const at = bytes.indexOf('data/a.tar') + 3;
    bytes[at] = bytes[at]! ^ 4;
    await writeFile(path, bytes);
    const damaged = await verifyStore(await ResultStore.open(store), signal);
    t.deepEqual(
      damaged.damaged.map(({ file }) => file),
      ['part-00001-of-00003.parquet'],
    );
    // Results are no pictures.
    t.is((await ltrp(['rank', 'ranks', '--json'], { cwd })).code, 2);
  },
);

test.serial('ltrp score --parts keeps what ltrp score prints', async (t) => {
  t.timeout(200_000);
  const cwd = await temporaryFolder(t);
  await writePictures(join(cwd, 'data'), 2);
  const how = ['score', 'data', '--model', smallMae, '--rounds', '2'];
  const stored = await ltrp([...how, '--store', 'means', '--parts', '1'], { cwd });
  t.is(stored.code, 0, stored.stderr);
  const printed = jsonLines<{ image: string; scores: number[]; standardErrors: (number | null)[] }>(
    await ltrp([...how, '--json'], { cwd }),
  );
  const rows = await query(
    `SELECT image, means, errors FROM '${cwd}/means/*.parquet' ORDER BY image`,
  );
  t.is(rows.length, 2);
  for (const [i, { image, means, errors }] of rows.entries()) {
    t.is(image, printed[i]!.image);
    t.deepEqual((means as number[]).map(Math.fround), printed[i]!.scores.map(Math.fround));
    t.deepEqual(
      (errors as (number | string)[]).map((e) => Math.fround(Number(e))),
      printed[i]!.standardErrors.map((e) => Math.fround(e ?? NaN)),
    );
  }
  const crops = await ltrp([...how, '--store', 'means', '--crops', '2'], { cwd });
  t.is(crops.code, 2);
});

test('however many parts, each picture is in one', async (t) => {
  const folder = await temporaryFolder(t);
  const photos = await writePictures(join(folder, 'photos'), 5);
  const blob = await Promise.all([1, 2, 3, 4, 5].map((i) => readFile(join(photos, `${i}.png`))));
  const tar = (name: string, count: number) =>
    writeTar(
      join(folder, name),
      Array.from({ length: count }, (_, i) => [`${i}.png`, blob[i % 5]!]),
    );
  const files = [
    await tar('a.tar', 23),
    join(photos, '1.png'),
    join(photos, '2.png'),
    await writeParquet(join(folder, 'b.parquet'), photos, { image: 'content' }),
    await tar('c.tar', 1),
    join(photos, '3.png'),
  ];
  const units = await unitsOf(files, signal);
  t.deepEqual(
    units.map(({ loose }) => loose === true),
    [false, true, false, false, true],
  );
  for (const parts of [1, 2, 3, 7, 64, 1000]) {
    const found: string[] = [];
    for (let part = 0; part < parts; part++) {
      found.push(...(await partPictures(files, units, { part, parts }, {})).files);
    }
    t.is(found.length, 23 + 2 + 5 + 1 + 1, `${parts}`);
    t.is(new Set(found).size, found.length, `${parts}`);
  }
  const changed = units.map((unit): Unit => ({ ...unit, size: unit.size + 1 }));
  await t.throwsAsync(partPictures(files, changed, { part: 0, parts: 1 }, {}), {
    code: 'ERR_LTRP_RUN_CONFLICT',
  });
});

const row = (image: string) => ({
  image,
  width: 1,
  height: 1,
  rows: 1,
  columns: 1,
  logits: [1, NaN, -2.5],
  kept: [0],
  problem: null,
});
const constant = { model: 'digest', version: '0' };

async function begun(path: string, parts: number): Promise<ResultStore> {
  const wanted = {
    format: 'ltrp-results-1',
    kind: 'rank',
    version: '0',
    model: 'digest',
    options: {},
    names: path,
    parts,
  } as const;
  return ResultStore.begin(path, wanted, () => Promise.resolve({ parts, data: [] }), signal);
}

test('of two writers of one part the first is kept; engines see no unfinished file', async (t) => {
  const folder = await temporaryFolder(t);
  const store = await begun(join(folder, 'store'), 1);
  const create = () =>
    PartFile.create(
      store.partPath(0),
      { store: store.identity, kind: 'rank', part: 0, parts: 1 },
      constant,
    );
  const [one, two] = [await create(), await create()];
  for (let i = 0; i < 1000; i++) {
    await one.add(row(`${i}`));
    await two.add(row(`${i}`));
  }
  t.deepEqual(
    (await readdir(store.path)).filter((name) => name.endsWith('.parquet')),
    [],
  );
  t.true(await one.commit());
  const bytes = await readFile(store.partPath(0));
  t.false(await two.commit());
  t.true((await readFile(store.partPath(0))).equals(bytes));
  t.deepEqual((await readdir(store.path)).sort(), ['part-00001-of-00001.parquet', 'store.json']);
  const verdict = await verifyStore(store, signal);
  t.deepEqual([verdict.images, verdict.missing, verdict.damaged], [1000, [], []]);
  t.deepEqual(
    await query(`SELECT count(DISTINCT image)::INT AS n FROM '${store.path}/*.parquet'`),
    [{ n: 1000 }],
  );

  const twice = await begun(join(folder, 'twice'), 1);
  const file = await PartFile.create(
    twice.partPath(0),
    { store: twice.identity, kind: 'rank', part: 0, parts: 1 },
    constant,
  );
  await file.add(row('a'));
  await file.add(row('a'));
  await file.commit();
  t.regex((await verifyStore(twice, signal)).damaged[0]!.why, /1 pictures are there twice/);
  // A part of another store.
  await writeFile(twice.partPath(0), bytes);
  t.regex((await verifyStore(twice, signal)).damaged[0]!.why, /not a part of this store/);
  await writeFile(twice.partPath(0), bytes.subarray(0, 500));
  t.is((await mergeStore(twice, join(folder, 'merged.parquet'), signal)).damaged.length, 1);
  t.false((await readdir(folder)).includes('merged.parquet'));
});

test('a full disk ends a part, and leaves none', async (t) => {
  const folder = await temporaryFolder(t);
  const disk = join(folder, 'disk');
  await mkdir(disk);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk], { stdio: 'pipe' });
  } catch {
    t.log('skipped: mounting a small disk needs privileges');
    t.pass();
    return;
  }
  try {
    const store = await begun(disk, 1);
    const file = await PartFile.create(
      store.partPath(0),
      { store: store.identity, kind: 'rank', part: 0, parts: 1 },
      constant,
    );
    const logits = Array.from({ length: 4096 }, () => Math.random());
    await t.throwsAsync(
      async () => {
        for (let i = 0; i < 1000; i++) await file.add({ ...row(`${i}`), logits });
        await file.commit();
      },
      { code: 'ERR_LTRP_FILE_WRITE', message: /ENOSPC/ },
    );
    t.deepEqual(await readdir(disk), ['store.json']);
    await rm(join(disk, 'store.json'));
  } finally {
    execFileSync('umount', [disk]);
  }
});

test.serial('processes that are killed again and again leave every picture once', async (t) => {
  t.timeout(300_000);
  const program = join(repository, 'bench', 'store-soak.ts');
  const small = '--pictures 300 --shards 5 --parts 12 --processes 2 --kill-every 4 --kills 3'.split(
    ' ',
  );
  const run = promisify(execFile)(process.execPath, ['--import=tsx', program, ...small], {
    cwd: repository,
  });
  const { stdout } = await run;
  const { rows, different, missing, damaged } = JSON.parse(stdout) as Record<string, unknown>;
  t.deepEqual([rows, different, missing, damaged], [300, 300, [], []], stdout);
});
