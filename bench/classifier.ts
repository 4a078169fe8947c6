/**
 * `npm run bench:classifier`: what a vision transformer costs when it receives only the patches that the embedded ranker keeps, ranking
 * and selection included, beside onnxruntime-node with the same weights and patches. Into docs/evidence.md.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  convertCheckpoint,
  PatchRanker,
  readImages,
  selectPatches,
  Trainer,
  VisionTransformer,
  type AnyTrainingOptions,
  type ImageBatch,
  type Precision,
} from '../lib/index.js';
import { findRuntime, loadRuntime, type Runtime, type Session } from '../lib/plan/runtime.js';
import { maePresets, rankerPresets } from '../lib/training/presets.js';
import { parse, program, UsageError } from './command-line.js';
import { root } from './contenders.js';
import { classifierFlops, rankerFlops } from '../lib/plan/flops.js';
import { busy } from './machine.js';
import { pictureFiles } from './material.js';
import { inTurns, settleMs } from './pace.js';
import { writeSection } from './report/section.js';
import { digits, fixed, percent, table } from './report/tables.js';
import { spread } from './statistics.js';

const help = `npm run bench:classifier -- [options]

  --models <names>  of small (ViT-S/16) and base (ViT-B/16), with random weights (default small,base)
  --rounds <n>      measured runs of each (default 7)
  --no-write        print only, leave docs/evidence.md as it is
`;

const names = { small: 'ViT-S/16', base: 'ViT-B/16' } as const;
const keeps = [1, 0.5, 0.25] as const;
const batches = [16, 1] as const;
const [size, patchSize] = [224, 16];
const patches = (size / patchSize) ** 2;
/** The largest difference from onnxruntime's embeddings, over their largest value, with which a precision is timed. */
const tolerances = { float32: 1e-4, bfloat16: 0.05, int8: 0.1 } as const;

type Model = keyof typeof names;
/** Of some pictures with some share of their patches: an embedding each, [pictures x width]. */
type Embed = (images: ImageBatch, keep: number) => Promise<Float32Array>;

interface Contender {
  label: string;
  tolerance: number;
  embed: Embed;
}

const about = (rounds: number, threads: number): string =>
  '`npm run bench:classifier` wrote this. Milliseconds a picture with all patches, and with the share that the embedded ranker keeps: ' +
  'ranking in the same precision, selection and classification together. In brackets, relative to all patches, the median over rounds. ' +
  `Random weights, 224 px, ${threads} threads, ${rounds} rounds. onnxruntime-node runs the same weights in float32 on the same patches, ` +
  'after the same ranking. The head, 0.1% of the operations, is left out.';

async function measure(model: Model, folder: string, rounds: number): Promise<string[][]> {
  const { mae, classifier } = await randomModels(model, folder);
  const graph = join(folder, `${model}.onnx`);
  await convertCheckpoint(mae, graph, { kind: 'mae', to: 'onnx', part: 'encoder' });
  const runtime = loadRuntime(findRuntime(join(root, 'bench')));
  const peer = await onnxruntime(runtime, graph);
  const contenders: Contender[] = [];
  for (const precision of ['float32', 'bfloat16', 'int8'] as const)
    contenders.push(await ours(classifier, precision));
  contenders.push({ label: 'onnxruntime-node', tolerance: 0, embed: peer });
  const rows = [[names[model], '', 'GFLOP a picture', ...keeps.map((keep) => gflops(model, keep))]];
  for (const batch of batches) {
    const images = await pictures(batch);
    await check(contenders, peer, images);
    const times = await timed(contenders, images, rounds);
    for (const { label } of contenders) {
      const own = times.get(label) ?? [];
      rows.push([names[model], `${batch} at a time`, label, ...cells(own, batch)]);
    }
  }
  return rows;
}

/** Milliseconds of one contender: [round][keep]. */
type Times = number[][];

function cells(times: Times, batch: number): string[] {
  return keeps.map((keep, i) => {
    const median = spread(times.map((row) => (row[i] ?? NaN) / batch))?.median ?? NaN;
    const ratio = spread(times.map((row) => (row[i] ?? NaN) / (row[0] ?? NaN)))?.median ?? NaN;
    return keep === 1 ? digits(median) : `${digits(median)} (${fixed(ratio, 2)})`;
  });
}

/** Matrix products alone, a multiply-add as two: the blocks on CLS and the kept patches, and the ranker. */
function gflops(model: Model, keep: number): string {
  const { encoder } = maePresets[model];
  const ranking = keep === 1 ? 0 : rankerFlops({ encoder: rankerPresets.tiny, patchSize }, patches);
  const classifying = classifierFlops({ encoder, patchSize }, keep * patches);
  return digits((classifying + ranking) / 1e9);
}

async function timed(
  contenders: readonly Contender[],
  images: ImageBatch,
  rounds: number,
): Promise<Map<string, Times>> {
  const times = new Map<string, Times>(contenders.map(({ label }) => [label, []]));
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  await inTurns(contenders, { rounds, isLate: () => false, say }, async ({ label, embed }) => {
    const row: number[] = [];
    for (const keep of keeps) {
      await sleep(settleMs);
      const start = performance.now();
      await embed(images, keep);
      row.push(performance.now() - start);
    }
    times.get(label)?.push(row);
  });
  return times;
}

/** That the embeddings agree: of float32 with every share, of others with all patches. Warms all of them up, too. */
async function check(
  contenders: readonly Contender[],
  peer: Embed,
  images: ImageBatch,
): Promise<void> {
  for (const keep of keeps) {
    const wanted = await peer(images, keep);
    const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const { label, tolerance, embed } of contenders) {
      const found = await embed(images, keep);
      const off = found.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (wanted[i] ?? NaN))),
        0,
      );
      // With logits rounded otherwise another patch may be kept: that is no fault of the classifier.
      const isSamePatches = keep === 1 || label === 'ltrp float32';
      if (isSamePatches && !(off <= tolerance * largest))
        throw new Error(`${label} is off by ${off} of ${largest} with ${percent(keep)}`);
    }
  }
}

async function ours(file: string, precision: keyof typeof tolerances): Promise<Contender> {
  const model = await VisionTransformer.load(file, { precision });
  const kept = await keeping(precision);
  return {
    label: `ltrp ${precision}`,
    tolerance: tolerances[precision],
    async embed(images, keep) {
      const given = keep === 1 ? {} : { keep: await kept(images, keep) };
      return (await model.embed(images, given)).embeddings;
    },
  };
}

/** Ids of the patches that the embedded ranker keeps, [pictures x kept], ascending as the graph wants them. */
async function keeping(
  precision: Precision,
): Promise<(images: ImageBatch, keep: number) => Promise<Int32Array>> {
  const ranker = await PatchRanker.load('tiny', { precision });
  return async (images, keep) => {
    const { logits } = await ranker.rank(images);
    return (await selectPatches(images, logits, { keepRatio: keep })).indices;
  };
}

async function onnxruntime(runtime: Runtime, graph: string): Promise<Embed> {
  const session: Session = await runtime.InferenceSession.create(graph, {
    intraOpNumThreads: availableParallelism(),
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const kept = await keeping('float32');
  return async (images, keep) => {
    const [count] = images.shape;
    const all = Int32Array.from({ length: count * patches }, (_, i) => i % patches);
    const ids = keep === 1 ? all : await kept(images, keep);
    const shown = ids.length / count;
    const { latent } = await session.run({
      images: new runtime.Tensor('float32', images.data, images.shape),
      visible: new runtime.Tensor('int64', BigInt64Array.from(ids, BigInt), [count, shown]),
    });
    const { data } = latent as { data: Float32Array };
    const width = data.length / (count * (shown + 1));
    // CLS, which the classifier's head reads.
    const embeddings = new Float32Array(count * width);
    for (let i = 0; i < count; i++) {
      const first = i * (shown + 1) * width;
      embeddings.set(data.subarray(first, first + width), i * width);
    }
    return embeddings;
  };
}

async function pictures(count: number): Promise<ImageBatch> {
  const files = pictureFiles();
  const paths = Array.from({ length: count }, (_, i) => files[i % files.length] as string);
  return readImages(paths, { size: [size, size] });
}

/** A masked autoencoder with random weights, for the graph, and a classifier that begins with its encoder. */
async function randomModels(
  model: Model,
  folder: string,
): Promise<{ mae: string; classifier: string }> {
  const mae = join(folder, `${model}-mae.safetensors`);
  const classifier = join(folder, `${model}.safetensors`);
  const { encoder, decoder } = maePresets[model];
  const geometry = {
    ...{ imageHeight: size, imageWidth: size, patchSize, layerNormEps: 1e-6, encoder },
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  } as const;
  // No step is done: the weights are those that a run begins with.
  const run = {
    ...{
      steps: 1,
      batchSize: 1,
      microBatchSize: 1,
      warmupSteps: 0,
      learningRate: 1e-3,
      weightDecay: 0,
    },
    ...{ beta1: 0.9, beta2: 0.95, clipGradientNorm: null, seed: 1 },
    precision: 'float32',
    cropScale: [0.5, 1] as [number, number],
    flip: false,
  } as const;
  await exported(mae, {
    ...run,
    kind: 'pretrain',
    maskRatio: 0.75,
    model: { ...geometry, decoder, normalizedTarget: false },
  });
  await exported(classifier, {
    ...{ ...run, init: mae, minLearningRate: 0, layerDecay: 1, dropPath: 0 },
    kind: 'finetune',
    ...{ labelSmoothing: 0, mixup: 0, cutmix: 0, randAugment: 0, erase: 0, keepRatio: 1 },
    ...{ keepRandom: null, selector: 'random', selectorModel: null },
    model: { ...geometry, classes: 1000, pooling: 'cls', queries: 0, queryDim: 0 },
  });
  return { mae, classifier };
}

async function exported(path: string, options: AnyTrainingOptions): Promise<void> {
  await using trainer = await Trainer.create(options);
  await trainer.exportModel(path, 'float32');
}

await program('bench:classifier', help, async (args) => {
  const values = parse(args, {
    models: { type: 'string', default: 'small,base' },
    rounds: { type: 'string', default: '7' },
    'no-write': { type: 'boolean', default: false },
  });
  const rounds = Number(values.rounds);
  if (!(Number.isInteger(rounds) && rounds > 0))
    throw new UsageError(`--rounds must be a positive integer; got ${values.rounds}`);
  const models = values.models.split(',').map((name): Model => {
    if (name in names) return name as Model;
    throw new UsageError(`--models must name small or base; got ${name}`);
  });
  const crowded = busy();
  const folder = mkdtempSync(join(tmpdir(), 'ltrp-bench-'));
  try {
    const rows: string[][] = [];
    for (const model of models) rows.push(...(await measure(model, folder, rounds)));
    const head = ['model', 'pictures', 'contender', 'all patches', ...keeps.slice(1).map(percent)];
    const text = table(head, rows);
    console.log(text);
    if (values['no-write']) return;
    const heading = 'What a kept share costs';
    const note = crowded === null ? '' : ` ${crowded}`;
    const threads = availableParallelism();
    await writeSection(
      'evidence.md',
      'classifier',
      heading,
      `${about(rounds, threads)}${note}\n\n${text}`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
