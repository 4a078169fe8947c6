/** The command line as people and programs use it. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type TestFn } from 'ava';
import sharp from 'sharp';
import { expandImages } from '../lib/cli/image-arguments.js';
import type { RankResult } from '../lib/cli/rank.js';
import type { ReconstructResult } from '../lib/cli/reconstruct.js';
import type { ScoreResult } from '../lib/cli/score.js';
import { rankFiles, type LtrpError } from '../lib/index.js';
import { chooseGrid, patchBoxes } from '../lib/patch-grid.js';
import { jsonLines, ltrp, startLtrp } from './support/command.js';
import { smallMae, writeRanker } from './support/models.js';
import { temporaryFolder, sharedFolder } from './support/paths.js';
import { picture, resolveSource } from './support/pictures.js';
import { until } from './support/runs.js';

const test = anyTest as TestFn<{ folder: string; token: string; cls: string; photos: string }>;

const folder = sharedFolder();

test.before(async (t) => {
  const photos = join(folder, 'photos');
  await mkdir(join(photos, 'more'), { recursive: true });
  await picture(300, 200).jpeg().toFile(join(photos, 'wide.jpg'));
  await picture(120, 400, 3, 2).png().toFile(join(photos, 'tall.png'));
  await picture(96, 96, 3, 3)
    .webp()
    .toFile(join(photos, 'more', 'wide.webp'));
  // Stored 260 x 180, shown 180 x 260.
  await picture(260, 180, 3, 4)
    .withMetadata({ orientation: 6 })
    .jpeg()
    .toFile(join(photos, 'turned.jpg'));
  await writeFile(join(photos, 'notes.txt'), 'not an image');
  t.context = {
    folder,
    photos,
    token: await writeRanker(join(folder, 'token.safetensors'), 'token'),
    cls: await writeRanker(join(folder, 'cls.safetensors'), 'cls'),
  };
});

function checkTiling(
  t: { true: (value: boolean, message?: string) => void },
  boxes: readonly (readonly number[])[],
  width: number,
  height: number,
): void {
  const covered = new Uint8Array(width * height);
  for (const [left, top, w, h] of boxes as [number, number, number, number][]) {
    for (let y = top; y < top + h; y++) {
      for (let x = left; x < left + w; x++) covered[y * width + x]! += 1;
    }
  }
  t.true(
    covered.every((count) => count === 1),
    'each pixel is in exactly one patch',
  );
}

test('grids follow the aspect with about the number of patches, and boxes tile the picture', (t) => {
  for (const [width, height] of [
    [640, 480],
    [480, 640],
    [1000, 1000],
    [1920, 1080],
    [3000, 300],
    [100, 1000],
    [4000, 40],
  ] as const) {
    const { rows, columns } = chooseGrid(width, height, 196);
    const stretch = columns / rows / (width / height);
    t.true(
      stretch > 0.8 && stretch < 1.25,
      `${String(width)} x ${String(height)}: ${String(stretch)}`,
    );
    t.true(rows * columns >= 98 && rows * columns <= 392);
    checkTiling(t, patchBoxes({ rows, columns }, width, height), width, height);
  }
  t.deepEqual(chooseGrid(500, 500, 196), { rows: 14, columns: 14 });
});

test('rank --json covers the whole picture in the pixels of the original', async (t) => {
  const { photos, token } = t.context;
  const outcome = await ltrp(['rank', photos, '--model', token, '--keep', '25%', '--json']);
  t.is(outcome.code, 0, outcome.stderr);
  t.is(outcome.stderr, '');
  const results = jsonLines<RankResult>(outcome);
  t.deepEqual(
    results.map(({ image }) => image.slice(photos.length + 1)),
    [join('more', 'wide.webp'), 'tall.png', 'turned.jpg', 'wide.jpg'],
    'folders are searched recursively, in the order of names',
  );
  const sizes = results.map(({ width, height }) => [width, height]);
  t.deepEqual(sizes, [
    [96, 96],
    [120, 400],
    [180, 260],
    [300, 200],
  ]);
  for (const { width, height, grid, scores, kept, boxes, keepRatio } of results) {
    const patches = grid.rows * grid.columns;
    t.is(scores.length, patches);
    t.is(boxes.length, patches);
    t.true(scores.every((score) => typeof score === 'number'));
    t.is(keepRatio, 0.25);
    t.is(kept.length, Math.round(patches / 4));
    t.deepEqual(
      kept,
      [...new Set(kept)].sort((a, b) => a - b),
    );
    checkTiling(t, boxes, width, height);
  }
});

test('rank writes pictures, JSON and a page', async (t) => {
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const images = [join(photos, 'wide.jpg'), join(photos, 'more', 'wide.webp')];
  const outcome = await ltrp(['rank', ...images, '--model', token, '--out', join(out, 'a', 'b')]);
  t.is(outcome.code, 0, outcome.stderr);
  t.regex(outcome.stdout, /wide\.jpg/);
  t.regex(outcome.stdout, /Open .*index\.html/);
  const names = (await readdir(join(out, 'a', 'b'))).sort();
  t.deepEqual(names, [
    'index.html',
    'rank.jsonl',
    'wide-2-heat.png',
    'wide-2-kept.png',
    'wide-heat.png',
    'wide-kept.png',
  ]);
  const lines = (await readFile(join(out, 'a', 'b', 'rank.jsonl'), 'utf8')).trim().split('\n');
  const [first] = lines.map((line) => JSON.parse(line) as RankResult);
  t.is(lines.length, 2);
  const [original, kept] = await Promise.all(
    [images[0]!, join(out, 'a', 'b', 'wide-kept.png')].map((file) =>
      sharp(file).removeAlpha().raw().toBuffer(),
    ),
  );
  const keep = new Set(first!.kept);
  for (const [patch, [left, top, width, height]] of first!.boxes.entries()) {
    const at = ((top + (height >> 1)) * 300 + left + (width >> 1)) * 3;
    const same = kept!.subarray(at, at + 3).equals(original!.subarray(at, at + 3));
    t.is(same, keep.has(patch), `patch ${String(patch)}`);
  }
});

test('CLS heads rank any picture on their own grid', async (t) => {
  const { photos, cls } = t.context;
  const outcome = await ltrp(['rank', join(photos, 'tall.png'), '--model', cls, '--json']);
  t.is(outcome.code, 0, outcome.stderr);
  const [result] = jsonLines<RankResult>(outcome);
  t.deepEqual(result?.grid, { rows: 7, columns: 7 });
  checkTiling(t, result!.boxes, 120, 400);
});

test('a grid that a CLS head does not have is refused: the library names its options, the command its own', async (t) => {
  const { photos, cls } = t.context;
  const image = join(photos, 'wide.jpg');
  for (const [wish, args] of [
    [{ grid: { rows: 7, columns: 7 } }, ['--grid', '7x7']],
    [{ patches: 49 }, ['--patches', '49']],
  ] as const) {
    const error = await t.throwsAsync<LtrpError>(async () => {
      for await (const result of rankFiles([image], { ranker: cls, ...wish })) t.fail(result.name);
    });
    const { code, stdout, stderr } = await ltrp(['rank', image, '--model', cls, '--json', ...args]);
    t.is(code, 2);
    t.is(stdout, '');
    const message = error.message.replace('patches and grid', '--patches and --grid');
    t.not(message, error.message);
    t.is(stderr, `ltrp: ${message} [${error.code}]\n`);
  }
});

test('ranking and training take the same files of a folder for pictures', async (t) => {
  const folder = await temporaryFolder(t);
  for (const name of [
    'a.jpg',
    'b.HEIC',
    'c.jxl',
    'd.jp2',
    'e.svg',
    'f.TIFF',
    'g.txt',
    'h.pdf',
    'i',
  ]) {
    await writeFile(join(folder, name), '');
  }
  const taken = ['a.jpg', 'b.HEIC', 'c.jxl', 'd.jp2', 'e.svg', 'f.TIFF'];
  t.deepEqual((await resolveSource(folder)).names, taken);
  const { files } = await expandImages([folder]);
  t.deepEqual(
    files.map(({ path }) => path.slice(folder.length + 1)),
    taken,
  );
});

test('grids can be asked for', async (t) => {
  const { photos, token } = t.context;
  const run = async (...args: string[]): Promise<RankResult> => {
    const usual = ['rank', join(photos, 'wide.jpg'), '--model', token, '--json'];
    const outcome = await ltrp([...usual, ...args]);
    t.is(outcome.code, 0, outcome.stderr);
    return jsonLines<RankResult>(outcome)[0]!;
  };
  t.deepEqual((await run('--grid', '4x9')).grid, { rows: 4, columns: 9 });
  t.deepEqual((await run('--patches', '24')).grid, { rows: 4, columns: 6 });
});

test('an unreadable image is named and the others go on', async (t) => {
  const { photos, token } = t.context;
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'text.jpg'), 'no image');
  const names = [join(folder, 'text.jpg'), join(folder, 'absent.jpg'), join(photos, 'wide.jpg')];
  const outcome = await ltrp(['rank', ...names, '--model', token, '--json']);
  t.is(outcome.code, 1);
  t.is(jsonLines<RankResult>(outcome).length, 1);
  const complaints = outcome.stderr.trim().split('\n');
  t.is(complaints.length, 2, outcome.stderr);
  t.regex(complaints[0]!, /text\.jpg.*ERR_LTRP_IMAGE_DECODE/);
  t.regex(complaints[1]!, /absent\.jpg.*ERR_LTRP_IMAGE_NOT_FOUND/);
});

test('globs are expanded, and one without images is an error', async (t) => {
  const { photos, token } = t.context;
  const found = await ltrp([
    'rank',
    join(photos, '**', '*.{jpg,webp}'),
    '--model',
    token,
    '--json',
  ]);
  t.is(found.code, 0, found.stderr);
  t.is(jsonLines(found).length, 3);
  const relative = await ltrp(['rank', '*.jpg', '--model', token, '--json'], { cwd: photos });
  t.is(jsonLines(relative).length, 2);
  const none = await ltrp(['rank', join(photos, '*.bmp'), '--model', token, '--json']);
  t.is(none.code, 2);
  t.regex(none.stderr, /No image matches/);
});

test('score gives a map with standard errors', async (t) => {
  const { photos } = t.context;
  const out = await temporaryFolder(t);
  const asked = ['--rounds', '3', '--mask-ratio', '0.75'];
  const args = ['score', join(photos, 'wide.jpg'), '--model', smallMae, ...asked];
  const outcome = await ltrp([...args, '--json', '--out', out, '--seed', '4']);
  t.is(outcome.code, 0, outcome.stderr);
  const [result] = jsonLines<ScoreResult>(outcome);
  t.like(result, {
    width: 300,
    height: 200,
    rounds: 3,
    maskRatio: 0.75,
    drop: 'decoder',
    metric: 'l1',
    seed: 4,
  });
  const patches = result!.grid.rows * result!.grid.columns;
  t.is(result!.scores.length, patches);
  t.true(result!.scores.every((score) => score !== null && score > 0));
  t.true(result!.standardErrors.every((value) => value !== null && value >= 0));
  t.deepEqual((await readdir(out)).sort(), ['index.html', 'score.jsonl', 'wide-score.png']);
  const again = await ltrp([...args, '--json', '--seed', '4']);
  t.deepEqual(jsonLines<ScoreResult>(again), [result]);
  const table = await ltrp([...args, '--out', out]);
  t.is(table.code, 0);
  t.regex(table.stdout, /mean standard error/);
});

test('reconstruct writes three panels', async (t) => {
  const { photos } = t.context;
  const out = await temporaryFolder(t);
  const outcome = await ltrp(['reconstruct', photos, '--model', smallMae, '--out', out, '--json']);
  t.is(outcome.code, 0, outcome.stderr);
  const results = jsonLines<ReconstructResult>(outcome);
  t.is(results.length, 4);
  for (const { picture: file, meanSquaredError, width, height, visible, grid } of results) {
    const { width: w, height: h } = await sharp(file).metadata();
    t.true(Math.abs((w - 24) / 3 / h / (width / height) - 1) < 0.02, 'the aspect of the original');
    t.true(meanSquaredError > 0);
    t.is(visible.length, Math.floor(grid.rows * grid.columns * 0.25));
  }
});

test('convert writes a file that ranks the same', async (t) => {
  const { photos, token } = t.context;
  const out = await temporaryFolder(t);
  const file = join(out, 'converted.safetensors');
  const outcome = await ltrp(['convert', token, file, '--kind', 'ranker', '--json']);
  t.is(outcome.code, 0, outcome.stderr);
  t.like(jsonLines<object>(outcome)[0], { naming: 'ltrp', kind: 'ranker', type: 'float32' });
  const scores = async (model: string): Promise<unknown> => {
    const ranked = await ltrp(['rank', join(photos, 'wide.jpg'), '--model', model, '--json']);
    return jsonLines<RankResult>(ranked)[0]!.scores;
  };
  t.deepEqual(await scores(file), await scores(token));
  const said = await ltrp(['convert', token, file, '--kind', 'ranker', '--force']);
  t.regex(
    said.stdout,
    /^\d+ tensors of .*token\.safetensors \(names of this project\) written to /,
  );
  const embedded = await ltrp(['convert', smallMae, join(out, 'm.onnx'), '--kind', 'mae']);
  t.regex(
    embedded.stdout,
    /hf-v5 \(names of files that transformers 5 saved\) written to .*m\.onnx as float32 \(/,
  );
  const wrong = await ltrp(['convert', token, join(out, 'x.safetensors'), '--kind', 'mae']);
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /ERR_LTRP_CHECKPOINT_CONTENT/);
  t.false(existsSync(join(out, 'x.safetensors')));
});

test('help teaches: every command has a description and examples', async (t) => {
  const main = await ltrp(['--help']);
  t.is(main.code, 0);
  const commands = [
    'rank',
    'score',
    'reconstruct',
    'pretrain',
    'train',
    'finetune',
    'evaluate',
    'convert',
    'prune',
    'plan',
    'squeeze',
    'doctor',
    'libtorch',
  ];
  for (const command of commands) {
    t.regex(main.stdout, new RegExp(`^  ${command}\\b`, 'm'));
    const { code, stdout } = await ltrp([command, '--help']);
    t.is(code, 0);
    t.regex(stdout, /Usage: ltrp/);
    if (command !== 'doctor' && command !== 'libtorch') t.regex(stdout, /Examples?:/, command);
  }
  const manifest = JSON.parse(
    await readFile(new URL('../package.json', import.meta.url), 'utf8'),
  ) as {
    version: string;
  };
  t.is((await ltrp(['--version'])).stdout.trim(), manifest.version);
});

test('a wrong command line exits with 2 and says why', async (t) => {
  const { photos, token } = t.context;
  const image = join(photos, 'wide.jpg');
  const out = await temporaryFolder(t);
  const training = ['--data', photos, '--out', join(out, 'run')];
  for (const [args, why] of [
    [[], /Usage/],
    [['rnak'], /unknown command.*rank/s],
    [['rank'], /missing required argument/],
    [['rank', image, '--keep', '1.5'], /--keep.*0, 1/s],
    [['rank', image, '--keep', 'x'], /--keep/],
    [['rank', image, '--grid', '4'], /ROWSxCOLUMNS/],
    [['rank', image, '--grid', '4x4', '--patches', '16'], /cannot be used with/],
    [['rank', image, '--sede', '1'], /--seed/],
    [['score', image, '--metric', 'ssmi'], /ssim/],
    [['score', image, '--rounds', '0'], /--rounds/],
    [['score', image, '--mask-ratio', '1'], /--mask-ratio/],
    [['convert', 'a', 'b'], /--kind/],
    // What only the library knows.
    [['convert', token, join(out, 'x.txt'), '--kind', 'ranker'], /must end in \.safetensors/],
    [['convert', token, join(out, 'x.onnx'), '--kind', 'ranker', '--type', 'float16'], /float32/],
    [['rank', image, '--model', token, '--device', 'foo'], /device must be one of/],
    [['train', ...training], /--teacher/],
    [['pretrain', '--out', join(out, 'run')], /--data/],
    [['finetune', ...training], /must lie in a folder named after its class/],
    [['finetune', ...training, '--selector', 'best'], /--selector/],
    [['libtorch', 'install', '--build-only'], /--build-only needs --cuda/],
  ] as const) {
    const { code, stdout, stderr } = await ltrp(args);
    t.is(code, 2, `${args.join(' ')}: ${stderr}`);
    t.regex(stderr, why);
    t.is(stdout, '');
  }
  const none = await ltrp(['rank', image, '--model', join(photos, 'none.pth')]);
  t.is(none.code, 1);
  t.regex(none.stderr, /none\.pth.*ERR_LTRP_FILE_NOT_FOUND/s);
});

// Left alone, the job would take an hour: it comes to an end within the test's time only if it was interrupted.
test('Ctrl-C ends a long job with 130', async (t) => {
  const { photos } = t.context;
  const out = await temporaryFolder(t);
  const many = ['score', photos, '--model', smallMae, '--rounds', '100000', '--out', out];
  const { child, outcome } = startLtrp(many);
  await until(() => existsSync(join(out, '.ltrp-lock'))); // it takes the folder when it begins
  await sleep(1000);
  child.kill('SIGINT');
  const { code, stdout, stderr } = await outcome;
  t.is(code, 130, stderr);
  t.is(stdout, '');
  t.regex(stderr, /Interrupted/);
});
