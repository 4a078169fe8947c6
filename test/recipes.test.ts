/** Every program of docs/recipes.md, run as it stands. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';
import { convertCheckpoint, readImages, selectors, type Selector } from '../lib/index.js';
import { writeClipFolder } from './support/clip-folder.js';
import type { Outcome } from './support/command.js';
import { blocks, readDocument, runBlock, workplace } from './support/documents.js';
import { repository } from './support/paths.js';
import { writeClassifier } from './support/small-classifier.js';

type Check = (t: ExecutionContext, outcome: Outcome, folder: string) => void | Promise<void>;

const json = (line: string): Record<string, unknown> => JSON.parse(line) as Record<string, unknown>;

/** What has to come out, by heading: one check for each block. */
const checks: Record<string, Check[]> = {
  'Rank a folder into JSON lines': [
    (t, { stdout, stderr }) => {
      const lines = stdout.trim().split('\n').map(json);
      t.deepEqual(
        lines.map(({ name }) => name),
        ['astronaut', 'cat', 'chelsea', 'coffee', 'tiger'].map((name) => `photos/${name}.jpg`),
      );
      t.like(lines[1], { width: 720, height: 466, grid: { rows: 11, columns: 17 } });
      t.is((lines[1]?.['kept'] as number[]).length, Math.round((11 * 17) / 2));
      t.is(stderr, '');
    },
  ],
  'Batches and lists with the command': [
    async (t, _outcome, folder) => {
      const text = await readFile(join(folder, 'ranked', 'rank.jsonl'), 'utf8');
      const lines = text.trim().split('\n').map(json);
      t.deepEqual(
        lines.map(({ image }) => image).sort(),
        ['astronaut', 'cat', 'chelsea', 'coffee', 'tiger'].map((name) => `photos/${name}.jpg`),
      );
      t.deepEqual(
        lines.map(({ keepRatio }) => keepRatio),
        [0.5, 0.5, 0.5, 0.25, 0.25],
      );
    },
  ],
  'Keep-lists for a ViT': [
    async (t, { stdout }, folder) => {
      t.is(stdout, '[ 98, 98 ]\n');
      const lists = json(await readFile(join(folder, 'keep.json'), 'utf8'));
      const kept = lists['photos/cat.jpg'] as number[];
      t.is(new Set(kept).size, 98);
      t.true(kept.every((id) => Number.isInteger(id) && id >= 0 && id < 196));
    },
  ],
  'Fewer patches for a ViT in ONNX': [
    (t, { stdout }) => {
      t.is(stdout, '98 [ 1, 98 ]\n98 [ 1, 98 ]\n');
    },
  ],
  'Embeddings with transformers.js': [
    (t, { stdout }) => {
      const lines = stdout
        .trim()
        .split('\n')
        .map((line) => line.split(' '));
      t.deepEqual(
        lines.map(([name, kept]) => `${name} ${kept}`),
        ['cat', 'tiger'].flatMap((name) =>
          [196, 147, 98, 49].map((kept) => `photos/${name}.jpg ${kept}`),
        ),
      );
      for (const picture of [lines.slice(0, 4), lines.slice(4)]) {
        const near = picture.map(([, , cosine]) => Number(cosine));
        // All patches are all of it; every patch that goes takes something.
        t.is(near[0], 1);
        t.deepEqual(
          near,
          [...near].sort((a, b) => b - a),
        );
        t.true((near[3] as number) < 0.999 && (near[3] as number) > 0.3, String(near[3]));
      }
    },
  ],
  'A quality for each block': [
    async (t, { stdout }, folder) => {
      const photo = await sharp(join(folder, 'photos', 'coffee.jpg')).metadata();
      const sides = [photo.height, photo.width].map((side) => Math.ceil(side / 64));
      t.is(stdout, `${sides.join(' ')} ${String((sides[0] ?? 0) * (sides[1] ?? 0))}\n`);
      const { width, height } = await sharp(join(folder, 'coffee-quality.png')).metadata();
      t.deepEqual([width, height], [photo.width, photo.height]);
    },
  ],
  'Crops of what ranks high': [
    async (t, _outcome, folder) => {
      for (const i of [0, 1]) {
        const { width, height } = await sharp(join(folder, `coffee-${i}.jpg`)).metadata();
        t.true(Math.abs(width - height) <= 1 && width > 20, `${width} x ${height}`);
      }
    },
  ],
  'Heat maps': [
    async (t, _outcome, folder) => {
      const { width, height, channels } = await sharp(join(folder, 'coffee-heat.png')).metadata();
      const photo = await sharp(join(folder, 'photos', 'coffee.jpg')).metadata();
      t.deepEqual([width, height], [photo.width, photo.height]);
      t.true(channels >= 1);
      const { channels: found } = await sharp(join(folder, 'coffee-heat.png')).stats();
      t.deepEqual([found[0]?.min, found[0]?.max], [0, 255]);
    },
  ],
  'A selector of your own': [
    (_t, _outcome, folder) => copyFile(join(folder, 'recipe.mjs'), join(folder, 'detail.mjs')),
    (t, { stdout }) => {
      t.is(stdout, 'true\n');
    },
    async (t, { stdout }, folder) => {
      t.regex(stdout, /^\| `detail` \| \? \|/m);
      const { default: detail } = (await import(
        pathToFileURL(join(folder, 'detail.mjs')).href
      )) as { default: Selector };
      const images = await readImages([join(folder, 'photos', 'cat.jpg')], { size: 64 });
      const { scores } = await detail.score(images, {});
      const gradient = await selectors.gradient.score(images);
      const far = Math.hypot(1.5, 0.5) / 7;
      t.true(Math.abs(scores[1]! / (gradient.scores[1]! * Math.exp(-far)) - 1) < 1e-6);
    },
  ],
  Cancel: [
    (t, { stdout }) => {
      t.is(stdout, 'TimeoutError\n[ 1, 14, 14 ]\n');
    },
  ],
  Progress: [
    (t, { stdout }) => {
      const lines = stdout.trim().split('\n');
      t.is(lines.pop(), '392 392');
      const shares = lines.map((line) => Number(/^(\d+) %$/.exec(line)?.[1]));
      t.deepEqual(
        shares,
        [...shares].sort((a, b) => a - b),
      );
      t.is(shares.at(-1), 100);
    },
  ],
  'Batches from a stream with back-pressure': [
    async (t, _outcome, folder) => {
      const text = await readFile(join(folder, 'ranked.jsonl'), 'utf8');
      const lines = text.trim().split('\n').map(json);
      t.deepEqual(
        lines.map(({ id }) => id),
        Array.from({ length: 40 }, (_, id) => id),
      );
      for (const [id, line] of lines.entries()) {
        const broken = id % 10 === 7;
        t.deepEqual(line, broken ? { id, error: 'ERR_LTRP_IMAGE_DECODE' } : { id, kept: 47 });
      }
    },
  ],
  'Train on your own pictures': [
    (t, { stdout }) => {
      const last = json(stdout.trim().split('\n').at(-1) ?? '');
      t.like(last, { image: 'photos/cat.jpg', model: 'runs/ranker/model.safetensors' });
    },
    async (t, _outcome, folder) => {
      const log = await readFile(join(folder, 'runs', 'from-maps', 'log.jsonl'), 'utf8');
      const steps = log.trim().split('\n').map(json);
      t.is(steps.filter(({ gradientNorm }) => Number(gradientNorm) > 0).length, 4);
    },
    (t, { stdout }) => {
      t.regex(stdout, /^step 1: \d+\.\d+\nstep 2: \d+\.\d+\nstep 3: \d+\.\d+\n\[ 14, 14 \]\n$/);
    },
  ],
};

const recipes = blocks(await readDocument('docs/recipes.md'));

test('there is a check for every program, and no other', (t) => {
  const count = (headings: string[]): Record<string, number> =>
    Object.fromEntries(headings.map((name) => [name, headings.filter((h) => h === name).length]));
  t.deepEqual(
    count(recipes.map(({ heading }) => heading)),
    Object.fromEntries(Object.entries(checks).map(([name, list]) => [name, list.length])),
  );
});

/** No dependency of ours: the benchmarks install it, with its own runtime. */
const transformers = join(repository, 'bench', 'node_modules', '@huggingface', 'transformers');

for (const [heading, list] of Object.entries(checks)) {
  const lacks = heading.includes('transformers.js') && !existsSync(transformers);
  const title = lacks ? `${heading} (not in bench/node_modules)` : heading;
  (lacks ? test.serial.skip : test.serial)(title, async (t) => {
    const folder = await workplace(t);
    // The embedded ranker is a vision transformer as well.
    if (heading.includes('in ONNX'))
      await convertCheckpoint('tiny', join(folder, 'vit.onnx'), { kind: 'ranker' });
    if (heading.includes('selector')) {
      await writeClassifier(join(folder, 'vit.safetensors'));
      for (const name of ['cat', 'coffee']) {
        await mkdir(join(folder, 'val', name), { recursive: true });
        await copyFile(
          join(folder, 'photos', `${name}.jpg`),
          join(folder, 'val', name, 'photo.jpg'),
        );
      }
    }
    if (heading.includes('transformers.js')) {
      await mkdir(join(folder, 'node_modules', '@huggingface'), { recursive: true });
      await symlink(transformers, join(folder, 'node_modules', '@huggingface', 'transformers'));
      await writeClipFolder(join(folder, 'models', 'clip'));
    }
    const programs = recipes.filter((recipe) => recipe.heading === heading);
    for (const [index, program] of programs.entries()) {
      const outcome = await runBlock(folder, program);
      t.is(outcome.code, 0, outcome.stderr);
      await list[index]?.(t, outcome, folder);
    }
  });
}
