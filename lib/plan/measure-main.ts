/** The process that measures one {@link Task}, given as its argument; the answer is the last line of its output. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { toLtrpError } from '../errors.js';
import { loadCore } from '../native/loader.js';
import { PatchRanker } from '../patch-ranker.js';
import { invalid } from '../validation.js';
import { profiledFlops, rankerFlops, type ProfileEvent } from './flops.js';
import { loadRuntime, type InputMetadata, type RuntimeTensor, type Session } from './runtime.js';
import { warmUps, type Answers, type Task } from './tasks.js';

type Feeds = Record<string, RuntimeTensor>;
type Run = () => Promise<unknown>;

const task = JSON.parse(process.argv[2] ?? '') as Task;
const { model, pruned, idsName, threads, batchSize, keeps, patches } = task;

// What onnxruntime prints goes to standard output, too.
async function answer(): Promise<void> {
  let line: object;
  try {
    line = { answer: await measured() };
  } catch (error) {
    const { code, message } = toLtrpError(error);
    line = { code, message: code === 'ERR_LTRP_INTERNAL' ? (error as Error).message : message };
  }
  process.stdout.write(`\n${JSON.stringify(line)}\n`);
}

async function measured(): Promise<Answers[Task['kind']]> {
  if (task.kind === 'time') return times(task.rounds);
  if (task.kind === 'flops') return flops(task.folder);
  const runs =
    task.arm === null
      ? [await fullRun()]
      : [await scorerRun(), await sharesRun([keeps[task.arm] ?? 1]).then(([run]) => run as Run)];
  for (let i = 0; i < warmUps + 2; i++) for (const run of runs) await run();
  return peakMemory();
}

/** Of this process, in bytes. What getrusage tells may be that of the process that started this one. */
function peakMemory(): number {
  if (process.platform === 'linux') {
    const peak = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    if (peak !== undefined) return Number(peak) * 1024;
  }
  return process.resourceUsage().maxRSS * 1024;
}

const open = (path: string, more: object = {}): Promise<Session> =>
  loadRuntime(task.runtime).InferenceSession.create(path, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    ...more,
  });

async function scorerRun(): Promise<Run> {
  const ranker = await PatchRanker.load(task.ranker, { device: 'cpu' });
  (await loadCore()).setThreads(threads);
  const { imageHeight, imageWidth } = ranker.config;
  const data = new Uint8Array(batchSize * imageHeight * imageWidth * 3);
  for (let i = 0; i < data.length; i++) data[i] = (Math.imul(i, 2654435761) >>> 24) & 255;
  return () => ranker.rank({ data, shape: [batchSize, imageHeight, imageWidth, 3] });
}

async function fullRun(): Promise<Run> {
  const session = await open(model);
  const feeds = picturesOf(session);
  return () => session.run(feeds);
}

async function sharesRun(counts: readonly number[]): Promise<Run[]> {
  const session = await open(pruned);
  return counts.map((keep) => {
    const feeds = { ...picturesOf(session), ...idsOf(keep) };
    return () => session.run(feeds);
  });
}

/** The model's only input, apart from the ids. */
function picturesOf({ inputMetadata }: Session): Feeds {
  if (inputMetadata === undefined)
    throw invalid('Measuring needs onnxruntime-node 1.21 or newer; this one is older.');
  const inputs = inputMetadata.filter(({ name }) => name !== idsName);
  const [input] = inputs;
  const { name = '', shape = [], type } = input ?? {};
  if (inputs.length !== 1 || !arePictures(input) || input === undefined) {
    throw invalid(
      `model must take only pictures [n, 3, height, width]; this one takes ${inputs.map(({ name }) => name).join(', ')}.`,
    );
  }
  const [images] = shape;
  if (typeof images === 'number' && images !== batchSize)
    throw invalid(`batchSize must be ${images}, which the model fixes; got ${batchSize}.`);
  const side = (axis: number): number => {
    const given = shape[axis];
    return typeof given === 'number' ? given : (task.size[axis - 2] ?? NaN);
  };
  const dims = [batchSize, 3, side(2), side(3)];
  const length = dims.reduce((a, b) => a * b, 1);
  // What the values are does not matter for time; half of the bits of float16 are NaN or tiny.
  const data =
    type === 'float16'
      ? new Uint16Array(length).fill(0x3800)
      : Float32Array.from({ length }, (_, i) => Math.sin(i));
  const { Tensor } = loadRuntime(task.runtime);
  return { [name]: new Tensor(type ?? 'float32', data, dims) };
}

function arePictures(input: InputMetadata | undefined): boolean {
  const { type = '', shape = [] } = input ?? {};
  const threeColours = shape[1] === 3 || typeof shape[1] === 'string';
  return ['float32', 'float16'].includes(type) && shape.length === 4 && threeColours;
}

/** Spread over the grid. */
function idsOf(keep: number): Feeds {
  const ids = BigInt64Array.from({ length: batchSize * keep }, (_, i) =>
    BigInt(Math.floor(((i % keep) * patches) / keep)),
  );
  const { Tensor } = loadRuntime(task.runtime);
  return { [idsName]: new Tensor('int64', ids, [batchSize, keep]) };
}

/** Each round runs everything once, from another contender on, so that what disturbs one round disturbs all contenders. */
async function times(rounds: number): Promise<Answers['time']> {
  const runs = [await scorerRun(), await fullRun(), ...(await sharesRun(keeps))];
  for (const run of runs) for (let i = 0; i < warmUps; i++) await run();
  const all = runs.map(() => [] as number[]);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < runs.length; turn++) {
      const place = (round + turn) % runs.length;
      const start = performance.now();
      await runs[place]?.();
      all[place]?.push(performance.now() - start);
    }
  }
  const [scorer = [], full = [], ...shares] = all;
  return { scorer, full, shares };
}

/** By onnxruntime's profile of one run of the graph as it is in the file. */
async function flops(folder: string): Promise<Answers['flops']> {
  const uncounted = new Set<string>();
  const count = async (path: string, more: Feeds, name: string): Promise<number> => {
    const session = await open(path, {
      graphOptimizationLevel: 'disabled',
      // Weights that are packed are not in the profile.
      extra: { session: { disable_prepacking: '1' } },
      enableProfiling: true,
      profileFilePrefix: join(folder, name),
    });
    await session.run({ ...picturesOf(session), ...more });
    session.endProfiling();
    await session.release();
    const file = readdirSync(folder).find((each) => each.startsWith(name));
    const events = JSON.parse(readFileSync(join(folder, file ?? name), 'utf8')) as ProfileEvent[];
    const result = profiledFlops(events);
    for (const each of result.uncounted) uncounted.add(each);
    return result.flops;
  };
  const full = await count(model, {}, 'full');
  const shares: number[] = [];
  for (const [place, keep] of keeps.entries())
    shares.push(await count(pruned, idsOf(keep), `share${place}.`));
  const ranker = await PatchRanker.load(task.ranker, { device: 'cpu' });
  const [rows, columns] = ranker.config.grid;
  const scorer = batchSize * rankerFlops(ranker.config, rows * columns);
  ranker.dispose();
  return { scorer, full, shares, uncounted: [...uncounted] };
}

await answer();
