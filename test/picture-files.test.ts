/** What names of pictures stand for: the same to the commands that rank and to those that train. */
import { copyFile, link, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { execFileSync } from 'node:child_process';
import { type ExecutionContext } from 'ava';
import { expandImages } from '../lib/cli/image-arguments.js';
import { PictureFinder } from '../lib/data/picture-files.js';
import { resolveSources } from '../lib/data/sources.js';
import { imageExtensions } from '../lib/image-extensions.js';
import { LtrpError } from '../lib/index.js';
import { isOutput, markOf, markPng, sourceId } from '../lib/output-mark.js';
import sharp from 'sharp';
import { test } from './support/folder.js';
import { picture, resolveSource } from './support/pictures.js';

const home = process.cwd();

test.afterEach.always(() => {
  process.chdir(home);
});

async function files(folder: string, ...names: string[]): Promise<void> {
  for (const name of names) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), name);
  }
}

/** What both kinds of commands find, which must be the same; as paths relative to the current folder. */
async function found(t: ExecutionContext, ...names: string[]): Promise<string[]> {
  const ranked = (await expandImages(names)).files.map(({ path }) => relative('.', path));
  const { sources } = await resolveSources(names);
  const trained = sources.flatMap((source) => source.files.map((path) => relative('.', path)));
  t.deepEqual([...trained].sort(), [...ranked].sort(), `${names.join(' ')}: both the same`);
  return ranked;
}

// Serial: the current folder is the process's.
for (const name of [
  'Dropbox (Personal)',
  '[raw] set',
  '{a,b}',
  '!not',
  '-k',
  'back\\slash',
  'ünï 写真',
  '*star?',
  '@(x|y)+',
]) {
  test.serial(`patterns are relative to the current folder, called ${name}`, async (t) => {
    const folder = join(t.context.folder, name);
    await files(folder, 'a.jpg', 'IMG_1.JPG', 'c.png', 'sub (2)/d.Jpg', 'sub (2)/e[1].jpg');
    process.chdir(folder);
    t.deepEqual(await found(t, '*.jpg'), ['a.jpg', 'IMG_1.JPG']);
    t.deepEqual(await found(t, './**/*.{jpg,png}'), [
      'a.jpg',
      'c.png',
      'IMG_1.JPG',
      'sub (2)/d.Jpg',
      'sub (2)/e[1].jpg',
    ]);
    t.deepEqual(await found(t, 'sub (2)/*.jpg'), ['sub (2)/d.Jpg', 'sub (2)/e[1].jpg']);
    t.deepEqual(await found(t, '* (2)/d*'), ['sub (2)/d.Jpg']);
    process.chdir(home);
    // The same pattern, absolute, and relative to a folder above.
    t.is((await found(t, join(folder, '*.jpg'))).length, 2);
    process.chdir(t.context.folder);
    t.deepEqual(await found(t, `${name}/*.png`), [`${name}/c.png`]);
  });
}

test.serial('what exists goes before what it means as a pattern', async (t) => {
  const { folder } = t.context;
  await files(folder, '[ab].jpg', 'a.jpg', 'b.jpg', '*.png', 'c.png', '!x.jpg', '{p,q}.jpg');
  process.chdir(folder);
  t.deepEqual(await found(t, '[ab].jpg'), ['[ab].jpg']);
  t.deepEqual(await found(t, '*.png'), ['*.png']);
  t.deepEqual(await found(t, '!x.jpg'), ['!x.jpg']);
  t.deepEqual(await found(t, '{p,q}.jpg'), ['{p,q}.jpg']);
  // No negation either, as in a shell.
  t.deepEqual(await found(t, '!*.jpg'), ['!x.jpg']);
  t.deepEqual(await found(t, '[abc].{jpg,png}'), ['a.jpg', 'b.jpg', 'c.png']);
  t.deepEqual(await found(t, '\\[ab\\].jpg'), ['[ab].jpg']);
});

test.serial('extensions of pictures count in any case; other kinds are said', async (t) => {
  const { folder } = t.context;
  await files(
    folder,
    'a.JFIF',
    'b.jpe',
    'c.Pjpeg',
    'd.bmp',
    'e.BMP',
    'f.psd',
    'g.CR2',
    'h.md',
    'i',
  );
  await files(folder, '.hidden.jpg', '._a.jpg', 'Thumbs.db', '.cache/x.jpg');
  process.chdir(folder);
  for (const name of ['.', folder, '*', `${folder}/*`, '**']) {
    t.deepEqual(await found(t, name), ['a.JFIF', 'b.jpe', 'c.Pjpeg'], name);
    const { passedOver } = await expandImages([name]);
    t.deepEqual(
      passedOver,
      ['Passed over, of kinds that are not read: 2 .bmp, 1 .cr2, 1 .psd.'],
      name,
    );
    t.deepEqual((await resolveSources([name])).passedOver, passedOver, name);
  }
  // A pattern that spells the extension names the files.
  t.deepEqual(await found(t, '*.bmp'), ['d.bmp', 'e.BMP']);
  for (const name of ['a.JFIF', 'b.jpe', 'c.Pjpeg']) await rm(name);
  const problem = 'what is there: 2 .bmp, 1 .cr2, 1 .db, 1 .md, 1 .psd, 1 without extension';
  const error = await t.throwsAsync<LtrpError>(resolveSource('.'));
  t.is(error.code, 'ERR_LTRP_DATA_EMPTY');
  t.true(error.message.includes(problem), error.message);
  const { problems } = await expandImages(['.']);
  t.deepEqual(
    problems.map(({ message }) => message),
    [error.message],
  );
});

test('what sharp reads is found in folders', (t) => {
  const formats = Object.entries(sharp.format) as [
    string,
    { input: { file: boolean; fileSuffix?: string[] } },
  ][];
  const suffixes = formats
    .filter(([name, { input }]) => input.file && name !== 'vips')
    .flatMap(([, { input }]) => input.fileSuffix ?? []);
  t.true(suffixes.length > 10);
  const missing = suffixes.filter(
    (suffix) => suffix !== '.svg.gz' && !imageExtensions.includes(suffix.slice(1)),
  );
  t.deepEqual(missing, []);
});

test.serial('a picture counts once, whatever it is called; loops of links end', async (t) => {
  const { folder } = t.context;
  await files(folder, 'a/1.jpg', 'a/2.jpg', 'b/3.jpg');
  process.chdir(folder);
  await symlink('../a/1.jpg', 'b/link.jpg');
  await symlink('1.jpg', 'a/0-link.jpg');
  await symlink('../a', 'b/folder');
  await symlink('..', 'a/loop');
  await symlink('.', 'self');
  await symlink('nowhere.jpg', 'a/broken.jpg');
  await symlink('y', 'x');
  await symlink('x', 'y');
  const all = ['a/1.jpg', 'a/2.jpg', 'a/broken.jpg', 'b/3.jpg'];
  t.deepEqual(await found(t, '.'), all, 'each under its own name');
  t.deepEqual(await found(t, '.', 'b', 'b/link.jpg', '*/*.jpg', `${folder}/a/../a/1.jpg`), all);
  t.deepEqual(await found(t, 'b/link.jpg', 'a/1.jpg'), ['b/link.jpg'], 'the first name stays');
  t.deepEqual(await found(t, '**/[12].jpg'), ['a/1.jpg', 'a/2.jpg']);
  await link('a/1.jpg', 'a/hard.jpg');
  t.is((await found(t, 'a/1.jpg', 'a/hard.jpg')).length, 2);
  const broken = (await expandImages(['.'])).files.find(({ problem }) => problem !== undefined);
  t.regex(broken?.problem?.message ?? '', /no image a\/broken\.jpg; the link leads nowhere/);
  // A share says how often its pictures come: they stay.
  await rm('a/loop');
  const { sources } = await resolveSources(['.', 'a@0.5', 'b']);
  t.deepEqual(
    sources.map((source) => source.files.length),
    [5, 4],
  );
});

test.serial(
  'lists: relative to themselves, comments, BOM, line ends; what a line lacks is one bad result',
  async (t) => {
    const { folder } = t.context;
    await files(folder, 'sets/a.jpg', 'sets/b [1].jpg', 'c.jpg', 'sets/é.jpg');
    const text = `# two sets\r\nb [1].jpg\r\n\r\n  a.jpg  \n../c.jpg\n./a.jpg\nabsent.jpg\n${folder}/sets/é.jpg`;
    const list = join(folder, 'sets', 'list.TXT');
    const expected = ['b [1].jpg', 'a.jpg', '../c.jpg', 'absent.jpg', 'é.jpg'];
    process.chdir(folder);
    for (const bytes of [
      Buffer.from(text),
      Buffer.from(`\uFEFF${text}`),
      Buffer.from(`\uFEFF${text}`, 'utf16le'),
    ]) {
      await writeFile(list, bytes);
      const { files: ranked } = await expandImages(['sets/list.TXT']);
      t.deepEqual(
        ranked.map(({ path }) => relative('sets', path)),
        expected,
      );
      const source = await resolveSource(list);
      t.deepEqual(source.names, expected);
      const problems = ranked.flatMap(({ problem }) => (problem === undefined ? [] : [problem]));
      t.deepEqual(
        problems.map(({ message }) => message),
        ['sets/list.TXT, line 7: There is no image sets/absent.jpg.'],
      );
      t.is(problems[0]?.code, 'ERR_LTRP_IMAGE_NOT_FOUND');
      t.is(source.problems.size, 1);
    }
    t.deepEqual(await found(t, 'sets/*.txt'), await found(t, 'sets/list.TXT'));
    // A text that is no list is one error, not one a line.
    await writeFile('notes.txt', 'Taken in June.\n'.repeat(500));
    const { files: none, problems } = await expandImages(['notes.txt']);
    t.deepEqual(none, []);
    t.is(problems.length, 1);
    t.regex(problems[0]?.message ?? '', /notes\.txt is taken for a list.*none of its 500 lines/);
    await t.throwsAsync(resolveSource('notes.txt'), { message: problems[0]?.message ?? '' });
    await writeFile('empty.txt', '\n# nothing\n');
    await t.throwsAsync(resolveSource('empty.txt'), { message: /empty\.txt names no images/ });
  },
);

test.serial('shares of sources are written as everywhere', async (t) => {
  const { folder } = t.context;
  await files(folder, 'a/1.jpg', 'b@0.5/2.jpg');
  process.chdir(folder);
  const share = async (name: string) => (await resolveSource(name)).share;
  t.deepEqual(await Promise.all(['a', 'a@0.5', 'a@.25', 'a@50%', 'a@1', 'b@0.5'].map(share)), [
    null,
    0.5,
    0.25,
    0.5,
    1,
    null,
  ]);
  for (const [name, why] of [
    ['a@50', /For 50 percent write 50%/],
    ['a@0', /share in \(0, 1\]/],
    ['a@150%', /share in \(0, 1\]/],
  ] as const) {
    await t.throwsAsync(resolveSource(name), { code: 'ERR_LTRP_INVALID_ARGUMENT', message: why });
  }
});

test.serial(
  'pictures that the command wrote are not found, and still there when they are named',
  async (t) => {
    const { folder } = t.context;
    const png = await picture(32, 32).png().toBuffer();
    const id = sourceId('/somewhere/cat.jpg');
    process.chdir(folder);
    await files(folder, 'cat.jpg');
    await mkdir('out');
    await writeFile('out/cat-heat.png', markPng(png, id));
    await writeFile('own-heat.png', png);
    t.is(await markOf('out/cat-heat.png'), id);
    t.is(await markOf('own-heat.png'), undefined);
    t.is(await markOf('cat.jpg'), undefined);
    const same = await sharp('out/cat-heat.png').raw().toBuffer();
    t.deepEqual(same, await sharp(png).raw().toBuffer(), 'a mark changes no pixel');
    for (const name of ['.', '**/*.{jpg,png}']) {
      t.deepEqual(await found(t, name), ['cat.jpg', 'own-heat.png'], name);
      const { passedOver } = await expandImages([name]);
      t.regex(passedOver.join(), /1 picture that ltrp wrote in out; name a file itself to take it/);
    }
    t.deepEqual(await found(t, 'out/cat-heat.png'), ['out/cat-heat.png'], 'as the sentence says');
    await t.throwsAsync(resolveSource('out'), {
      message: /what is there: 1 picture that ltrp wrote/,
    });
    // Of a version without marks: known by what lies beside.
    await mkdir('older');
    for (const name of ['a-heat.png', 'a-kept.png', 'b-heat.png'])
      await writeFile(join('older', name), png);
    t.false(await isOutput('older/a-heat.png'));
    await files(folder, 'older/rank.jsonl', 'older/index.html');
    t.deepEqual(await found(t, 'older'), ['older/b-heat.png']);
  },
);

test.serial('names that are no UTF-8, FIFOs and damaged marks', async (t) => {
  const { folder } = t.context;
  process.chdir(folder);
  await files(folder, 'a.jpg', 'short-heat.png');
  await rename(join(folder, 'a.jpg'), Buffer.from(`${folder}/caf\xe9.jpg`, 'latin1'));
  execFileSync('mkfifo', ['pipe.jpg', 'pipe-kept.png']);
  const { files: all } = await expandImages(['.']);
  t.deepEqual(
    all.map(({ path }) => basename(path)),
    ['caf\uFFFD.jpg', 'short-heat.png'],
  );
  t.regex(all[0]?.problem?.message ?? '', /not valid UTF-8/);
  t.is(await markOf('pipe-kept.png'), undefined, 'it is not waited for');
});

test('the order of a folder does not depend on that of the system', async (t) => {
  const { folder } = t.context;
  await files(folder, '10.jpg', '9.jpg', 'b.jpg', 'A.jpg');
  const names = async (finder: PictureFinder): Promise<string[]> =>
    (await finder.find(folder)).files.map(({ path }) => basename(path));
  t.deepEqual(await names(new PictureFinder()), ['10.jpg', '9.jpg', 'A.jpg', 'b.jpg']);
  const { files: natural } = await expandImages([folder]);
  t.deepEqual(
    natural.map(({ path }) => basename(path)),
    ['9.jpg', '10.jpg', 'A.jpg', 'b.jpg'],
  );
  await copyFile(join(folder, 'b.jpg'), join(folder, 'B.jpg'));
  t.is(await readFile(join(folder, 'B.jpg'), 'utf8'), 'b.jpg');
});
