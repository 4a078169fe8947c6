/** What a run of the benchmark finds out; docs/benchmarks.json is exactly this. */
import type { SplitFlops } from './flops.js';
import type { Spread } from './statistics.js';

export type Precision = 'float32' | 'bfloat16' | 'float16' | 'int8';
export type Group = 'ours' | 'authors' | 'peer';

/** Megabytes of 10^6 bytes. */
export interface Memory {
  /** Highest resident memory while it was timed, less what the process had before it loaded the weights. */
  beyondProcess: number;
  /** The same, less what it had once the weights were loaded. */
  beyondLoad: number;
}

/** One contender on one piece of work. */
export interface Row {
  contender: string;
  label: string;
  group: Group;
  precision: Precision;
  /** `unavailable`: not on this machine or not in this version. `failed`: it broke, or disagreed with float64. */
  status: 'timed' | 'unavailable' | 'failed';
  /** Why it was not timed. */
  reason: string | null;
  /** Images of one timed call. */
  images: number;
  /** Variants of each image in one timed call; null for rankers. */
  variants: number | null;
  /** Milliseconds of one image with all its variants, scaled by the counted operations where fewer were run. */
  msPerImage: Spread | null;
  /** Against float64: scores' mean relative error; logits' mean error over their mean size. */
  error: number | null;
  /** Kendall's tau-b against float64, mean over the images; null for lists of one. */
  kendallTau: number | null;
  /** GFLOP/s with the loop's (ranker: the model's) count for everybody. */
  gflops: number | null;
  /** Operations that this contender does for one image with all its variants. */
  flops: SplitFlops;
  /** GFLOP/s with these. */
  ownGflops: number | null;
  /** Of the matmul peak at its precisions, with the operations that it does. */
  peakShare: number | null;
  /** Of the matmul peak at its precision, with the loop's count. */
  loopPeakShare: number | null;
  memory: Memory | null;
  /** Milliseconds; null for contenders without an event loop. */
  eventLoopWorst: number | null;
  versions: Record<string, string>;
}

/** All contenders on the same work. */
export interface Comparison {
  title: string;
  kind: 'scores' | 'ranker';
  model: string;
  /** L. */
  patches: number;
  /** V; null for rankers. */
  visible: number | null;
  /** Images in one forward pass; null for scores. */
  batch: number | null;
  /** GFLOP of one image: the loop's, or the ranker's. */
  gflopPerImage: number;
  /** The contender whose speed is 1. */
  baseline: string;
  rounds: number;
  rows: Row[];
}

export interface Peak {
  precision: Precision | 'float64';
  gflops: number | null;
  shape: number[];
  how: string;
}

export interface Kernel {
  name: string;
  shape: number[];
  precision: string;
  oursMs: number;
  plainMs: number;
  oursBytes: number;
  plainBytes: number;
  flops: number;
  /** Largest difference between the two, over the largest value. */
  disagreement: number;
}

export interface FilesRow {
  label: string;
  model: string;
  precision: Precision;
  images: number;
  batch: number;
  /** From files to indices of kept patches. */
  imagesPerSecond: Spread;
  /** Decoding, resizing and normalising alone. */
  decodeImagesPerSecond: Spread;
  eventLoopWorst: number | null;
}

export interface Curve {
  title: string;
  /** What the horizontal axis counts. */
  axis: 'patches' | 'visible' | 'batch' | 'threads';
  model: string;
  points: {
    contender: string;
    label: string;
    x: number;
    imagesPerSecond: Spread | null;
    /** Variants of each image that were run. */
    variants: number;
    /** GFLOP/s with the loop's count. */
    gflops: number | null;
    reason: string | null;
  }[];
}

/** Sparse deltas: how speed and order change with `tolerance`. */
export interface ToleranceCurve {
  model: string;
  patches: number;
  visible: number;
  /** Images of a call; each is a list of its own, with its own mask. */
  lists: number;
  points: {
    contender: string;
    label: string;
    precision: Precision;
    tolerance: number;
    msPerImage: Spread | null;
    /** Against tolerance 0 at the same precision: the median of the rounds' ratios. */
    speedUp: number | null;
    /** Against float32 with the same masks: mean and lowest over the lists. */
    kendallTau: number;
    lowestTau: number;
    /** Mean relative error against float32. */
    error: number;
  }[];
}

/** What a metric costs. */
export interface MetricRow {
  model: string;
  label: string;
  metric: string;
  msPerImage: Spread | null;
  /** The median of the rounds' ratios to l1 at the same precision. */
  againstL1: number | null;
}

/** Resident memory of one process that scores, in bytes. */
export interface MemoryRow {
  model: string;
  label: string;
  precision: Precision;
  /** Of one call. */
  images: number;
  msPerImage: Spread;
  /** Of the weights' file. */
  weights: number;
  /** LibTorch is there, no weights yet. */
  beforeLoad: number;
  afterLoad: number;
  /** The highest while the weights were loaded. */
  loadPeak: number;
  /** The highest while it scored. */
  peak: number;
}

/** Training steps of one contender. */
export interface TrainingRow {
  /** What is trained. */
  title: string;
  label: string;
  precision: Precision;
  /** Without decoding and augmentation; a ranker's without its teacher's scores. */
  imagesPerSecond: Spread | null;
  /** Forward and backward. */
  gflopPerImage: number;
  /** Highest resident memory of the process, in bytes. */
  memory: number | null;
  peakShare: number | null;
}

/** What a sample of the profile belongs to, in the report's order. */
export const profileParts = [
  'products',
  'logits',
  'values',
  'softmax',
  'operands',
  'removal',
  'norm',
  'gelu',
  'rounding',
  'heads',
  'core',
  'library',
  'allocation',
  'waiting',
  'kernel',
  'node',
] as const;
export type ProfilePart = (typeof profileParts)[number];

/** Where the processors' time went while images were scored. */
export interface Profile {
  model: string;
  label: string;
  precision: Precision;
  images: number;
  calls: number;
  msPerImage: Spread;
  threads: number;
  /** Processor time over what `threads` processors had in that time. */
  busy: number;
  /** Processor time of one image, all threads together, in milliseconds. */
  cpuMsPerImage: number;
  /** Shares of the processor time. */
  parts: { part: ProfilePart; share: number }[];
  /** The largest functions that are not generated code. */
  functions: { object: string; name: string; part: ProfilePart; share: number }[];
  /** Operations of one image in the library's products, and in attention (float32 for everybody). */
  productFlops: SplitFlops;
  attentionFlops: number;
  /** How fast they ran while they ran, over the peaks of the run. */
  productsOfPeak: number | null;
  attentionOfPeak: number | null;
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  features: string[];
  system: string;
  node: string;
  versions: Record<string, string>;
}

export interface Results {
  ltrp: string;
  commit: string | null;
  date: string;
  mode: 'quick' | 'full';
  threads: number;
  seconds: number;
  machine: Machine;
  peaks: Peak[];
  bandwidth: { gbPerSecond: number; how: string } | null;
  comparisons: Comparison[];
  files: FilesRow[];
  curves: Curve[];
  kernels: Kernel[];
  tolerance: ToleranceCurve[];
  metrics: MetricRow[];
  memory: MemoryRow[];
  training: TrainingRow[];
  profiles: Profile[];
  /** Why there is no profile although one was asked for. */
  profileProblem: string | null;
  /** What was left out and why. */
  notes: string[];
  /** Sections that broke off. */
  failures: string[];
}
