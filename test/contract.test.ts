/**
 * The contract of docs/engine.md: what is computed of a picture has the same bits whatever the other pictures, its place among
 * them, `memoryBudget`, the number of threads and what else runs, for one precision on one machine.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  LtrpError,
  MaskedAutoencoder,
  PatchRanker,
  rankFiles,
  selectPatches,
  type ImageBatch,
  type PixelBatch,
  type Precision,
  type ScoreMapOptions,
} from '../lib/index.js';
import { loadCore } from '../lib/native/loader.js';
import { smallMae, writeRanker } from './support/models.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture, picturePixels } from './support/pictures.js';

// Where the processor has no instructions for a precision, the core computes the same sums without them.
process.env['LTRP_EMULATE_PRECISIONS'] = '1';
const precisions: readonly Precision[] = ['float32', 'bfloat16', 'int8'];

/** Bytes, so that equal means the same bits. */
const bits = ({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): string =>
  Buffer.from(buffer, byteOffset, byteLength).toString('base64');

const pixels = (height: number, width: number, seed: number): PixelBatch => ({
  data: picturePixels(width, height, 3, seed),
  shape: [1, height, width, 3],
});

const together = (pictures: readonly PixelBatch[]): PixelBatch => ({
  data: Buffer.concat(pictures.map(({ data }) => data)),
  shape: [pictures.length, pictures[0]!.shape[1], pictures[0]!.shape[2], 3],
});

const joined = (lists: readonly Int32Array[]): Int32Array =>
  Int32Array.from(lists.flatMap((list) => [...list]));

/** `count` of `patches` ids, ascending. */
function visibleOf(patches: number, count: number, seed: number): Int32Array {
  const order = Array.from({ length: patches }, (_, id) => id).sort(
    (a, b) => ((a * 7919 + seed * 104729) % 1009) - ((b * 7919 + seed * 104729) % 1009),
  );
  return Int32Array.from(order.slice(0, count).sort((a, b) => a - b));
}

async function threads(count: number): Promise<void> {
  (await loadCore({})).setThreads(count);
}

/** The rankers of every precision that this machine has, each once. */
async function rankers(t: ExecutionContext, source: string): Promise<PatchRanker[]> {
  const found = new Map<Precision, PatchRanker>();
  for (const precision of precisions) {
    const ranker = await PatchRanker.load(source, { precision });
    t.teardown(() => {
      ranker.dispose();
    });
    if (!found.has(ranker.precision)) found.set(ranker.precision, ranker);
  }
  t.log(`precisions: ${[...found.keys()].join(', ')}`);
  return [...found.values()];
}

async function teachers(t: ExecutionContext): Promise<MaskedAutoencoder[]> {
  const found = new Map<Precision, MaskedAutoencoder>();
  for (const precision of precisions) {
    const mae = await MaskedAutoencoder.load(smallMae, { precision });
    t.teardown(() => {
      mae.dispose();
    });
    if (!found.has(mae.precision)) found.set(mae.precision, mae);
  }
  return [...found.values()];
}

/** A safetensors file whose tensors with `part` in their name are multiplied. */
function multiplied(file: Buffer, part: string, factor: number): Buffer {
  const result = Buffer.from(file);
  const start = 8 + Number(result.readBigUInt64LE(0));
  const header = JSON.parse(result.toString('utf8', 8, start)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  for (const [name, { data_offsets: offsets }] of Object.entries(header)) {
    if (!name.includes(part)) continue;
    for (let at = start + offsets[0]; at < start + offsets[1]; at += 4) {
      result.writeFloatLE(result.readFloatLE(at) * factor, at);
    }
  }
  return result;
}

/** Which pictures a call gets, on how many threads, and beside how many others. */
const company = fc.record({
  places: fc.array(fc.nat(4), { minLength: 1, maxLength: 17 }),
  threads: fc.integer({ min: 1, max: 3 }),
  beside: fc.nat(2),
});

test.serial('logits: any batch, place, number of threads, and beside other calls', async (t) => {
  const folder = await temporaryFolder(t);
  const models = {
    tiny: {
      source: 'tiny',
      grids: [
        [224, 224],
        [96, 272],
      ],
    },
    token: {
      source: await writeRanker(join(folder, 'token.safetensors'), 'token'),
      grids: [[80, 48]],
    },
    cls: { source: await writeRanker(join(folder, 'cls.safetensors'), 'cls'), grids: [[112, 112]] },
  } as const;
  for (const [name, { source, grids }] of Object.entries(models)) {
    for (const ranker of await rankers(t, source)) {
      for (const [height, width] of grids) {
        const patches = (height * width) / 256;
        const pool = [0, 1, 2, 3, 4].map((seed) => pixels(height, width, seed + 1));
        for (const count of [undefined, Math.ceil(patches * 0.4)]) {
          const ids = pool.map((_, seed) => count && visibleOf(patches, count, seed));
          const rank = async (places: readonly number[]) => {
            const visible = count && joined(places.map((place) => ids[place] as Int32Array));
            const { logits } = await ranker.rank(together(places.map((place) => pool[place]!)), {
              visible: visible === 0 ? undefined : visible,
            });
            return places.map((_, at) => bits(logits.slice(at * patches, (at + 1) * patches)));
          };
          await threads(1);
          const alone: string[] = [];
          for (const place of pool.keys()) alone.push((await rank([place]))[0]!);
          const property = fc.asyncProperty(company, async ({ places, ...given }) => {
            await threads(given.threads);
            const calls = await Promise.all([
              rank(places),
              ...Array.from({ length: given.beside }, (_, other) => rank([other, ...places])),
            ]);
            t.deepEqual(
              calls[0],
              places.map((place) => alone[place]),
            );
          });
          const what = `${name}, ${ranker.precision}, ${String(height)} x ${String(width)}`;
          await t.notThrowsAsync(fc.assert(property, { numRuns: name === 'tiny' ? 4 : 8 }), what);
        }
      }
    }
  }
});

test.serial(
  'scores: any batch, place, budget, number of threads, and beside other calls',
  async (t) => {
    const [height, width, count] = [80, 112, 7];
    const patches = 35;
    const pool = [0, 1, 2, 3, 4].map((seed) => pixels(height, width, seed + 1));
    const ids = pool.map((_, seed) => visibleOf(patches, count, seed));
    for (const mae of await teachers(t)) {
      for (const drop of ['decoder', 'encoder', 'both'] as const) {
        for (const metric of ['l1', 'l2', 'psnr', 'ssim', 'reach'] as const) {
          const score = async (
            places: readonly number[],
            memoryBudget: number,
            tolerance: number,
          ) => {
            const { scores } = await mae.scorePatches(
              together(places.map((place) => pool[place]!)),
              {
                visible: joined(places.map((place) => ids[place]!)),
                drop,
                metric,
                memoryBudget,
                tolerance,
              },
            );
            return places.map((_, at) => bits(scores.slice(at * count, (at + 1) * count)));
          };
          // psnr and ssim are rescaled over the batch: there the batch is the same in every call.
          const rescaled = metric === 'psnr' || metric === 'ssim';
          const property = fc.asyncProperty(
            company,
            fc.constantFrom(1, 2 ** 18, 2 ** 22, 2 ** 29),
            fc.constantFrom(0, 0.1),
            async ({ places, ...given }, memoryBudget, tolerance) => {
              await threads(1);
              const expected: string[] = [];
              if (rescaled) expected.push(...(await score(places, 2 ** 29, tolerance)));
              else
                for (const place of places)
                  expected.push(...(await score([place], 2 ** 29, tolerance)));
              await threads(given.threads);
              const calls = await Promise.all([
                score(places, memoryBudget, tolerance),
                ...Array.from({ length: given.beside }, () => score([1, 2], 2 ** 29, tolerance)),
              ]);
              t.deepEqual(calls[0], expected);
            },
          );
          const what = `${mae.precision}, ${drop}, ${metric}`;
          await t.notThrowsAsync(fc.assert(property, { numRuns: 4 }), what);
        }
      }
    }
  },
);

test.serial(
  'maps, encodings and reconstructions: any company, budget and number of threads',
  async (t) => {
    const [height, width] = [112, 96];
    const first = pixels(height, width, 1);
    const ids = visibleOf(42, 5, 1);
    for (const mae of await teachers(t)) {
      const property = fc.asyncProperty(
        fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom('l1', 'psnr', 'ssim', 'reach' as const),
        fc.boolean(),
        fc.constantFrom(1, 2 ** 20),
        async (others, count, metric, surprise, memoryBudget) => {
          const more = together([first, ...others.map((seed) => pixels(height, width, seed + 2))]);
          const options: ScoreMapOptions = { metric, surprise, rounds: 1, seed: 3, maskRatio: 0.7 };
          await threads(1);
          const alone = await mae.scoreMap(first, options);
          const visible = joined(Array<Int32Array>(others.length + 1).fill(ids));
          const encoded = await mae.encode(first, { visible: ids });
          const made = await mae.reconstruct(first, { visible: ids });
          await threads(count);
          const beside = await mae.scoreMap(more, { ...options, memoryBudget });
          t.is(bits(beside.mean.slice(0, 42)), bits(alone.mean));
          const { latent } = await mae.encode(more, { visible });
          t.is(bits(latent.slice(0, encoded.latent.length)), bits(encoded.latent));
          const { patches } = await mae.reconstruct(more, { visible });
          t.is(bits(patches.slice(0, made.patches.length)), bits(made.patches));
        },
      );
      await t.notThrowsAsync(fc.assert(property, { numRuns: 6 }), mae.precision);
    }
  },
);

test.serial('selections: any batch and number of threads', async (t) => {
  // Grids below and above the number of patches from which distances are products.
  for (const [height, width] of [
    [32, 96],
    [112, 112],
    [160, 320],
  ] as const) {
    const patches = (height * width) / 256;
    const pool = [0, 1, 2, 3, 4].map((seed) => pixels(height, width, seed + 1));
    const noise = Float32Array.from({ length: patches }, (_, id) => ((id * 7919) % 1009) / 1009);
    const logits = pool.map((_, seed) =>
      Float32Array.from({ length: patches }, (_, id) => Math.sin(id * (seed + 1.3))),
    );
    const select = async (places: readonly number[], scoreShare: number) => {
      const keep = Math.ceil(patches / 3);
      const { indices } = await selectPatches(
        together(places.map((place) => pool[place]!)),
        Float32Array.from(places.flatMap((place) => [...logits[place]!])),
        {
          keep,
          scoreShare,
          densityNoise: Float32Array.from(places.flatMap(() => [...noise])),
        },
      );
      return places.map((_, at) => indices.slice(at * keep, (at + 1) * keep).join());
    };
    const property = fc.asyncProperty(
      company,
      fc.constantFrom(0, 0.5),
      async ({ places, ...given }, scoreShare) => {
        await threads(1);
        const alone: string[] = [];
        for (const place of places) alone.push((await select([place], scoreShare))[0]!);
        await threads(given.threads);
        t.deepEqual(await select(places, scoreShare), alone);
      },
    );
    await t.notThrowsAsync(fc.assert(property, { numRuns: 6 }));
  }
});

test.serial('streams: any delay, batch size, number of decoders and of threads', async (t) => {
  const sizes = [
    [224, 224],
    [96, 96],
    [160, 64],
    [120, 90],
  ] as const;
  const sources = await Promise.all(
    sizes.map(([width, height], index) => picture(width, height, 3, index).png().toBuffer()),
  );
  for (const ranker of await rankers(t, 'tiny')) {
    const ranked = async (
      items: readonly { kind: number; delay: number }[],
      options: { batchSize?: number; decoders?: number },
    ): Promise<string[]> => {
      async function* source(): AsyncGenerator<Uint8Array> {
        for (const { kind, delay } of items) {
          if (delay > 0) await sleep(delay);
          yield sources[kind]!;
        }
      }
      const found: string[] = [];
      for await (const result of rankFiles(source(), {
        ranker,
        patches: 40,
        keepRatio: 0.3,
        scoreShare: 0.5,
        ...options,
      })) {
        if (!result.ok) throw result.error;
        found.push(`${bits(result.logits)} ${result.kept.join()}`);
      }
      return found;
    };
    await threads(1);
    const alone: string[] = [];
    for (const kind of sizes.keys()) alone.push((await ranked([{ kind, delay: 0 }], {}))[0]!);
    const property = fc.asyncProperty(
      fc.array(fc.record({ kind: fc.nat(3), delay: fc.nat(4) }), { minLength: 1, maxLength: 30 }),
      fc.record({
        batchSize: fc.integer({ min: 1, max: 12 }),
        decoders: fc.integer({ min: 1, max: 4 }),
      }),
      fc.integer({ min: 1, max: 3 }),
      async (items, options, count) => {
        await threads(count);
        t.deepEqual(
          await ranked(items, options),
          items.map(({ kind }) => alone[kind]),
        );
      },
    );
    await t.notThrowsAsync(fc.assert(property, { numRuns: 12 }), ranker.precision);
  }
});

test.serial('where all values are equal, psnr and ssim are zeros', async (t) => {
  const images = together([pixels(48, 48, 1)]);
  for (const mae of await teachers(t)) {
    for (const metric of ['psnr', 'ssim'] as const) {
      for (const visible of [Int32Array.of(4), Int32Array.of(0)]) {
        const { scores } = await mae.scorePatches(images, { visible, metric });
        t.deepEqual([...scores], [0], `${mae.precision}, ${metric}`);
      }
      // 9 patches of which one is visible: nine lists of one, rescaled together.
      const map = await mae.scoreMap(images, { metric, maskRatio: 0.85, rounds: 1 });
      t.true(map.mean.every(Number.isFinite));
    }
  }
});

test.serial('results that are not finite are an error that says so', async (t) => {
  const folder = await temporaryFolder(t);
  const notFinite = async (call: Promise<unknown>, pattern: RegExp) => {
    const error = await t.throwsAsync<LtrpError>(call, { instanceOf: LtrpError });
    t.is(error.code, 'ERR_LTRP_NOT_FINITE');
    t.regex(error.message, pattern);
  };
  // Huge pixels, in the second image only.
  const huge: ImageBatch = {
    data: Float32Array.from({ length: 2 * 3 * 112 * 112 }, (_, index) =>
      index < 3 * 112 * 112 ? Math.sin(index) : 3e38,
    ),
    shape: [2, 3, 112, 112],
  };
  for (const mae of await teachers(t)) {
    for (const metric of ['l1', 'l2', 'psnr', 'ssim', 'reach'] as const) {
      await notFinite(mae.scorePatches(huge, { metric }), /^The scores of image 1 are not finite/);
      await notFinite(mae.scoreMap(huge, { metric, rounds: 1 }), /^The scores of image 1 /);
    }
    await notFinite(mae.encode(huge), /^The latents of image 1 are not finite/);
    await notFinite(mae.reconstruct(huge), /^The predicted patches of image 1 are not finite/);
    // The model stays usable.
    t.true((await mae.scorePatches(pixels(112, 112, 1))).scores.every(Number.isFinite));
  }
  const cls = await writeRanker(join(folder, 'cls.safetensors'), 'cls');
  for (const source of ['tiny', cls]) {
    for (const ranker of await rankers(t, source)) {
      await notFinite(ranker.rank(huge), /^The logits of image 1 are not finite/);
    }
  }
  // Huge weights: a file that loads, and whose every result is beyond float32.
  for (const part of ['attn.qkv', 'mlp.fc1', 'patch_embed']) {
    const path = join(folder, `${part}.safetensors`);
    await writeFile(path, multiplied(await readFile(cls), part, 1e38));
    for (const ranker of await rankers(t, path)) {
      await notFinite(ranker.rank(pixels(112, 112, 1)), /^The logits of image 0 are not finite/);
      const results = [];
      const photo = join(repository, 'demo', 'photos', 'cat.jpg');
      for await (const result of rankFiles([photo, 'none.jpg'], { ranker })) results.push(result);
      t.deepEqual(
        results.map((result) => !result.ok && result.error.code),
        ['ERR_LTRP_NOT_FINITE', 'ERR_LTRP_IMAGE_NOT_FOUND'],
      );
    }
  }
});
