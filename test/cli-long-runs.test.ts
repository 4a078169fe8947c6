/** Runs of the command on many pictures: what they hold in memory, and what is on disk whatever ends them. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { link, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import sharp from 'sharp';
import type { RankResult } from '../lib/cli/rank.js';
import { until } from './support/runs.js';
import { jsonLines, ltrp, run, startLtrp, type Outcome } from './support/command.js';
import { smallMae, writeRanker } from './support/models.js';
import { repository, temporaryFolder, sharedFolder } from './support/paths.js';

const test = anyTest as TestFn<{ folder: string; photos: string; token: string }>;
const count = 400;

const folder = sharedFolder();

test.before(async (t) => {
  const photos = join(folder, 'photos');
  await mkdir(photos);
  // Noise: about 55 KB on the page, so that all of them do not fit into the heaps below.
  const first = join(photos, '0.jpg');
  await sharp(randomBytes(256 * 256 * 3), { raw: { width: 256, height: 256, channels: 3 } })
    .jpeg({ quality: 80 })
    .toFile(first);
  for (let i = 1; i < count; i++) await link(first, join(photos, `${String(i)}.jpg`));
  const token = await writeRanker(join(folder, 'token.safetensors'), 'token');
  t.context = { folder, photos, token };
});

/** The complete lines of a file, parsed; fails at one that is not JSON. */
function lines(file: string): { results: RankResult[]; rest: string } {
  const parts = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [''];
  const rest = parts.pop() ?? '';
  return { results: parts.map((line) => JSON.parse(line) as RankResult), rest };
}

/** Number of pictures on a page, which must be whole. */
async function figures(t: ExecutionContext, file: string): Promise<number> {
  const html = await readFile(file, 'utf8');
  t.true(html.endsWith('</html>\n'));
  const json = /<script type="application\/json" id="report">(.*?)<\/script>/s.exec(html)?.[1];
  const { images } = JSON.parse(json ?? '') as { images: unknown[] };
  t.is(html.split('<figure>').length - 1, images.length);
  return images.length;
}

const links = async (file: string): Promise<(string | undefined)[]> =>
  [...(await readFile(file, 'utf8')).matchAll(/<a href="([^"]*)"[^>]*>/g)].map(([, name]) => name);

test.serial('hundreds of pictures need no more memory than a few', async (t) => {
  t.timeout(300_000);
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const { outcome } = startLtrp(['rank', photos, '--model', token, '--out', out], {
    nodeArguments: ['--max-old-space-size=28'],
  });
  const { code, stdout, stderr } = await outcome;
  t.is(code, 0, stderr);
  t.is(stderr, '');
  const { results, rest } = lines(join(out, 'rank.jsonl'));
  t.is(rest, '');
  t.deepEqual(
    results.map(({ image }) => image),
    Array.from({ length: count }, (_, i) => join(photos, `${String(i)}.jpg`)),
  );
  t.is(stdout.trim().split('\n').length, 1 + count + 2, 'the header, the rows, where the page is');
  const pages = ['index.html', 'index-2.html', 'index-3.html', 'index-4.html'];
  const names = (await readdir(out)).filter((name) => !name.endsWith('.png')).sort();
  t.deepEqual(names, [...pages, 'rank.jsonl'].sort());
  const files = pages.map((name) => join(out, name));
  const shown = await Promise.all(files.map((file) => figures(t, file)));
  t.deepEqual(shown, [120, 120, 120, 40]);
  t.deepEqual(await Promise.all(files.map(links)), [
    ['index-2.html'],
    ['index.html', 'index-3.html'],
    ['index.html', 'index-2.html', 'index-4.html'],
    ['index.html', 'index-3.html'],
  ]);
});

test.serial('with --json the command ranks no faster than its output is read', async (t) => {
  t.timeout(300_000);
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const args = ['rank', photos, '--model', token, '--json', '--out', out];
  const { child, outcome } = startLtrp(args);
  child.stdout?.pause();
  const file = join(out, 'rank.jsonl');
  const done = (): number => lines(file).results.length;
  await until(() => done() > 0);
  let before = -1;
  for (let now = done(); now !== before; now = done()) {
    before = now;
    await sleep(3000);
  }
  // A pipe and two buffers hold some 100 KB of the 600 KB that these lines are.
  t.true(before < count / 2, `${String(before)} lines while nobody reads`);
  child.stdout?.resume();
  const outcomeOfAll = await outcome;
  t.is(outcomeOfAll.code, 0, outcomeOfAll.stderr);
  t.deepEqual(jsonLines<RankResult>(outcomeOfAll), lines(file).results);
  t.is(lines(file).results.length, count);
});

test.serial('Ctrl-C ends a command whose output nobody reads', async (t) => {
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const args = ['rank', photos, '--model', token, '--json', '--out', out];
  const { child, outcome } = startLtrp(args);
  child.stdout?.pause();
  const file = join(out, 'rank.jsonl');
  await until(() => lines(file).results.length > 20);
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.kill('SIGINT');
  await until(() => stderr.includes('Interrupted; '));
  // As jq does, which Ctrl-C ends too.
  child.stdout?.destroy();
  t.is((await outcome).code, 130);
  const done = lines(file).results.length;
  t.is(stderr, `ltrp: Interrupted; ${String(done)} of 400 images were done.\n`);
  t.is(await figures(t, join(out, 'index.html')), done);
});

test.serial('a killed run leaves whole lines and whole pages', async (t) => {
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const { child, outcome } = startLtrp(['rank', photos, '--model', token, '--out', out]);
  const [file, page] = [join(out, 'rank.jsonl'), join(out, 'index.html')];
  await until(() => existsSync(page));
  child.kill('SIGKILL');
  t.is((await outcome).code, null);
  const { results, rest } = lines(file);
  t.is(rest, '');
  t.true(results.length > 120 && results.length < count, String(results.length));
  t.is(await figures(t, page), 120);
});

/**
 * The status that a shell sees. Node gives its signals back to the system while it ends: a second one that comes then, with all
 * the work done, ends the process itself.
 */
const exitStatus = ({ code, signal }: Outcome): number | null =>
  signal === null ? code : 128 + constants.signals[signal];

// `timeout` and npm send their signal to the process and again to its group.
for (const [signal, repeated, code, word] of [
  ['SIGINT', false, 130, 'Interrupted'],
  ['SIGTERM', false, 143, 'Terminated'],
  ['SIGTERM', true, 143, 'Terminated'],
] as const) {
  test.serial(`${signal}${repeated ? ' twice' : ''}: what is done is there and said`, async (t) => {
    const { photos, token } = t.context;
    const out = await temporaryFolder(t);
    const { child, outcome } = startLtrp(['rank', photos, '--model', token, '--out', out]);
    const file = join(out, 'rank.jsonl');
    await until(() => lines(file).results.length >= 20);
    child.kill(signal);
    if (repeated) {
      await sleep(20);
      child.kill(signal);
    }
    const stopped = await outcome;
    t.is(exitStatus(stopped), code, stopped.stderr);
    const { results, rest } = lines(file);
    t.is(rest, '');
    t.true(results.length >= 20 && results.length < count);
    const said = `ltrp: ${word}; ${String(results.length)} of 400 images were done.\n`;
    t.is(stopped.stderr, said);
    t.is(stopped.stdout.trim().split('\n').length, 1 + results.length + 2);
    t.is(await figures(t, join(out, 'index.html')), results.length);
    t.false((await readdir(out)).some((name) => name.endsWith('.partial')));
  });
}

test.serial('lines of earlier calls stay, whatever becomes of the next', async (t) => {
  const { photos, token, folder } = t.context;
  const out = await temporaryFolder(t);
  const rank = (image: string, model = token) =>
    ltrp(['rank', image, '--model', model, '--json', '--out', out]);
  t.is((await rank(join(photos, '1.jpg'))).code, 0);
  t.is((await rank(join(photos, 'absent.jpg'))).code, 1);
  t.is((await rank(join(photos, '2.jpg'), join(folder, 'absent.pth'))).code, 1);
  const named = (): string[] =>
    lines(join(out, 'rank.jsonl')).results.map(({ image }) => image.slice(photos.length + 1));
  t.deepEqual(named(), ['1.jpg']);
  t.is((await rank(join(photos, '2.jpg'))).code, 0);
  t.deepEqual(named(), ['1.jpg', '2.jpg']);
});

// A limit on the size of files stands in for a full disk: the write ends in the middle of a line.
test.serial('a full disk leaves whole lines, and says so', async (t) => {
  const out = await temporaryFolder(t);
  const program = `
    import { OutputFolder } from ${JSON.stringify(join(repository, 'lib/cli/output-folder.ts'))};
    const file = new OutputFolder(${JSON.stringify(out)}).lines('a.jsonl');
    try {
      for (let i = 0; i < 20; i++) await file.append(JSON.stringify({ image: 'x'.repeat(1000) }));
    } catch (error) {
      process.stdout.write(error.code + ' ' + error.message);
    }
    await file.close();`;
  const script = join(out, 'program.mts');
  await writeFile(script, program);
  const node = [process.execPath, '--import=tsx', script];
  const limited = ['-c', 'ulimit -f 8; exec "$@"', 'bash', ...node];
  const { stdout: said } = await run('bash', limited, { cwd: repository });
  const file = join(out, 'a.jsonl');
  t.regex(said, /^ERR_LTRP_FILE_WRITE .*a\.jsonl cannot be written: EFBIG/);
  const { results, rest } = lines(file);
  t.is(rest, '');
  t.is(results.length, Math.floor(8192 / 1013));
});

// Before the command listens, the system's own end of a process; afterwards its own. Never an error, least of all a stack.
test.serial('a signal ends every command in order, whenever it comes', async (t) => {
  t.timeout(300_000);
  const { photos, token, folder } = t.context;
  const out = await temporaryFolder(t);
  const training = ['--data', photos, '--steps', '100000', '--batch-size', '4', '--val', photos];
  const commands = [
    ['rank', photos, '--model', token, '--out', join(out, 'rank')],
    ['score', photos, '--model', smallMae, '--out', join(out, 'score')],
    ['reconstruct', photos, '--model', smallMae, '--out', join(out, 'reconstruct')],
    ['pretrain', ...training, '--out', join(out, 'pretrain')],
    ['train', ...training, '--teacher', smallMae, '--out', join(out, 'train')],
    ['convert', token, join(folder, 'converted.onnx'), '--kind', 'ranker', '--force'],
    ['doctor'],
  ];
  let caught = 0;
  for (const args of commands) {
    for (const [index, delay] of [150, 350, 500, 700, 1200].entries()) {
      const [signal, code] =
        index % 2 === 0 ? (['SIGTERM', 143] as const) : (['SIGINT', 130] as const);
      if (args.includes('--steps'))
        args[args.length - 1] = join(out, `${args[0]!}-${String(delay)}`);
      const { child, outcome } = startLtrp(args);
      await sleep(delay);
      child.kill(signal);
      const ended = await outcome;
      const what = `${args[0]!}, ${signal} after ${String(delay)} ms: ${ended.stderr}`;
      const finished = ended.code === 0 && (args[0] === 'convert' || args[0] === 'doctor');
      t.true(finished || ended.code === code || child.signalCode === signal, what);
      t.notRegex(ended.stderr, /ERR_LTRP|\n {4}at /, what);
      if (ended.code === code) {
        caught++;
        t.regex(ended.stderr, /Interrupted|Terminated|stopping/, what);
      }
    }
  }
  t.true(caught > 5, `${String(caught)} signals were caught`);
});
