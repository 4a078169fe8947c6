/** sharp is loaded by the first call that decodes, and its absence takes nothing else away. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import test from 'ava';
import { inTurn } from '../lib/native/in-turn.js';
import { run, type Outcome } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';
import { packageWithoutSharpsBinary } from './support/without-sharp.js';

const env = { ...process.env, LTRP_BINARIES: join(repository, 'build', 'Release') };

const node = (cwd: string, ...args: string[]): Promise<Outcome> =>
  run(process.execPath, args, { cwd, env });

test("without sharp's binary the package loads, and what decodes says what to do", async (t) => {
  const folder = await temporaryFolder(t);
  const root = await packageWithoutSharpsBinary(folder);
  await writeFile(join(folder, 'photo.png'), await picture(64, 64).png().toBuffer());
  const program = `
    import { PatchRanker, rankFiles, readImages } from 'ltrp';
    const said = (call) => call.then(() => 'worked', ({ name, code, message }) => [name, code, message]);
    const ranker = await PatchRanker.load('tiny');
    const data = new Uint8Array(224 * 224 * 3);
    console.log(JSON.stringify([
      await said(readImages(['photo.png'], { size: 64 })),
      await said(rankFiles(['photo.png'], { ranker }).next()),
      await said(rankFiles(['photo.png']).next()),
      await said(ranker.rank({ data, shape: [1, 224, 224, 3] })),
    ]));`;
  const { stdout, stderr } = await node(folder, '--input-type=module', '-e', program);
  t.is(stderr, '');
  const outcomes = JSON.parse(stdout) as [string, string, string][];
  t.is(outcomes.length, 4);
  t.deepEqual(outcomes.pop(), 'worked' as never);
  for (const [name, code, message] of outcomes) {
    t.is(name, 'LtrpError');
    t.is(code, 'ERR_LTRP_SHARP_LOAD');
    t.regex(message, /^sharp, which decodes pictures, .*npm install --include=optional sharp/);
    t.false(message.includes('\n'));
  }
  const main = join(root, 'dist', 'cli', 'main.js');
  for (const args of [['doctor'], ['libtorch', 'where'], ['--help'], ['rank', '--help']]) {
    const { code, stderr: complaint } = await node(folder, main, ...args);
    t.is(code, 0, `${args.join(' ')}: ${complaint}`);
  }
  for (const args of [
    ['rank', 'photo.png', '--json'],
    ['score', 'photo.png', '--json'],
    ['reconstruct', 'photo.png', '--json'],
    [
      ...'pretrain --data . --out run --steps 1 --batch-size 1 --depth 1 --dim 48 --heads 1'.split(
        ' ',
      ),
    ],
  ]) {
    const { code, stderr: complaint } = await node(folder, main, ...args);
    t.is(code, 1, args.join(' '));
    t.regex(complaint, /\[ERR_LTRP_SHARP_LOAD\]/, args.join(' '));
    t.notRegex(complaint, /\n {4}at /);
  }
});

test("sharp's types are not part of the public declarations", async (t) => {
  const seen = new Set<string>();
  const visit = async (file: string): Promise<void> => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = await readFile(file, 'utf8');
    t.notRegex(text, /['"]sharp['"]/, file);
    for (const [, next] of text.matchAll(/(?:from|import)\s*\(?['"](\.[^'"]+)\.js['"]/g)) {
      await visit(resolve(dirname(file), `${String(next)}.d.ts`));
    }
  };
  await visit(join(repository, 'dist', 'index.d.ts'));
  t.true(seen.size > 10);
  t.true((await readdir(join(repository, 'dist'))).includes('sharp.d.ts'));
});

test('importing the package loads neither sharp nor LibTorch', async (t) => {
  if (process.platform !== 'linux') {
    t.log('skipped: what is mapped is read from /proc');
    t.pass();
    return;
  }
  const program = `
    import 'ltrp';
    import { readFileSync } from 'node:fs';
    console.log(/libvips|sharp-linux|libtorch/.test(readFileSync('/proc/self/maps', 'utf8')));`;
  const { stdout } = await node(repository, '--input-type=module', '-e', program);
  t.is(stdout.trim(), 'false');
});

test('libraries are opened one after the other, also after one that failed', async (t) => {
  const events: string[] = [];
  const open = (name: string, fails: boolean) => async (): Promise<string> => {
    events.push(`${name} begins`);
    await new Promise((done) => setTimeout(done, 5));
    events.push(`${name} ends`);
    if (fails) throw new Error(name);
    return name;
  };
  const outcomes = await Promise.allSettled([
    inTurn(open('a', true)),
    inTurn(open('b', false)),
    inTurn(open('c', false)),
  ]);
  t.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  t.deepEqual(
    events,
    ['a', 'b', 'c'].flatMap((name) => [`${name} begins`, `${name} ends`]),
  );
});
