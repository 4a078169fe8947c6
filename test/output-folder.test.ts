/** What a folder of results keeps: names, lines and pages of earlier calls; who may write to it. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { outputStem, printable } from '../lib/cli/image-arguments.js';
import { lineId } from '../lib/cli/lines-file.js';
import { OutputFolder } from '../lib/cli/output-folder.js';
import { parsePage, reportPage, type ReportImage } from '../lib/cli/report/page.js';
import { imagesPerPage, ReportPages } from '../lib/cli/report/pages.js';
import { markPng, sourceId } from '../lib/output-mark.js';
import './support/folder.js';
import { picture } from './support/pictures.js';

const test = anyTest as TestFn<{ folder: string; out: OutputFolder }>;
const suffixes = ['-heat.png', '-kept.png'];
const frame = { title: 'Ranked <patches>', description: 'By “tiny” & co.', keepRatio: 0.5 };

test.beforeEach((t) => {
  t.context.out = new OutputFolder(join(t.context.folder, 'out'));
});

const image = (name: string, label = 'Ranker', line = lineId(name)): ReportImage => ({
  name,
  width: 4,
  height: 2,
  source: 'data:,',
  maps: [{ label, rows: 1, columns: 2, scores: [1, NaN], selected: [0] }],
  id: sourceId(name),
  line,
});

test('stems: readable, short, one form of accents, nothing that a shell or a URL would need quotes for', (t) => {
  for (const [file, stem] of [
    ['photos/cat.jpg', 'cat'],
    ['cafe\u0301.jpg', 'caf\u00e9'],
    ['caf\u00e9.jpg', 'caf\u00e9'],
    ['हिन्दी.png', 'हिन्दी'],
    ['写真 1.png', '写真_1'],
    ['new\nline.jpg', 'new_line'],
    ['50%_#1?"\'.jpg', '50___1_'],
    ['-rf.jpg', '_rf'],
    ['.hidden.jpg', '_hidden'],
    ['..jpg', '_'],
    ['\u001b[31mred.jpg', '_31mred'],
  ] as const) {
    t.is(outputStem(file), stem, JSON.stringify(file));
  }
  for (const name of ['x'.repeat(251), '写'.repeat(83), 'é'.repeat(120), '😀'.repeat(60)]) {
    const stem = outputStem(`${name}.jpg`);
    t.true(stem.length > 20 && Buffer.byteLength(stem) <= 100);
    t.true(name.normalize('NFC').startsWith(stem));
  }
  t.is(printable('a\nb\u001b[0m\u202e\u0085é😀'), 'a\\nb\\u001b[0m\\u202e\\u0085é😀');
});

test('a name belongs to one picture, in this call and in those before', async (t) => {
  const { folder, out } = t.context;
  const files = ['a/1.jpg', 'b/1.png', 'b/1.JPG', 'b/cafe\u0301.jpg', 'b/caf\u00e9.jpg', 'c/2.jpg'];
  for (const file of files) {
    await mkdir(join(folder, file, '..'), { recursive: true });
    await writeFile(join(folder, file), file);
  }
  const paths = files.map((file) => join(folder, file));
  const names = await out.names(paths, suffixes);
  t.deepEqual(
    names.map(({ name }) => name),
    ['1', '1-2', '1-3', 'café', 'café-2', '2'],
  );
  t.true(names.every(({ again }) => !again));
  const png = await picture(16, 16).png().toBuffer();
  for (const { name, id } of names) {
    for (const suffix of suffixes) await out.write(`${name}${suffix}`, markPng(png, id));
  }
  // A call for some of them, in another order and by other names, finds theirs.
  await symlink(paths[2] as string, join(folder, 'link.jpg'));
  const again = await out.names(
    [paths[5], paths[1], join(folder, 'a/../b/1.JPG')] as string[],
    suffixes,
  );
  t.deepEqual(
    again.map(({ name, again: known }) => [name, known]),
    [
      ['2', true],
      ['1-2', true],
      ['1-3', true],
    ],
  );
  // New ones take none of theirs, nor a name that somebody else's file has.
  await mkdir(join(folder, 'd'));
  await writeFile(join(folder, 'd', '2.jpg'), '');
  await writeFile(join(folder, 'd', '3.jpg'), '');
  await writeFile(join(out.path, '3-kept.png'), png);
  execFileSync('mkfifo', [join(out.path, '3-2-heat.png')]);
  const fresh = await out.names([join(folder, 'd/2.jpg'), join(folder, 'd/3.jpg')], suffixes);
  t.deepEqual(
    fresh.map(({ name, again: known }) => [name, known]),
    [
      ['2-2', false],
      ['3-3', false],
    ],
  );
});

/** One call: lines and figures for `names`. */
async function call(
  out: OutputFolder,
  names: readonly string[],
  { label = 'Ranker', again = false, text = '', title = frame.title, lines = 'rank.jsonl' } = {},
): Promise<void> {
  const file = out.lines(lines);
  const pages = new ReportPages({ ...frame, title }, out, { merge: true });
  await pages.open();
  for (const name of names) {
    const line = JSON.stringify({ image: name, text });
    await file.append(line);
    await pages.add(image(name, label, lineId(line)), again);
  }
  const finished = await pages.finish();
  const left = new Map(finished?.lines.superseded);
  await file.drop((line) => (left.get(lineId(line)) ?? 0) > 0);
  await file.close();
}

async function figures(out: OutputFolder): Promise<string[][]> {
  const pages: string[][] = [];
  for (const name of ['index.html', 'index-2.html', 'index-3.html', 'index-4.html']) {
    if (!existsSync(join(out.path, name))) break;
    const html = await readFile(join(out.path, name), 'utf8');
    const names = [...html.matchAll(/<strong>([^<]*)<\/strong>/g)].map(
      ([, text]) => text as string,
    );
    const json = /id="report">(.*?)<\/script>/s.exec(html)?.[1] ?? '';
    const { images } = JSON.parse(json) as { images: { name: string }[] };
    if (names.join() !== images.map((each) => each.name).join()) throw new Error('names differ');
    pages.push(names);
  }
  return pages;
}

const lines = async (out: OutputFolder, name = 'rank.jsonl'): Promise<string[]> =>
  (await readFile(join(out.path, name), 'utf8')).trimEnd().split('\n');

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => String(from + index));

test('the second batch comes after the first, on pages that link to each other', async (t) => {
  const { out } = t.context;
  await call(out, numbered(0, 50));
  await call(out, numbered(50, 130));
  await call(out, numbered(130, 400));
  t.deepEqual(await figures(out), [
    numbered(0, imagesPerPage),
    numbered(120, 240),
    numbered(240, 360),
    numbered(360, 400),
  ]);
  t.is((await lines(out)).length, 400);
  for (const [name, links] of [
    ['index.html', ['index-2.html']],
    ['index-2.html', ['index.html', 'index-3.html']],
    ['index-4.html', ['index.html', 'index-3.html']],
  ] as const) {
    const html = await readFile(join(out.path, name), 'utf8');
    t.deepEqual(
      [...html.matchAll(/<a href="([^"]*)"/g)].map(([, href]) => href),
      [...links],
      name,
    );
  }
});

test('a new result takes the place of the earlier one, on the page and among the lines', async (t) => {
  const { out } = t.context;
  await call(out, numbered(0, 130), { text: 'first' });
  const before = await lines(out);
  await call(out, ['7', '125', 'new'], { text: 'second', again: true });
  const left = numbered(0, 130).filter((name) => name !== '7' && name !== '125');
  t.deepEqual((await figures(out)).flat(), [...left, '7', '125', 'new']);
  const after = await lines(out);
  t.deepEqual(
    after.slice(0, 128),
    before.filter((_, index) => index !== 7 && index !== 125),
  );
  t.deepEqual(
    after.slice(128).map((line) => JSON.parse(line) as unknown),
    [
      { image: '7', text: 'second' },
      { image: '125', text: 'second' },
      { image: 'new', text: 'second' },
    ],
  );
  // All of them again: as if they were the first.
  await call(out, [...numbered(0, 130), 'new'], { text: 'third', again: true });
  t.deepEqual((await figures(out)).flat(), [...numbered(0, 130), 'new']);
  t.is((await lines(out)).length, 131);
  t.deepEqual((await readdir(out.path)).sort(), ['index-2.html', 'index.html', 'rank.jsonl']);
});

test('pages that nothing is left for are removed; without merging all of the earlier ones', async (t) => {
  const { out } = t.context;
  await call(out, numbered(0, 125));
  await call(out, numbered(0, 125), { again: true, text: 'again' });
  t.deepEqual(
    (await figures(out)).map(({ length }) => length),
    [120, 5],
  );
  const fresh = new ReportPages(frame, out);
  await fresh.add(image('only'));
  await fresh.finish();
  t.deepEqual(await figures(out), [['only']]);
  t.false(existsSync(join(out.path, 'index-2.html')));
});

test('two commands share a page, and neither takes the place of the other', async (t) => {
  const { out } = t.context;
  await call(out, ['a', 'b']);
  await call(out, ['a'], { label: 'Teacher', title: 'Scored', again: true, lines: 'score.jsonl' });
  t.deepEqual(await figures(out), [['a', 'b', 'a']]);
  const html = await readFile(join(out.path, 'index.html'), 'utf8');
  t.is(parsePage(html)?.title, 'Ranked <patches> · Scored');
  t.is(parsePage(html)?.description, frame.description);
  t.is((await lines(out)).length, 2);
  t.is((await lines(out, 'score.jsonl')).length, 1);
});

test('a call without results changes nothing', async (t) => {
  const { out } = t.context;
  await call(out, ['a']);
  const before = await readFile(join(out.path, 'index.html'));
  await call(out, []);
  t.deepEqual(await readFile(join(out.path, 'index.html')), before);
});

test('a page is read as it was written; other texts are no pages', async (t) => {
  const { out } = t.context;
  const odd = '</figure>\n</section>\n</main> "it\'s" &amp; <script>';
  const html = reportPage({ ...frame, images: [image(odd), image('b')] });
  const parsed = parsePage(html);
  t.is(parsed?.images.length, 2);
  t.is(parsed?.title, frame.title);
  t.is(parsed?.description, frame.description);
  t.is(parsed?.images[0]?.id, sourceId(odd));
  t.is(parsePage('<html><h1>My pictures</h1></html>'), undefined);
  t.is(parsePage(html.slice(0, -html.length / 2)), undefined);
  await out.make();
  await writeFile(join(out.path, 'index.html'), '<html>mine</html>');
  const pages = new ReportPages(frame, out, { merge: true });
  await t.throwsAsync(pages.open(), {
    code: 'ERR_LTRP_FILE_EXISTS',
    message: /was not written by ltrp/,
  });
  t.is(await readFile(join(out.path, 'index.html'), 'utf8'), '<html>mine</html>');
});

test('lines: half of one is cut off, one without its end is kept, foreign text too', async (t) => {
  const { out } = t.context;
  await out.make();
  const path = join(out.path, 'rank.jsonl');
  const whole = '{"image":"a\u2028b"}';
  for (const [before, after] of [
    [`${whole}\n{"image":"b","scores":[1,`, `${whole}\nnew\n`],
    [`${whole}\n{"image":"b"}`, `${whole}\n{"image":"b"}\nnew\n`],
    ['notes of mine', 'notes of mine\nnew\n'],
    ['', 'new\n'],
    [`{"image":"${'x'.repeat(200_000)}`, 'new\n'],
  ] as const) {
    await writeFile(path, before);
    const file = out.lines('rank.jsonl');
    await file.append('new');
    await file.drop((line) => line === 'none');
    await file.close();
    t.is(await readFile(path, 'utf8'), after);
  }
});

async function refused(t: ExecutionContext, work: () => Promise<unknown>, why: RegExp) {
  await t.throwsAsync(work, { code: 'ERR_LTRP_FILE_WRITE', message: why });
}

test('what is no folder and no regular file is refused, and stays', async (t) => {
  const { folder, out } = t.context;
  const hold = (path: string) => () =>
    new OutputFolder(path).hold(() => Promise.resolve(), {
      onWait: () => undefined,
      signal: new AbortController().signal,
    });
  await writeFile(join(folder, 'file'), '');
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  await refused(t, hold(join(folder, 'file')), /file is a file; choose another --out/);
  await refused(t, hold(join(folder, 'fifo')), /fifo is no folder/);
  await refused(t, hold('/dev/null'), /\/dev\/null is no folder/);
  await refused(t, hold(join(folder, 'file', 'below')), /ENOTDIR/);
  if (existsSync('/proc/self')) await refused(t, hold('/proc/ltrp/x'), /ENOENT/);
  await out.make();
  for (const make of [
    (path: string) => Promise.resolve(execFileSync('mkfifo', [path])),
    (path: string) => mkdir(path),
    (path: string) => symlink('/dev/full', path),
  ]) {
    const path = join(out.path, 'rank.jsonl');
    await make(path);
    const file = out.lines('rank.jsonl');
    await refused(t, () => file.check(), /is not a regular file/);
    await refused(t, () => file.append('x'), /is not a regular file/);
    await refused(t, () => out.write('rank.jsonl', 'x'), /is not a regular file/);
    await rm(path, { recursive: true });
  }
  t.deepEqual(await readdir(out.path), []);
});

test('one call at a time has the folder; nothing is left of one without results', async (t) => {
  const { folder } = t.context;
  const path = join(folder, 'new', 'deep');
  const signal = new AbortController().signal;
  let inside = 0;
  let waited = 0;
  const work = async (): Promise<void> => {
    t.is(++inside, 1);
    await sleep(300);
    inside--;
  };
  const onWait = (): void => {
    waited++;
  };
  await Promise.all([1, 2].map(() => new OutputFolder(path).hold(work, { onWait, signal })));
  t.is(waited, 1);
  t.false(existsSync(join(folder, 'new')));
  const kept = new OutputFolder(path);
  await kept.hold(() => kept.write('a', 'b'), { onWait, signal });
  t.deepEqual(await readdir(path), ['a']);
});
