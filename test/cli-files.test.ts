/** Inputs and outputs of the command on disk: batches, its own pictures, odd names, streams that cannot be written. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { copyFile, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RankResult } from '../lib/cli/rank.js';
import { built, jsonLines, ltrp, run } from './support/command.js';
import { test } from './support/folder.js';
import { sharedFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

const quick = ['--grid', '2x2'];
const source = join(sharedFolder(), 'a.jpg');

test.before(() => picture(48, 32).jpeg().toFile(source));

async function pictures(folder: string, ...names: string[]): Promise<void> {
  for (const name of names) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await copyFile(source, join(folder, name));
  }
}

const images = async (file: string): Promise<string[]> =>
  (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as RankResult).image);

test('batches into one folder, some of them at a time, keep each other', async (t) => {
  const { folder } = t.context;
  const names = ['x/1.jpg', 'x/2.jpg', 'y/1.jpg', 'y/2.jpg', 'z (1)/1.jpg'];
  await pictures(folder, ...names);
  const batch = (...args: string[]) =>
    ltrp(['rank', ...args, ...quick, '--out', 'out'], { cwd: folder });
  const outcomes = await Promise.all([
    batch('x'),
    batch('y/1.jpg', 'y/2.jpg'),
    batch('z (1)/*.jpg'),
  ]);
  t.deepEqual(
    outcomes.map(({ code }) => code),
    [0, 0, 0],
    outcomes.map(({ stderr }) => stderr).join(),
  );
  const out = join(folder, 'out');
  t.deepEqual((await images(join(out, 'rank.jsonl'))).sort(), names);
  const files = await readdir(out);
  t.is(files.filter((name) => name.endsWith('-heat.png')).length, 5);
  t.deepEqual(files.filter((name) => !name.endsWith('.png')).sort(), ['index.html', 'rank.jsonl']);
  t.is((await readFile(join(out, 'index.html'), 'utf8')).split('<figure>').length, 6);
  // One of them again: a result of its own, not one more.
  t.is((await batch('y/1.jpg', '--keep', '25%')).code, 0);
  const lines = (await readFile(join(out, 'rank.jsonl'), 'utf8')).trimEnd().split('\n');
  t.is(lines.length, 5);
  t.like(JSON.parse(lines[4] as string), { image: 'y/1.jpg', keepRatio: 0.25 });
  t.is((await readdir(out)).length, files.length);
});

test('the pictures of a command are no input of the next, even beside the inputs', async (t) => {
  const { folder } = t.context;
  await pictures(folder, 'cat.jpg', 'my-heat.png');
  for (const args of [
    ['rank', '.', '--out', '.'],
    ['reconstruct', '.', '--out', 'more'],
    ['rank', '**/*.{jpg,png}', '--out', '.'],
    ['rank', '.'],
  ]) {
    const { code, stderr, stdout } = await ltrp([...args, ...quick, '--json'], { cwd: folder });
    t.is(code, 0, stderr);
    const done = stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as RankResult).image);
    t.deepEqual(done, ['cat.jpg', 'my-heat.png'], args.join(' '));
  }
  t.deepEqual((await images(join(folder, 'rank.jsonl'))).sort(), ['cat.jpg', 'my-heat.png']);
  const named = await ltrp(['rank', 'cat-heat.png', ...quick, '--json'], { cwd: folder });
  t.is(jsonLines(named).length, 1, 'as the message says');
});

test('odd names are pictures like others, and a list with a bad line has one bad result', async (t) => {
  const { folder } = t.context;
  const names = [
    'new\nline.jpg',
    '50%.jpg',
    'a#b?.jpg',
    'it\'s "so".jpg',
    'cafe\u0301.jpg',
    `${'x'.repeat(251)}.jpg`,
  ];
  await pictures(folder, ...names.map((name) => join('in', name)), '-k.jpg');
  await writeFile(join(folder, 'list.txt'), 'in/50%.jpg\nin/absent.jpg\n-k.jpg\n');
  const outcome = await ltrp(['rank', 'in', 'list.txt', '--out', 'out', ...quick], { cwd: folder });
  t.is(outcome.code, 1);
  t.is(
    outcome.stderr,
    'ltrp: list.txt, line 2: There is no image in/absent.jpg. [ERR_LTRP_IMAGE_NOT_FOUND]\n',
  );
  t.is(outcome.stdout.trimEnd().split('\n').length, 1 + names.length + 1 + 2, 'a row for each');
  t.deepEqual(
    (await images(join(folder, 'out', 'rank.jsonl'))).sort(),
    ['-k.jpg', ...names.map((name) => join('in', name))].sort(),
  );
  t.is((await readdir(join(folder, 'out'))).length, 2 * (names.length + 1) + 2);
  const dash = await ltrp(['rank', '-k.jpg', ...quick, '--json'], { cwd: folder });
  t.is(dash.code, 2);
  const advice = /write (\S+) for it/.exec(dash.stderr)?.[1] ?? '';
  t.is((await ltrp(['rank', advice, ...quick, '--json'], { cwd: folder })).code, 0, advice);
});

test('pretrain takes what rank takes, and says the same', async (t) => {
  const { folder } = t.context;
  const inside = join(folder, 'Pictures (old) [1]');
  await pictures(inside, 'IMG_1.JPG', 'b.jfif');
  await writeFile(join(inside, 'c.bmp'), 'BM');
  await writeFile(join(folder, 'list.txt'), 'Pictures (old) [1]/b.jfif\nabsent.jpg\n');
  const small = '--steps 1 --batch-size 1 --dim 32 --depth 1 --heads 1 --image-size 32'.split(' ');
  const said = 'Passed over, of kinds that are not read: 1 .bmp.';
  for (const [args, pictures] of [
    [['--data', '.', '--out', '../all'], 2],
    [['--data', '*.jpg', '--out', '../glob'], 1],
    [['--data', '../list.txt', '--max-unreadable', '50%', '--out', '../list'], 2],
  ] as const) {
    const outcome = await ltrp(['pretrain', ...args, ...small], { cwd: inside });
    t.is(outcome.code, 0, outcome.stderr);
    t.regex(outcome.stderr, new RegExp(`^${String(pictures)} images, 1 steps`, 'm'));
    t.is(outcome.stderr.includes(said), args[1] === '.');
  }
  const rank = await ltrp(['rank', '.', ...quick, '--json'], { cwd: inside });
  t.is(rank.stderr, `ltrp: ${said}\n`);
  t.is(jsonLines(rank).length, 2);
});

test('what cannot be written to standard output is said, and the rest is there', async (t) => {
  const { folder } = t.context;
  await pictures(folder, ...Array.from({ length: 12 }, (_, index) => `in/${String(index)}.jpg`));
  const args = [built, 'rank', 'in', ...quick, '--json', '--out', 'out'];
  if (existsSync('/dev/full')) {
    for (const more of [args, [built, '--help'], [built, 'rank', '--help']]) {
      const full = openSync('/dev/full', 'w');
      const { code, stderr } = await run(process.execPath, more, {
        cwd: folder,
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      t.is(code, 1);
      t.regex(stderr, /^ltrp: Standard output cannot be written: ENOSPC[^\n]*\n$/);
    }
    t.is((await images(join(folder, 'out', 'rank.jsonl'))).length, 1);
    t.true((await readFile(join(folder, 'out', 'index.html'), 'utf8')).includes('<figure>'));
  }
  // A reader that leaves after the first line, and nobody on standard error either.
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr.destroy();
  await once(child.stdout, 'data');
  child.stdout.destroy();
  const [code] = (await once(child, 'close')) as [number];
  t.is(code, 0);
  const done = await images(join(folder, 'out', 'rank.jsonl'));
  const html = await readFile(join(folder, 'out', 'index.html'), 'utf8');
  t.is(html.split('<figure>').length - 1, done.length);
  t.false((await readdir(join(folder, 'out'))).some((name) => name.endsWith('.partial')));
});

test('values that cannot be end with 2 before any work, and the hint is right', async (t) => {
  const { folder } = t.context;
  await pictures(folder, 'a.jpg');
  for (const [args, why] of [
    [['rank', 'a.jpg', '--grid', '0x4'], /--grid.*ROWSxCOLUMNS.*at least 1/],
    [['rank', 'a.jpg', '--grid', '999x999'], /--grid.*65536/],
    [['rank', 'a.jpg', '--keep', '98'], /--keep.*For 98 percent write 98%/],
    [['rank', 'a.jpg', '--keep', '-0.5'], /--keep.*\(0, 1\]/],
    [['rank', 'a.jpg', '--score-share', '70'], /--score-share.*For 70 percent write 70%/],
    [['rank', 'a.jpg', '--score-share', 'NaN'], /--score-share/],
    [['rank', 'a.jpg', '--keep', ''], /--keep/],
    [['rank', 'a.jpg', '--out', ''], /--out.*empty/],
    [['rank', 'a.jpg', '--model='], /--model.*empty/],
    [['rank', ''], /images.*empty/],
    [['rank', 'a.jpg', '--seed', '1', '--seed', '2'], /'--seed <integer>' is given more than once/],
    [['score', 'a.jpg', '--rounds', '1e9'], /--rounds.*in \[1, 1000000\]/],
    [['score', 'a.jpg', '--mask-ratio', '90'], /--mask-ratio.*For 90 percent write 90%/],
    [['pretrain', '--out', 'r', '--data', 'a.jpg@50'], /For 50 percent write 50%/],
    [['pretrain', '--out', 'r', '--data', 'a.jpg', '--max-unreadable', '5'], /write 5%/],
  ] as const) {
    const { code, stderr, stdout } = await ltrp(args, { cwd: folder });
    t.is(code, 2, args.join(' ') + stderr);
    t.regex(stderr, why);
    t.is(stdout, '');
  }
  const hints = ['--keep', '98%', '--score-share', '70%'];
  const { code, stderr, stdout } = await ltrp(['rank', 'a.jpg', ...hints, '--json'], {
    cwd: folder,
  });
  t.is(code, 0, stderr);
  t.is((JSON.parse(stdout) as RankResult).keepRatio, 0.98);
  t.deepEqual(await readdir(folder), ['a.jpg']);
});

test('a folder that cannot be written to is refused before the work', async (t) => {
  const { folder } = t.context;
  await pictures(folder, 'a.jpg');
  await writeFile(join(folder, 'file'), 'mine');
  await mkdir(join(folder, 'site'));
  await writeFile(join(folder, 'site', 'index.html'), 'mine');
  await mkdir(join(folder, 'pipe'));
  execFileSync('mkfifo', [join(folder, 'pipe', 'rank.jsonl')]);
  for (const [out, why] of [
    ['file', /file is a file; choose another --out\. \[ERR_LTRP_FILE_WRITE\]\n$/],
    ['site', /index\.html exists and was not written by ltrp; choose another --out/],
    ['pipe', /rank\.jsonl exists and is not a regular file; move it away/],
  ] as const) {
    const { code, stderr } = await ltrp(['rank', 'a.jpg', '--model', 'absent.pth', '--out', out], {
      cwd: folder,
    });
    t.is(code, 1);
    t.regex(stderr, why);
  }
  t.is(await readFile(join(folder, 'site', 'index.html'), 'utf8'), 'mine');
});
