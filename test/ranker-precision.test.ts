/** Rankers in every precision, and pictures that are ranked several at a time. */
import { join } from 'node:path';
import test from 'ava';
import {
  LtrpError,
  PatchRanker,
  rankAgreement,
  readImages,
  type ImageBatch,
  type Precision,
} from '../lib/index.js';
import { RankingQueue, type QueuedPicture } from '../lib/stream/ranking-queue.js';
import { decodePicture } from '../lib/images.js';
import { repository } from './support/paths.js';

const photos = ['astronaut', 'cat', 'chelsea', 'coffee', 'tiger'].map((name) =>
  join(repository, 'demo/photos', `${name}.jpg`),
);
const precisions: readonly Precision[] = ['float32', 'bfloat16', 'int8'];

async function ranked(precision: Precision, images: ImageBatch, visible?: Int32Array) {
  const ranker = await PatchRanker.load('tiny', { precision });
  try {
    return { effective: ranker.precision, ...(await ranker.rank(images, { visible })) };
  } finally {
    ranker.dispose();
  }
}

test('every precision ranks photographs in nearly the same order', async (t) => {
  const images = await readImages(photos, { size: 224 });
  const exact = await ranked('float32', images);
  t.is(exact.effective, 'float32');
  // The grid of another shape, and patches of which half goes in.
  const wide = await readImages(photos, { size: [128, 320], fit: 'stretch' });
  const exactWide = await ranked('float32', wide);
  const half = Int32Array.from({ length: 5 * 98 }, (_, index) => (index % 98) * 2);
  const exactHalf = await ranked('float32', images, half);
  for (const precision of precisions) {
    const got = await ranked(precision, images);
    // A processor without the instructions takes a more exact one.
    t.true(precisions.indexOf(got.effective) <= precisions.indexOf(precision));
    const least = async (a: Float32Array, b: Float32Array, items: number) => {
      const { kendallTau } = await rankAgreement(a, b, [5, items]);
      return Math.min(...kendallTau);
    };
    const tau = await least(got.logits, exact.logits, 196);
    t.true(tau >= 0.98, `${precision}: tau ${String(tau)}`);
    const tauWide = await least((await ranked(precision, wide)).logits, exactWide.logits, 160);
    t.true(tauWide >= 0.98, `${precision}, 8 x 20 patches: tau ${String(tauWide)}`);
    const some = (await ranked(precision, images, half)).logits;
    const seen = (logits: Float32Array) => logits.filter((_, index) => (index % 196) % 2 === 0);
    const tauHalf = await least(seen(some), seen(exactHalf.logits), 98);
    t.true(tauHalf >= 0.98, `${precision}, half of the patches: tau ${String(tauHalf)}`);
    t.true(some.every((logit, index) => logit === -Infinity || (index % 196) % 2 === 0));
  }
});

test('pictures ranked together come out as each alone', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  const settings = {
    keepRatio: 0.25,
    scoreShare: 0.7,
    seed: 3,
    signal: new AbortController().signal,
  };
  const decode = async (index: number): Promise<QueuedPicture> => {
    const size = index % 3 === 0 ? ([160, 256] as const) : ([224, 224] as const);
    const path = photos[index % photos.length] as string;
    const { pixels } = await decodePicture(path, { size, fit: 'stretch' });
    return { pixels, size };
  };
  const together = new RankingQueue(ranker, settings);
  const alone = new RankingQueue(ranker, settings);
  const broken = new LtrpError('ERR_LTRP_IMAGE_DECODE', 'The image cannot be decoded.');
  const outcomes = await Promise.allSettled([
    ...Array.from({ length: 23 }, (_, index) => together.rank(() => decode(index))),
    together.rank(() => Promise.reject(broken)),
  ]);
  const last = outcomes.pop();
  t.is(last?.status === 'rejected' ? last.reason : undefined, broken);
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === 'rejected') throw outcome.reason;
    const own = await alone.rank(() => decode(index));
    t.is(outcome.value.logits.length, index % 3 === 0 ? 160 : 196);
    t.deepEqual(outcome.value.indices, own.indices, `picture ${String(index)}`);
    const far = outcome.value.logits.map((logit, at) => Math.abs(logit - (own.logits[at] ?? NaN)));
    t.true(Math.max(...far) < 1e-4);
  }
});

test('a queue that is cancelled rejects all that wait with the reason', async (t) => {
  const ranker = await PatchRanker.load('tiny');
  t.teardown(() => {
    ranker.dispose();
  });
  const controller = new AbortController();
  const queue = new RankingQueue(ranker, {
    keepRatio: 0.5,
    scoreShare: 0.7,
    seed: 0,
    signal: controller.signal,
  });
  const picture = { pixels: new Uint8Array(224 * 224 * 3), size: [224, 224] as const };
  const calls = Array.from({ length: 40 }, () => queue.rank(() => Promise.resolve(picture)));
  const reason = new Error('enough');
  controller.abort(reason);
  for (const outcome of await Promise.allSettled(calls)) {
    t.is(outcome.status === 'rejected' ? (outcome.reason as unknown) : undefined, reason);
  }
});
