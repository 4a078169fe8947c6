// In vitest's vmThreads every test file has a JavaScript realm of its own; the package and Node's modules are of another.
import { expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { PatchRanker, readImages, selectPatches } from 'ltrp';

test('a picture is ranked, whichever realm its arrays are of', async () => {
  const file = 'tiger.jpg'; // in the working folder
  const ranker = await PatchRanker.load('tiny');
  const bytes = new Uint8Array(readFileSync(file));
  const { data, shape } = await readImages([bytes], { size: 224 });
  const images = { data: Float32Array.from(data), shape: [...shape] };
  const stop = new AbortController();
  const { logits } = await ranker.rank(images, { signal: stop.signal });
  const same = await ranker.rank(await readImages([file], { size: 224 }));
  expect([...logits]).toEqual([...same.logits]);
  const { indices } = await selectPatches(images, Float32Array.from(logits), { keepRatio: 0.5 });
  expect(indices.length).toBe(98);
  await expect(ranker.rank(null)).rejects.toMatchObject({ code: 'ERR_LTRP_INVALID_ARGUMENT' });
  ranker.dispose();
});
