/** Arrays that callers pass are read at the call, whether the core is loaded already or LibTorch is opened first. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test from 'ava';
import { repository } from './support/paths.js';

const run = promisify(execFile);

/** Makes one call, spoils everything it was given as soon as the promise is there, and compares with a call left alone. */
const program = `
  import { isDeepStrictEqual } from 'node:util';
  const [name, state] = process.argv.slice(1);
  const ltrp = await import('ltrp');
  const noise = (count) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * i));
  const calls = {
    selectPatches: () => {
      const given = [noise(3 * 64 * 64), noise(16), noise(16), noise(16)];
      const [data, logits, densityNoise, memberNoise] = given;
      const images = { data, shape: [1, 3, 64, 64] };
      const options = { keep: 5, densityNoise, memberNoise };
      return { given, promise: ltrp.selectPatches(images, logits, options) };
    },
    selectPatchesOfBytes: () => {
      const data = Uint8Array.from(noise(3 * 64 * 64), (value) => 128 + 127 * value);
      const given = [data, noise(16), noise(16), noise(16)];
      const [, logits, densityNoise, memberNoise] = given;
      const images = { data, shape: [1, 64, 64, 3] };
      const options = { keep: 5, densityNoise, memberNoise };
      return { given, promise: ltrp.selectPatches(images, logits, options) };
    },
    rankAgreement: () => {
      const given = [noise(20), noise(20).reverse()];
      return { given, promise: ltrp.rankAgreement(given[0], given[1], [2, 10]) };
    },
    keepFor: () => {
      const given = [noise(20), new Uint8Array(64).fill(1)];
      const ranking = { logits: given[0], grid: { rows: 4, columns: 5 }, width: 90, height: 80 };
      const target = { shape: [8, 8], patchSize: 2, pixelMask: given[1] };
      return { given, promise: ltrp.keepFor(ranking, target, { keep: 5 }) };
    },
    rankingLoss: () => {
      const given = [noise(20), noise(20).reverse(), noise(20)];
      const [predicted, target, drawn] = given;
      const options = { k: 5, noise: drawn };
      return { given, promise: ltrp.rankingLoss('listMle', predicted, target, [2, 10], options) };
    },
    asymmetricLoss: () => {
      const given = [noise(20), new Float32Array(20)];
      return { given, promise: ltrp.asymmetricLoss(given[0], given[1], [2, 10]) };
    },
    meanAveragePrecision: () => {
      const given = [noise(20), new Uint8Array(20).fill(1, 10)];
      return { given, promise: ltrp.meanAveragePrecision(given[0], given[1], [20, 1]) };
    },
  };
  if (state === 'warm') await ltrp.rankAgreement(noise(4), noise(4), [1, 4]);
  const { given, promise } = calls[name]();
  for (const values of given) structuredClone(values.fill(1), { transfer: [values.buffer] });
  const spoiled = await promise;
  console.log(isDeepStrictEqual(spoiled, await calls[name]().promise) ? 'equal' : 'different');
`;

const names = ['selectPatches', 'selectPatchesOfBytes', 'keepFor', 'rankAgreement', 'rankingLoss'];
for (const name of [...names, 'asymmetricLoss', 'meanAveragePrecision']) {
  for (const state of ['cold', 'warm']) {
    test(`${name}, ${state}: what it was given may be changed and transferred at once`, async (t) => {
      const args = ['--input-type=module', '--eval', program, name, state];
      t.is((await run(process.execPath, args, { cwd: repository })).stdout.trim(), 'equal');
    });
  }
}
