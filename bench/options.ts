/** What a run measures and how long it takes over it. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { CurvePlan } from './curves.js';
import type { MemoryPlan } from './memory.js';
import type { ProfilePlan } from './profile.js';
import type { TolerancePlan } from './tolerance.js';
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

export interface Options {
  mode: 'quick' | 'full';
  sections: readonly Section[];
  /** Teachers of the comparisons; the first is the headline. */
  models: readonly string[];
  rankers: readonly string[];
  /** Rankers of the way from files to kept patches. */
  fileRankers: readonly string[];
  /** Teacher of the curves. */
  curveModel: string;
  curves: CurvePlan;
  curveRounds: number;
  /** Teachers of the tolerances and the metrics. */
  toleranceModels: readonly string[];
  tolerance: TolerancePlan;
  memory: readonly MemoryPlan[];
  training: TrainingPlan;
  /** Teacher of the profile. */
  profileModel: string;
  profile: ProfilePlan;
  /** Images of one call for scores, at most. */
  images: number;
  rankerImages: number;
  fileImages: number;
  rounds: number;
  slowRounds: number;
  budgetMs: number;
  slowMs: number;
  checkIsTiming: boolean;
  /** What the run may take in seconds; parts that would begin later are cut short. */
  limitSeconds: number;
  peakSeconds: number;
  kernelSeconds: number;
  threads: number;
  /** Only contenders whose key has one of these in it. Empty: all. */
  only: readonly string[];
  /** Where the three files go. */
  out: string;
  /** A results file that is only to be written out again. */
  render: string | undefined;
}

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

/** Wrong use of the command; the message is for the person who typed it. */
export class UsageError extends Error {}

export function readOptions(args: readonly string[]): Options | 'help' {
  const { values } = parse(args);
  if (values.help) return 'help';
  const cores = availableParallelism();
  const quick = values.quick === true;
  const list = (text: string | undefined): string[] => text?.split(',').filter(Boolean) ?? [];
  const chosen = list(values.sections);
  for (const name of chosen) {
    if (!(sections as readonly string[]).includes(name)) {
      throw new UsageError(`There is no section '${name}'; there are ${sections.join(', ')}.`);
    }
  }
  const count = (name: 'images' | 'rounds' | 'threads' | 'minutes', fallback: number): number => {
    const text = values[name];
    if (text === undefined) return fallback;
    if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`--${name} takes a positive number.`);
    return Number(text);
  };
  const models = list(values.model);
  const rankers = list(values.ranker);
  const pace = quick
    ? {
        rounds: 3,
        slowRounds: 1,
        budgetMs: 1000,
        slowMs: 4000,
        peakSeconds: 0.5,
        kernelSeconds: 10,
      }
    : {
        rounds: 9,
        slowRounds: 3,
        budgetMs: 15_000,
        slowMs: 30_000,
        peakSeconds: 3,
        kernelSeconds: 60,
      };
  return {
    mode: quick ? 'quick' : 'full',
    sections:
      chosen.length > 0
        ? (chosen as Section[])
        : sections.filter((name) => !quick || name !== 'profile'),
    models: models.length > 0 ? models : ['vit_b', 'tiny'],
    rankers: rankers.length > 0 ? rankers : quick ? ['vit_s'] : ['vit_s', 'tiny'],
    fileRankers: rankers.length > 0 ? rankers : quick ? ['tiny'] : ['vit_s', 'tiny'],
    curveModel: quick ? 'tiny' : (models[0] ?? 'vit_b'),
    curves: quick ? quickCurves(cores) : fullCurves(cores),
    curveRounds: quick ? 2 : 3,
    toleranceModels: models.length > 0 ? models : quick ? ['tiny'] : ['tiny', 'vit_b'],
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
    },
    profileModel: models[0] ?? 'vit_b',
    profile: { images: 4, seconds: quick ? 3 : 15, frequency: 499 },
    rankerImages: quick ? 32 : 128,
    fileImages: quick ? 40 : 200,
    ...pace,
    checkIsTiming: quick,
    limitSeconds:
      values.minutes === undefined ? (quick ? 280 : Infinity) : 60 * count('minutes', 1),
    images: count('images', quick ? 2 : 4),
    rounds: count('rounds', pace.rounds),
    threads: count('threads', cores),
    only: list(values.only),
    out: values.out ?? (quick ? 'bench/results' : 'docs'),
    render: values.render,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      options: {
        quick: { type: 'boolean' },
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
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
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

function quickCurves(cores: number): CurvePlan {
  return { patches: [49, 196], visible: [5, 19], batch: [1, 4], threads: threadCounts(cores) };
}

function fullCurves(cores: number): CurvePlan {
  return {
    patches: [49, 100, 196, 400, 784],
    visible: [5, 10, 19, 49, 98],
    batch: [1, 2, 4, 8],
    threads: threadCounts(cores),
  };
}
