/** What a run measures and how long it takes over it. */
import { availableParallelism } from 'node:os';
import { parse, UsageError } from './command-line.js';
import type { MemoryPlan } from './memory.js';
import type { TrainingPlan } from './training.js';

export const sections = [
  'scores',
  'ranker',
  'files',
  'kernels',
  'tolerance',
  'metrics',
  'memory',
  'training',
  'profile',
  'curves',
] as const;
export type Section = (typeof sections)[number];

export type Options = ReturnType<typeof readOptions>;

export const help = `npm run bench [-- options]

Measures ltrp beside the authors' loop and every backend that a Node program could use instead, checks each against float64
first, and writes benchmarks.md, benchmarks.json and benchmarks.svg.

  --quick              under 5 minutes: fewer images, rounds and points; written to bench/results instead of docs
  --model <names>      teachers: vit_b, vit_l, vit_h14 (random weights), tiny (embedded), or files (default vit_b,tiny)
  --ranker <names>     rankers: vit_s (random weights), tiny (embedded), or files (default vit_s,tiny)
  --sections <names>   of ${sections.join(', ')}
                       (default all; --quick leaves out profile)
  --only <texts>       contenders whose name has one of these in it, for example int8,onnx
  --images <n>         images of one call for scores
  --rounds <n>         rounds of every comparison
  --minutes <n>        about how long the run may take: later rounds and points give way (default: as long as it takes)
  --threads <n>        threads for every contender that has a choice (default: all cores)
  --out <folder>       where the three files go
  --render <file>      writes an earlier benchmarks.json out again and measures nothing
`;

export function readOptions(args: readonly string[]) {
  const values = parse(args, {
    quick: { type: 'boolean', default: false },
    model: { type: 'string' },
    ranker: { type: 'string' },
    sections: { type: 'string' },
    only: { type: 'string' },
    images: { type: 'string' },
    rounds: { type: 'string' },
    threads: { type: 'string' },
    minutes: { type: 'string' },
    out: { type: 'string' },
    render: { type: 'string' },
  });
  const { quick } = values;
  const list = (text: string | undefined): string[] => text?.split(',').filter(Boolean) ?? [];
  const asked = (text: string | undefined, otherwise: string[]): string[] => {
    const names = list(text);
    return names.length > 0 ? names : otherwise;
  };
  const chosen = list(values.sections).map((name): Section => {
    const section = sections.find((each) => each === name);
    if (section !== undefined) return section;
    throw new UsageError(`There is no section '${name}'; there are ${sections.join(', ')}.`);
  });
  const count = (name: 'images' | 'rounds' | 'threads' | 'minutes', fallback: number): number => {
    const text = values[name];
    if (text === undefined) return fallback;
    if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`--${name} takes a positive number.`);
    return Number(text);
  };
  const models = list(values.model);
  const threads = count('threads', availableParallelism());
  const minutes = values.minutes === undefined ? undefined : count('minutes', 1);
  return {
    mode: quick ? ('quick' as const) : ('full' as const),
    sections: chosen.length > 0 ? chosen : sections.filter((name) => !quick || name !== 'profile'),
    /** Teachers of the comparisons; the first is the headline. */
    models: asked(values.model, ['vit_b', 'tiny']),
    rankers: asked(values.ranker, quick ? ['vit_s'] : ['vit_s', 'tiny']),
    /** Rankers of the way from files to kept patches. */
    fileRankers: asked(values.ranker, quick ? ['tiny'] : ['vit_s', 'tiny']),
    /** Teacher of the curves. */
    curveModel: quick ? 'tiny' : (models[0] ?? 'vit_b'),
    curves: {
      patches: quick ? [49, 196] : [49, 100, 196, 400, 784],
      visible: quick ? [5, 19] : [5, 10, 19, 49, 98],
      batch: quick ? [1, 4] : [1, 2, 4, 8],
      threads: threadCounts(availableParallelism()),
    },
    curveRounds: quick ? 2 : 3,
    /** Teachers of the tolerances and the metrics. */
    toleranceModels: asked(values.model, quick ? ['tiny'] : ['tiny', 'vit_b']),
    tolerance: {
      tolerances: quick ? [0, 1e-3, 1e-2, 1e-1] : [0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
      trainedLists: quick ? 20 : 40,
      randomLists: 2,
      rounds: count('rounds', quick ? 2 : 7),
    },
    memory: memoryPlans(quick, models),
    training: {
      presets: quick ? ['tiny'] : ['tiny', 'small'],
      batch: 64,
      microBatch: 32,
      steps: quick ? 1 : 2,
    } satisfies TrainingPlan,
    /** Teacher of the profile. */
    profileModel: models[0] ?? 'vit_b',
    profile: { images: 4, seconds: quick ? 3 : 15, frequency: 499 },
    /** Images of one call for scores, at most. */
    images: count('images', quick ? 2 : 4),
    rankerImages: quick ? 32 : 128,
    fileImages: quick ? 40 : 200,
    rounds: count('rounds', quick ? 3 : 9),
    slowRounds: quick ? 1 : 3,
    budgetMs: quick ? 1000 : 15_000,
    slowMs: quick ? 4000 : 30_000,
    peakSeconds: quick ? 0.5 : 3,
    kernelSeconds: quick ? 10 : 60,
    checkIsTiming: quick,
    /** What the run may take in seconds; parts that would begin later are cut short. */
    limitSeconds: minutes === undefined ? (quick ? 280 : Infinity) : 60 * minutes,
    threads,
    /** Only contenders whose key has one of these in it. Empty: all. */
    only: list(values.only),
    /** Where the three files go. */
    out: values.out ?? (quick ? 'bench/results' : 'docs'),
    /** A results file that is only to be written out again. */
    render: values.render,
  };
}

/** Large teachers take minutes for an image in float32, and are there to show that they fit. */
export function memoryPlans(quick: boolean, models: readonly string[]): MemoryPlan[] {
  const sources = models.length > 0 ? models : quick ? ['vit_b'] : ['vit_b', 'vit_l', 'vit_h14'];
  return sources.map((source): MemoryPlan => {
    if (['vit_l', 'vit_h14'].includes(source)) {
      return { source, images: [1, 2], precisions: ['float32', 'int8'] };
    }
    const images = quick ? [1, 8] : [1, 8, 64];
    return { source, images, precisions: ['float32', 'bfloat16', 'int8'] };
  });
}

/** 1, 2, 4 … and all cores. */
export function threadCounts(cores: number): number[] {
  const counts: number[] = [];
  for (let count = 1; count < cores; count *= 2) counts.push(count);
  return [...counts, cores];
}
