/** `ltrp score --store` and `ltrp train --scores`: maps of random crops on disk, and rankers that learn from them. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { appendFile, cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { modelDigest } from '../lib/file-digest.js';
import { withLock } from '../lib/folder-lock.js';
import { MaskedAutoencoder, PatchRanker, Trainer } from '../lib/index.js';
import { ltrp, startLtrp } from './support/command.js';
import { oneStep } from './support/lifecycle-models.js';
import { smallMae } from './support/models.js';
import { temporaryFolder } from './support/paths.js';
import { picture, picturePixels } from './support/pictures.js';
import { curve, photosFor, readLog, until, writePictures } from './support/runs.js';
import { Tensors } from './support/safetensors.js';

const score = (data: string, store: string, ...more: string[]): string[] => [
  ...['score', data, '--store', store, '--model', smallMae, '--rounds', '1', '--shard', '2'],
  ...['--metric', 'reach', '--surprise'],
  ...more,
];
const small = '--batch-size 4 --dim 32 --depth 1 --heads 1 --threads 1'.split(' ');
const train = (scores: string, out: string, ...more: string[]): string[] => [
  ...['train', '--scores', scores, '--out', out, ...small, ...more],
];
const shards = (store: string): string[] =>
  existsSync(store) ? readdirSync(store).filter((name) => /^scores-\d+\.saf/.test(name)) : [];
/** Every file of a store by its name; locks and what a killed process leaves are none. */
const contents = (store: string): [string, string][] =>
  readdirSync(store)
    .filter((name) => !name.startsWith('.'))
    .sort()
    .map((name) => [name, readFileSync(join(store, name), 'latin1')]);

test.serial(
  'the map of a stored crop is scoreMap of its pixels with the stored seed',
  async (t) => {
    t.timeout(120_000);
    const { folder, out: store } = await photosFor(t, 0);
    // Of the teacher's size, and whole crops: resampling changes nothing, and only mirroring is left.
    const data = join(folder, 'whole');
    await mkdir(data);
    for (const seed of [1, 2, 3]) {
      await writeFile(join(data, `${seed}.png`), await picture(112, 112, 3, seed).png().toBuffer());
    }
    const more = ['--crops', '3', '--crop-scale', '1,1', '--mask-ratio', '0.75', '--seed', '9'];
    const { code, stdout, stderr } = await ltrp(score(data, store, ...more));
    t.is(code, 0, stderr);
    t.regex(stdout, /^2 shards with 9 maps in /);
    t.deepEqual(shards(store), ['scores-000000.safetensors', 'scores-000001.safetensors']);
    const mae = await MaskedAutoencoder.load(smallMae);
    t.teardown(() => {
      mae.dispose();
    });
    const flips = new Set<number>();
    for (const [shard, seeds] of [
      [0, [1, 2]],
      [1, [3]],
    ] as const) {
      const file = new Tensors(join(store, `scores-00000${shard}.safetensors`));
      const scores = file.f32('scores');
      t.deepEqual(scores.shape, [3 * seeds.length, 49]);
      t.deepEqual([...file.i32('sizes').data], Array(2 * seeds.length).fill(112));
      const pictures = JSON.parse(file.metadata['pictures'] ?? '') as [number, string, string][];
      t.deepEqual(
        pictures.map(([root, name]) => [root, name]),
        seeds.map((seed) => [0, `${seed}.png`]),
      );
      t.is(file.metadata['precision'], 'float32');
      for (const [row, seed] of file.wide('seeds').entries()) {
        const crop = [...file.i32('crops').data.subarray(5 * row, 5 * row + 5)];
        t.deepEqual(crop.slice(0, 4), [0, 0, 112, 112]);
        flips.add(crop[4] ?? -1);
        const pixels = picturePixels(112, 112, 3, seeds[Math.floor(row / 3)]);
        const bytes = new Uint8Array(pixels.length);
        for (let i = 0; i < bytes.length; i += 3) {
          const [y, x] = [Math.floor(i / 336), (i % 336) / 3];
          const from = 336 * y + 3 * (crop[4] === 1 ? 111 - x : x);
          bytes.set(pixels.subarray(from, from + 3), i);
        }
        const { mean } = await mae.scoreMap(
          { data: bytes, shape: [1, 112, 112, 3] },
          { rounds: 1, maskRatio: 0.75, metric: 'reach', surprise: true, seed },
        );
        t.deepEqual(mean, scores.data.subarray(49 * row, 49 * row + 49), `${shard} ${row}`);
      }
    }
    t.deepEqual([...flips].sort(), [0, 1]);
  },
);

/** Holds a lock until the function that it gives is called. */
async function hold(lock: string): Promise<() => Promise<void>> {
  let release!: () => void;
  const released = new Promise<void>((resolve) => (release = resolve));
  let holding!: Promise<void>;
  await new Promise<void>((locked) => {
    holding = withLock(lock, () => {
      locked();
      return released;
    });
  });
  return () => {
    release();
    return holding;
  };
}

test.serial('killed, continued and shared by processes: the same bytes', async (t) => {
  t.timeout(300_000);
  const { folder, data, out: whole } = await photosFor(t, 9);
  await writeFile(join(data, 'broken.jpg'), 'no picture');
  const more = ['--crops', '4', '--seed', '3'];
  const once = await ltrp(score(data, whole, ...more));
  t.is(once.code, 0, once.stderr);
  t.regex(once.stdout, /^5 shards with 36 maps in .*, 1 unreadable images\n/);
  t.regex(once.stderr, /skipped: .*broken\.jpg/);

  const killed = join(folder, 'killed');
  // So that none of them comes to its end.
  const release = await hold(join(killed, '.scores-000004.lock'));
  for (let left = 1; left < 4; left++) {
    const { child, outcome } = startLtrp(score(data, killed, ...more));
    await until(() => shards(killed).length >= left);
    child.kill('SIGKILL');
    await outcome;
  }
  t.true(shards(killed).length >= 3);
  const stopped = startLtrp(score(data, killed, ...more));
  // What it says before the first shard; the lock there is that of a killed process.
  await new Promise((resolve) => stopped.child.stderr?.once('data', resolve));
  stopped.child.kill('SIGTERM');
  const { code, stderr } = await stopped.outcome;
  t.is(code, 143, stderr);
  t.regex(stderr, /Terminated; finished shards stay/);
  const waiting = startLtrp(score(data, killed, ...more));
  await new Promise<void>((resolve) => {
    waiting.child.stderr?.on('data', (text: Buffer) => {
      if (text.toString().includes('waiting for shard 4')) resolve();
    });
  });
  waiting.child.kill('SIGTERM');
  t.regex((await waiting.outcome).stderr, /Terminated; finished shards stay/);
  await release();
  t.is((await ltrp(score(data, killed, ...more))).code, 0);
  t.deepEqual(contents(killed), contents(whole));

  const shared = join(folder, 'shared');
  const all = await Promise.all([1, 2, 3].map(() => ltrp(score(data, shared, ...more))));
  let written = 0;
  for (const { code, stdout, stderr } of all) {
    t.is(code, 0, stderr);
    written += Number(/^(\d+) shards/.exec(stdout)?.[1]);
  }
  t.is(written, 5);
  t.deepEqual(contents(shared), contents(whole));
  t.deepEqual(
    readdirSync(shared).filter((name) => name.startsWith('.')),
    [],
  );
});

test.serial('a store is continued as it was begun, or not at all', async (t) => {
  t.timeout(120_000);
  const { folder, data, out: store } = await photosFor(t, 2);
  t.is((await ltrp(score(data, store))).code, 0);
  const before = contents(store);
  const refused = async (pattern: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await ltrp(args);
    t.not(code, 0, stderr);
    t.regex(stderr, pattern);
  };
  await refused(
    /crops 1 and not 2; seed 0 and not 4.*CONFLICT/,
    ...score(data, store, '--crops', '2', '--seed', '4'),
  );
  const teacher = join(folder, 'teacher');
  await cp(smallMae, teacher, { recursive: true });
  await writeFile(join(teacher, 'notes.txt'), 'what is not read does not count');
  const rest = score(data, store).map((word) => (word === smallMae ? teacher : word));
  t.is((await ltrp(rest)).code, 0);
  await appendFile(join(teacher, 'config.json'), '\n');
  await refused(/begun with another teacher/, ...rest);
  await refused(/--json/, ...score(data, store, '--json'));
  await refused(/--crop-scale is for scores that are kept/, 'score', data, '--crop-scale', '1,1');
  await refused(/without a share/, ...score(`${data}@0.5`, store));
  await refused(/more than the allowed share of 0/, ...(await unreadable(folder)));
  t.deepEqual(contents(store), before);
  await writePictures(data, 1, 50);
  await refused(/other pictures \(2 then, 3 now/, ...score(data, store));
  await rm(join(data, '50.png'));
  const moved = join(folder, 'moved');
  await rename(data, moved);
  t.is((await ltrp(score(moved, store))).code, 0, 'pictures may move');
  const roots = (
    JSON.parse(await readFile(join(store, 'scores.json'), 'utf8')) as { roots: string[] }
  ).roots;
  t.deepEqual(roots, [moved]);
});

test.serial('a teacher of the hub', async (t) => {
  t.timeout(60_000);
  const { folder, data, out: store } = await photosFor(t, 2);
  const commit = 'a'.repeat(40);
  const model = join(folder, 'hub', 'models--facebook--small');
  const snapshot = join(model, 'snapshots', commit);
  await cp(smallMae, snapshot, { recursive: true });
  await mkdir(join(model, 'refs'));
  await writeFile(join(model, 'refs', 'main'), commit);
  const args = score(data, store).map((word) => (word === smallMae ? 'hf:facebook/small' : word));
  const env = { HF_HUB_CACHE: join(folder, 'hub'), HF_HUB_OFFLINE: '1' };
  const { code, stderr } = await ltrp(args, { env });
  t.is(code, 0, stderr);
  const { teacher } = JSON.parse(await readFile(join(store, 'scores.json'), 'utf8')) as {
    teacher: string;
  };
  t.is(teacher, await modelDigest(join(snapshot, 'model.safetensors')));
});

test('the digest of a model is of all files that are read', async (t) => {
  const folder = await temporaryFolder(t);
  const index = join(folder, 'model.safetensors.index.json');
  const shard = join(folder, 'model-00001-of-00002.safetensors');
  await writeFile(index, JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors' } }));
  await writeFile(shard, 'one');
  const digests = [await modelDigest(folder), await modelDigest(index)];
  await writeFile(join(folder, 'README.md'), 'not read');
  t.deepEqual([await modelDigest(folder), await modelDigest(index)], digests);
  await writeFile(shard, 'two');
  t.not(await modelDigest(folder), digests[0]);
  t.not(await modelDigest(index), digests[1]);
  t.is(await modelDigest(shard), createHash('sha256').update('two').digest('hex'));
});

test.serial('unreadable pictures count whoever came across them', async (t) => {
  t.timeout(120_000);
  const { data, out: store } = await photosFor(t, 8);
  // Of five shards the first and the last.
  for (const name of ['0.jpg', 'z.jpg']) await writeFile(join(data, name), 'no picture');
  const first = await ltrp(score(data, store));
  t.is(first.code, 0, first.stderr);
  t.regex(first.stdout, /2 unreadable images/);
  await rm(join(store, 'scores-000004.safetensors'));
  const { code, stderr } = await ltrp(score(data, store, '--max-unreadable', '0.15'));
  t.is(code, 1, stderr);
  t.regex(stderr, /2 of 10 images cannot be read, more than the allowed share of 0\.15/);
  t.is(shards(store).length, 4);
  t.is((await ltrp(score(data, store, '--max-unreadable', '0.2'))).code, 0);
});

test.serial('what is no fault of a picture is not remembered', async (t) => {
  t.timeout(60_000);
  const { data, out: store } = await photosFor(t, 1);
  await writeFile(join(data, '2.png'), await picture(900, 900, 3, 2).png().toBuffer());
  const { code, stderr } = await ltrp(score(data, store), { env: { LTRP_DECODE_MEMORY: '1MB' } });
  t.is(code, 1, stderr);
  t.regex(stderr, /2\.png .* set the environment variable LTRP_DECODE_MEMORY.*OUT_OF_MEMORY/);
  t.deepEqual(shards(store), []);
  const enough = await ltrp(score(data, store));
  t.is(enough.code, 0, enough.stderr);
  t.notRegex(enough.stdout, /unreadable/);
});

async function unreadable(folder: string): Promise<string[]> {
  const data = await writePictures(join(folder, 'some'), 1);
  await writeFile(join(data, 'broken.jpg'), 'no picture');
  return score(data, join(folder, 'strict'), '--max-unreadable', '0');
}

test.serial('a ranker learns from stored maps; killed and resumed, it is the same', async (t) => {
  t.timeout(300_000);
  const { folder, data, out: store } = await photosFor(t, 12);
  t.is((await ltrp(score(data, store, '--crops', '2', '--crop-scale', '0.5,1'))).code, 0);
  const options = ['--steps', '60', '--val-share', '0.3', '--val-every', '20', '--seed', '7'];
  const rate = ['--learning-rate', '3e-3'];
  const once = join(folder, 'once');
  const whole = await ltrp(train(store, once, ...options, ...rate));
  t.is(whole.code, 0, whole.stderr);
  const images = /(\d+) maps of (\d+) images, 60 steps of 4/.exec(whole.stderr);
  t.is(Number(images?.[1]), 2 * Number(images?.[2]));
  // By the SHA-256 of the file's name, its first 32 bits over 2^32.
  const share = (name: string): number =>
    createHash('sha256').update(name).digest().readUInt32BE() / 2 ** 32;
  const learned = readdirSync(data).filter((name) => share(name) >= 0.3);
  t.is(Number(images?.[2]), learned.length);
  t.true(learned.length < 12, 'some are held out');
  const taus = readLog(once).flatMap(({ validation }) => validation?.kendallTau ?? []);
  t.is(taus.length, 4);
  t.true((taus.at(-1) ?? NaN) > (taus[0] ?? NaN) + 0.1, taus.join(' '));

  const out = join(folder, 'killed');
  const args = train(store, out, ...options, ...rate, '--checkpoint-every', '10');
  const first = startLtrp(args);
  await until(() => readLog(out).some(({ step }) => step >= 17));
  first.child.kill('SIGKILL');
  await first.outcome;
  const resumed = await ltrp(['train', '--out', out, '--resume', '--threads', '1']);
  t.is(resumed.code, 0, resumed.stderr);
  t.regex(resumed.stderr, /continuing after step \d0/);
  t.deepEqual(curve(out), curve(once));
  const model = (run: string): Buffer => readFileSync(join(run, 'model.safetensors'));
  t.true(model(out).equals(model(once)));
  const ranker = await PatchRanker.load(join(out, 'model.safetensors'));
  t.deepEqual(ranker.config.grid, [7, 7]);
  ranker.dispose();

  const refused = async (pattern: RegExp, ...words: string[]): Promise<void> => {
    const { code, stderr } = await ltrp(words);
    t.not(code, 0, stderr);
    t.regex(stderr, pattern);
  };
  const other = join(folder, 'other');
  await refused(/--drop must be left out with --scores/, ...train(store, other, '--drop', 'both'));
  await refused(/--no-flip must be left out/, ...train(store, other, '--no-flip'));
  await refused(/no scores\.json/, ...train(data, other));
  await refused(/are for --scores/, 'train', '--data', data, '--out', other, '--val-share', '0.1');
  await refused(/are for --scores/, 'train', '--data', data, '--out', other, '--smoothing', '1');
  const going = ['train', '--out', out, '--resume'];
  await refused(/--smoothing/, ...going, '--smoothing', '1');
  await refused(/--val-share \(0\.2/, ...going, '--val-share', '0.2');
  await refused(/--val must be left out with --scores/, ...going, '--val', data);
  await refused(/--memory-budget must be left out/, ...going, '--memory-budget', '64');
  await refused(/--teacher must be left out/, ...going, '--teacher', smallMae);
  const asked = join(folder, 'asked');
  const teacher = ['--teacher', smallMae, '--steps', '1'];
  t.is((await ltrp(['train', '--data', data, '--out', asked, ...small, ...teacher])).code, 0);
  await refused(/are for --scores/, 'train', '--out', asked, '--resume', '--val-scores', store);
  const incomplete = join(folder, 'incomplete');
  await cp(store, incomplete, { recursive: true });
  await rm(join(incomplete, 'scores-000003.safetensors'));
  await refused(/1 of 6 shards .* are not there.*DAMAGED/, ...train(incomplete, other));
  await cp(join(store, 'scores-000002.safetensors'), join(incomplete, 'scores-000003.safetensors'));
  const manifest = JSON.parse(await readFile(join(incomplete, 'scores.json'), 'utf8')) as {
    options: { seed: number };
  };
  manifest.options.seed = 5;
  await writeFile(join(incomplete, 'scores.json'), JSON.stringify(manifest));
  await refused(/is no shard of the scores/, ...train(incomplete, other));
});

test.serial(
  'pictures that changed, vanished or moved since they were scored are named',
  async (t) => {
    t.timeout(180_000);
    const { folder, data, out: store } = await photosFor(t, 8);
    t.is((await ltrp(score(data, store, '--crops', '2'))).code, 0);
    await writeFile(join(data, '2.png'), await picture(96, 96, 3, 77).png().toBuffer());
    await rm(join(data, '5.png'));
    const options = ['--steps', '6', '--val-share', '0'];
    const { code, stdout, stderr } = await ltrp(train(store, join(folder, 'run'), ...options));
    t.is(code, 0, stderr);
    t.regex(stderr, /skipped: .*2\.png has changed since it was scored; its maps are left out/);
    t.regex(stderr, /skipped: .*5\.png/);
    t.is(stderr.split('\n').filter((line) => line.startsWith('skipped')).length, 2);
    t.regex(stdout, /2 unreadable images/);
    const strict = await ltrp(
      train(store, join(folder, 'strict'), ...options, '--max-unreadable', '0.1'),
    );
    t.is(strict.code, 1, strict.stderr);
    t.regex(strict.stderr, /of 8 images cannot be read, more than the allowed share of 0\.1/);

    const moved = join(folder, 'moved');
    await rename(data, moved);
    const lost = await ltrp(train(store, join(folder, 'lost'), ...options));
    t.regex(lost.stderr, /no folder .*photos.*name their new place with --data.*FILE_NOT_FOUND/);
    const found = await ltrp(train(store, join(folder, 'found'), ...options, '--data', moved));
    t.is(found.code, 0, found.stderr);
    t.deepEqual(curve(join(folder, 'found')), curve(join(folder, 'run')));
  },
);

test('a trainer takes stored maps from its caller', async (t) => {
  const ranker = {
    ...{
      imageHeight: 32,
      imageWidth: 32,
      patchSize: 8,
      layerNormEps: 1e-5,
      head: 'token' as const,
    },
    encoder: { dim: 32, depth: 1, heads: 1, mlpDim: 64 },
  };
  const mean: [number, number, number] = [0.5, 0.5, 0.5];
  const options = {
    ...{ kind: 'ranker' as const, model: { ...ranker, mean, std: mean } },
    ...{ ...oneStep, flip: true, targets: 'maps' as const, teacher: null },
    ...{ loss: 'rankNet' as const, lossK: null },
    ...{ drop: 'decoder' as const, metric: 'l1' as const, input: 'full' as const },
    ...{ start: 'random' as const, memoryBudget: 2 ** 28 },
  };
  const trainer = await Trainer.create(options);
  t.teardown(() => {
    trainer.dispose();
  });
  t.like(trainer.options, { targets: 'maps', teacher: null });
  const pixels = new Uint8Array(picturePixels(40, 40));
  const scores = Float32Array.from({ length: 16 }, (_, i) => (i * 7) % 16);
  const scored = { top: 4, left: 0, height: 36, width: 30, flip: true, scores };
  const whole = { pixels, height: 40, width: 40 };
  const { kendallTau, reconstructionError } = await trainer.evaluate([{ ...whole, scored }]);
  t.is(reconstructionError, null);
  t.true(Math.abs(kendallTau ?? NaN) <= 1);
  t.is((await trainer.trainStep([{ ...whole, scored }])).step, 1);
  const invalid = { code: 'ERR_LTRP_INVALID_ARGUMENT' };
  for (const [bad, message] of [
    [
      { ...scored, scores: scores.slice(1) },
      /scored\.scores must have a value for each .* 16 patches; got 15/,
    ],
    [
      { ...scored, top: 5 },
      /crop of picture 0 must lie within its 40 x 40 pixels; got 30 x 36 at \(0, 5\)/,
    ],
    [{ ...scored, flip: undefined }, /scored\.flip/],
    [undefined, /scored is missing/],
  ] as const) {
    const given = { ...whole, scored: bad } as never;
    await t.throwsAsync(trainer.evaluate([given]), { ...invalid, message });
  }
  await t.throwsAsync(Trainer.create({ ...options, input: 'visible' }), {
    ...invalid,
    message: /input must be 'full' with targets 'maps'/,
  });
  await t.throwsAsync(Trainer.create({ ...options, targets: 'teacher' }), invalid);
  await t.throwsAsync(Trainer.create({ ...options, smoothing: -1 }), {
    ...invalid,
    message: /smoothing must be in \[0, 64\]; got -1/,
  });

  // Of the same weights, the loss on a map is that on the map which the formula of docs/method.md makes of it.
  const smoothing = await Trainer.create({ ...options, smoothing: 0.7 });
  const plain = await Trainer.create(options);
  t.teardown(() => {
    smoothing.dispose();
    plain.dispose();
  });
  const smooth = scores.map((_, i) => {
    let [sum, weights] = [0, 0];
    for (const [j, rank] of scores.entries()) {
      const squares = (Math.floor(i / 4) - Math.floor(j / 4)) ** 2 + ((i % 4) - (j % 4)) ** 2;
      const weight = Math.exp(-squares / (2 * 0.7 ** 2));
      sum += (weight * rank) / 15; // the scores are 0 to 15 in some order: their own ranks
      weights += weight;
    }
    return sum / weights;
  });
  const learned = await smoothing.evaluate([{ ...whole, scored }]);
  const expected = await plain.evaluate([{ ...whole, scored: { ...scored, scores: smooth } }]);
  t.true(Math.abs((learned.loss ?? NaN) - (expected.loss ?? NaN)) < 1e-6);
  t.not(learned.loss, (await plain.evaluate([{ ...whole, scored }])).loss);
});
