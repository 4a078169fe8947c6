/** What the measuring process is asked, and what it answers. */

/** What all tasks name. */
export interface Setting {
  /** Path of onnxruntime-node. */
  runtime: string;
  model: string;
  pruned: string;
  idsName: string;
  ranker: string;
  threads: number;
  batchSize: number;
  /** Pixels, where the model leaves them open. */
  size: readonly [height: number, width: number];
  /** Patches kept of each picture, for each share. */
  keeps: readonly number[];
  patches: number;
}

export type Task = Setting &
  (
    | { kind: 'time'; rounds: number }
    /** `arm`: the place of a share; null: the full model. */
    | { kind: 'memory'; arm: number | null }
    /** `folder`: for the profiles. */
    | { kind: 'flops'; folder: string }
  );

/** Milliseconds of each round. */
export interface Times {
  scorer: number[];
  full: number[];
  shares: number[][];
}

export interface Flops {
  scorer: number;
  full: number;
  shares: number[];
  uncounted: string[];
}

export interface Answers {
  time: Times;
  memory: number;
  flops: Flops;
}

/** Runs of every shape before it is measured: the first ones lay out memory. */
export const warmUps = 3;
