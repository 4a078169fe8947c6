/** The parts of the report that explain: how it was measured, and how operations are counted. */
import {
  decoderFlops,
  deltaFlops,
  directFlops,
  encoderFlops,
  loopFlops,
  vitBaseFlops,
} from '../flops.js';
import { digits, table } from './tables.js';

export function procedure(): string {
  return `## How it is measured
- The same float32 weights, the same images and the same visible patches go to everybody. Weights called random are drawn from a seed, biases and norms
  included; pictures are the project's photographs.
- Every contender is a process of its own. It loads once; a small call tells what a call costs; a call of the size to be timed is compared with
  float64; only who agrees is timed. Tolerances (mean relative error, Kendall tau): ours float32 1e-5, 0.999; bfloat16 1e-3, 0.99; int8 2e-3, 0.98;
  other float32 contenders 1e-4, 0.99; the authors' float16 autocast 5e-2, 0.9 and bfloat16 autocast 1, 0.4, which only keep a broken loop out.
  For rankers the error is the mean deviation over the mean size of a logit: float32 1e-4, 0.99; bfloat16 5e-2, 0.9; int8 1e-1, 0.9; autocast 1e-1, 0.8.
- Contenders take turns, round by round, each round beginning with another one. Figures are medians, in brackets the quartiles; who was timed once has none. In a quick
  run the checked call of a contender that takes more than 8 s is its timing.
- A contender too slow for all variants runs fewer of them and is scaled by the operations counted below; the last column says how many it ran.
- The authors' loop is our own rendering: the encoder once, then one masked decoder pass after another; under autocast the matrix
  products are float16 or bfloat16 and the residual stream stays float32. Each pass takes several images where there are some: up to 8 under autocast, 2 in
  float32, which was fastest.
- Peers (ONNX Runtime, TensorFlow.js) get the cheapest form that a plain decoder has: the dropped token deleted, one or two variants at a time
  (whichever is fastest for them).
  Their encoder's work is done for them and not timed, which favours them by less than 2%.
- onnxruntime-node and ours use as many threads as the machine has cores; onnxruntime-web starts as many WebAssembly threads; TensorFlow.js has one in Node.
- Memory is the highest resident size while timed, less that of the process before it loaded anything; in brackets, less what it had after loading.
- "Event loop" is the longest time for which the process's event loop did not turn while it worked (a timer of 1 ms, over all rounds).`;
}

export function counting(): string {
  const teacher = {
    encoder: { dim: 768, depth: 12, heads: 12, mlpDim: 3072 },
    decoder: { dim: 512, depth: 8, heads: 16, mlpDim: 2048 },
    patchSize: 16,
  };
  const shape = { patches: 196, visible: 19, variants: 19 };
  const giga = (flops: number): string => digits(flops / 1e9, 4);
  const direct = directFlops(teacher, shape);
  const delta = deltaFlops(teacher, shape);
  const body = [
    ['encoder, once', giga(encoderFlops(teacher, shape))],
    ['one decoder pass over 197 tokens', giga(decoderFlops(teacher, 197))],
    ["authors' loop: encoder and 20 passes", giga(loopFlops(teacher, shape))],
    ['direct form', giga(direct.float32)],
    ['delta form: float32 part (encoder, anchor)', giga(delta.float32)],
    ['delta form: part in bfloat16 or int8', giga(delta.own)],
    ['ViT-B/16 classifier, for comparison', giga(vitBaseFlops())],
  ];
  return `## How operations are counted
Matrix products alone, a multiply-add as two operations; softmax, LayerNorm, GELU and sums are free for everybody. A block of width D with an MLP of
width M costs 2 T (4 D² + 2 D M) for its linears on T tokens and 4 Q T D for q kᵀ and p v with Q queries. With T = 197, D = 512, M = 2048 that is
1.239 + 0.079 = 1.319 GFLOP; eight blocks and the prediction (2 · 196 · 512 · 768 = 0.154) make one decoder pass. The encoder embeds all 196 patches
(2 · 196 · 768 · 768 = 0.231), runs 12 blocks of width 768 on 20 tokens and projects them to the decoder's width.

"GFLOP/s" divides the loop's count by everybody's time, so it compares speeds and nothing else. "Own" divides what a contender really computes.
The direct form deletes the dropped token, computes the first block's q, k and v once and answers masked queries only in the last block. The delta form
computes encoder and anchor in float32 as the direct form does; its variants need no attention product in the first block, and two where the
direct form needs one in the others. "Of peak" compares with the matmul peak at the contender's precision; "own, of peak" is the time that its
operations would take at the peaks of their precisions, divided by the time taken.

${table(['ViT-B/16 teacher, 196 patches, 19 visible', 'GFLOP'], body)}`;
}
