/** Who takes part, how each is started, and how exact each must be before it is timed. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { MaeConfig } from '../lib/index.js';
import type { Program, Reply } from './child.js';
import {
  deltaFlops,
  directFlops,
  loopFlops,
  peerFlops,
  type ScoringShape,
  type SplitFlops,
} from './flops.js';
import type { Group, Precision } from './results.js';
import type { TensorFile } from './workers/tensors.js';

export const root = join(import.meta.dirname, '..');

/** The files that a comparison is about. */
export interface Material {
  /** Float32 safetensors. */
  mae?: string;
  ranker?: string;
  images: TensorFile;
  visible?: number[][];
  tokens?: TensorFile;
  onnx?: { decoder?: string; ranker?: string };
}

/** The largest deviation from float64 with which a contender is timed. */
export interface Tolerance {
  error: number;
  kendallTau: number;
}

export interface ContenderSpec {
  key: string;
  label: string;
  /** What it is called where it runs a ranker, if that is something else. */
  rankerLabel?: string;
  group: Group;
  precision: Precision;
  program(threads: number): Program;
  /** Fields of `load`. */
  load(material: Material): Reply;
  /** Fields of `scores` and `rank` besides the counts. */
  run: Reply;
  /** Images that it decodes together, at most, where it takes a `batch` for scores. */
  batch?: number;
  /** It cannot be asked for some of the variants only. */
  allVariants: boolean;
  /** Why it cannot take part, or null. */
  unavailable(material: Material): string | null;
  tolerance: { scores: Tolerance; ranker: Tolerance };
  flops(
    teacher: Pick<MaeConfig, 'encoder' | 'decoder' | 'patchSize'>,
    shape: ScoringShape,
  ): SplitFlops;
}

const float32Tolerance = {
  scores: { error: 1e-4, kendallTau: 0.99 },
  ranker: { error: 1e-4, kendallTau: 0.99 },
};

function worker(file: string, args: readonly string[], threads: number): Program {
  return {
    command: process.execPath,
    args: ['--import=tsx', join(root, 'bench', 'workers', file), ...args],
    env: { OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) },
  };
}

function ours(
  precision: 'float32' | 'bfloat16' | 'int8',
  scores: Tolerance,
  ranker: Tolerance,
): ContenderSpec {
  return {
    key: `ltrp-${precision}`,
    label: `ltrp ${precision}`,
    group: 'ours',
    precision,
    program: (threads) => worker('ltrp.ts', [], threads),
    load: ({ mae, ranker: model, images, visible }) => ({
      mae,
      ranker: model,
      images,
      visible,
      precision,
    }),
    run: {},
    allVariants: true,
    unavailable: () => null,
    tolerance: { scores, ranker },
    flops: precision === 'float32' ? directFlops : deltaFlops,
  };
}

export const nativeHelper = join(root, 'build', 'ltrp_bench');

/** The helper's process, for references, peaks and models as well as for the authors' loop. */
export function helperProgram(threads: number): Program {
  return { command: nativeHelper, args: [], env: { OMP_NUM_THREADS: String(threads) } };
}

/** A program of bench/python. */
export function pythonProgram(file: string, threads: number): Program {
  return {
    command: 'python3',
    args: [join(root, 'bench', 'python', file)],
    env: { OMP_NUM_THREADS: String(threads) },
  };
}

/** Autocast is what it is: these bounds only keep a broken loop from being timed. */
const autocastTolerance: Record<'float32' | 'float16' | 'bfloat16', Tolerance> = {
  float32: float32Tolerance.scores,
  float16: { error: 0.05, kendallTau: 0.9 },
  bfloat16: { error: 1, kendallTau: 0.4 },
};

function authorsLoop(
  precision: 'float32' | 'float16' | 'bfloat16',
  library: 'LibTorch' | 'PyTorch',
  python: string | null,
): ContenderSpec {
  const tolerance = autocastTolerance[precision];
  return {
    key: `loop-${library.toLowerCase()}-${precision}`,
    label: `authors' loop, ${library} ${precision}${precision === 'float32' ? '' : ' autocast'}`,
    rankerLabel: `plain ${library} ${precision}${precision === 'float32' ? '' : ' autocast'}`,
    group: 'authors',
    precision,
    program: (threads) =>
      library === 'LibTorch' ? helperProgram(threads) : pythonProgram('authors_loop.py', threads),
    load: ({ mae, ranker, images, visible }) => ({ mae, ranker, images, visible }),
    run: { precision },
    // What was fastest: the authors' autocast gains by larger batches, float32 falls out of the caches.
    batch: precision === 'float32' ? 2 : 8,
    allVariants: false,
    unavailable: ({ mae }) => {
      if (library === 'LibTorch')
        return existsSync(nativeHelper) ? null : 'build/ltrp_bench is not built.';
      if (mae === undefined) return 'It has no ranker.';
      return python === null ? "python3 has no 'torch' here." : null;
    },
    tolerance: {
      scores: tolerance,
      ranker: precision === 'float32' ? float32Tolerance.ranker : { error: 0.1, kendallTau: 0.8 },
    },
    flops: (teacher, shape) =>
      precision === 'float32'
        ? { float32: loopFlops(teacher, shape), own: 0 }
        : { float32: 0, own: loopFlops(teacher, shape) },
  };
}

function peer(
  key: string,
  label: string,
  file: string,
  args: readonly string[],
  decoderBatch: number,
): ContenderSpec {
  return {
    key,
    label,
    group: 'peer',
    precision: 'float32',
    program: (threads) => worker(file, args, threads),
    load: ({ images, visible, tokens, onnx }) => ({ images, visible, tokens, onnx }),
    run: { decoderBatch },
    allVariants: false,
    unavailable: ({ mae, ranker, onnx }) => {
      const missing =
        (mae !== undefined && !onnx?.decoder) || (ranker !== undefined && !onnx?.ranker);
      return missing ? 'There is no ONNX graph of this model.' : null;
    },
    tolerance: float32Tolerance,
    flops: (teacher, shape) => ({ float32: peerFlops(teacher, shape), own: 0 }),
  };
}

/**
 * Everybody, the slowest last. The peers' variants go through the decoder one or two at a time, whichever was fastest for them
 * (larger batches fall out of the caches).
 *
 * @param python - version of its torch, or null.
 */
export function allContenders(python: string | null): ContenderSpec[] {
  return [
    ours('float32', { error: 1e-5, kendallTau: 0.999 }, { error: 1e-4, kendallTau: 0.99 }),
    ours('bfloat16', { error: 1e-3, kendallTau: 0.99 }, { error: 0.05, kendallTau: 0.9 }),
    ours('int8', { error: 2e-3, kendallTau: 0.98 }, { error: 0.1, kendallTau: 0.9 }),
    authorsLoop('float32', 'LibTorch', python),
    authorsLoop('float16', 'LibTorch', python),
    authorsLoop('bfloat16', 'LibTorch', python),
    authorsLoop('float32', 'PyTorch', python),
    authorsLoop('float16', 'PyTorch', python),
    authorsLoop('bfloat16', 'PyTorch', python),
    peer('onnxruntime-node', 'onnxruntime-node', 'onnxruntime.ts', ['node'], 2),
    peer('onnxruntime-web', 'onnxruntime-web (wasm)', 'onnxruntime.ts', ['web'], 1),
    peer('tfjs-wasm', '@tensorflow/tfjs-backend-wasm', 'tfjs.ts', ['wasm'], 2),
    peer('tfjs-cpu', '@tensorflow/tfjs (cpu, JavaScript)', 'tfjs.ts', ['cpu'], 1),
  ];
}
