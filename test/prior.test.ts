/** The centre prior: one order, whoever is asked for it, and that of an independent computation. */
import { join } from 'node:path';
import test from 'ava';
import { PatchRanker, rankFiles, readImages, selectPatches } from '../lib/index.js';
import type { RankResult } from '../lib/cli/rank.js';
import { jsonLines, ltrp } from './support/command.js';
import { repository } from './support/paths.js';

const photo = join(repository, 'demo', 'photos', 'cat.jpg');

/** How many are smaller, and half of how many others are equal: the mean of the ranks that equal values share. */
const rank = (values: ArrayLike<number>, value: number): number => {
  const all = Array.from(values);
  return (
    all.filter((each) => each < value).length +
    (all.filter((each) => each === value).length - 1) / 2
  );
};

function combined(logits: Float32Array, rows: number, columns: number): number[] {
  const nearness = Array.from(logits, (_, i) => {
    const [y, x] = [2 * Math.floor(i / columns) - (rows - 1), 2 * (i % columns) - (columns - 1)];
    // In sides of the picture, times a number that makes integers of them.
    return -((y * columns) ** 2 + (x * rows) ** 2);
  });
  return Array.from(
    logits,
    (logit, i) => rank(logits, logit) + rank(nearness, nearness[i] as number),
  );
}

/** The highest, of equal ones the lower id, ascending. */
const top = (scores: ArrayLike<number>, keep: number): number[] =>
  Array.from(scores, (_, i) => i)
    .sort((a, b) => (scores[b] as number) - (scores[a] as number))
    .slice(0, keep)
    .sort((a, b) => a - b);

test('rank, selectPatches, rankFiles and the command order patches by the same sum', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  const [rows, columns] = [9, 20];
  const images = await readImages([photo], { size: [16 * rows, 16 * columns], fit: 'stretch' });
  const { logits } = await ranker.rank(images);
  t.deepEqual((await ranker.rank(images, { prior: 'none' })).logits, logits);
  const scores = combined(logits, rows, columns);
  t.deepEqual([...(await ranker.rank(images, { prior: 'centre' })).logits], scores);
  const kept = top(scores, 45);
  t.notDeepEqual(kept, top(logits, 45));
  const { indices } = await selectPatches(images, logits, { keepRatio: 0.25, prior: 'centre' });
  t.deepEqual([...indices], kept);

  const options = { ranker, grid: { rows, columns }, keepRatio: 0.25 };
  for await (const plain of rankFiles([photo], options)) {
    if (!plain.ok) throw plain.error;
    const sums = combined(plain.logits, rows, columns);
    for await (const result of rankFiles([photo], { ...options, prior: 'centre' })) {
      if (!result.ok) throw result.error;
      t.deepEqual([...result.logits], sums);
      t.deepEqual([...result.kept], top(sums, 45));
    }
    const more = ['--grid', `${rows}x${columns}`, '--keep', '0.25', '--json', '--prior', 'centre'];
    const [line] = jsonLines<RankResult>(await ltrp(['rank', photo, ...more]));
    t.is(line?.prior, 'centre');
    t.deepEqual(line?.scores, sums);
    t.deepEqual(line?.kept, top(sums, 45));
  }
});

test('a ranker of another copy of the package is asked in the same words', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  const other = { config: ranker.config, rank: ranker.rank.bind(ranker) };
  const options = { keep: 50, prior: 'centre' } as const;
  const results = [];
  for (const each of [ranker, other as unknown as PatchRanker]) {
    for await (const result of rankFiles([photo], { ...options, ranker: each })) {
      if (!result.ok) throw result.error;
      results.push([result.logits, result.kept]);
    }
  }
  t.deepEqual(results[0], results[1]);
});

test('patches that did not go in stay out', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  const images = await readImages([photo], { size: 224 });
  const visible = Int32Array.from({ length: 30 }, (_, i) => 5 * i);
  const { logits } = await ranker.rank(images, { visible, prior: 'centre' });
  t.is(logits.filter((score) => score === -Infinity).length, 166);
  t.true([...visible].every((id) => (logits[id] as number) >= 0));
  const all = await ranker.rank(images, { visible });
  const { indices } = await selectPatches(images, all.logits, { keep: 30, prior: 'centre' });
  t.deepEqual([...indices], [...visible]);
});
