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
- All contenders get the same float32 weights, images (the project's photographs) and visible patches. "Random" weights are seeded.
- Each contender is a process. Its first call of the timed size is compared with float64; if it disagrees, it is not timed.
- Tolerances for scores (mean relative error, Kendall tau): ours float32 1e-5, 0.999; bfloat16 1e-3, 0.99; int8 2e-3, 0.98; other float32
  contenders 1e-4, 0.99; the authors' float16 autocast 5e-2, 0.9; their bfloat16 autocast 1, 0.4. The last two only catch a broken loop.
- Tolerances for rankers (mean error over mean logit size): float32 1e-4, 0.99; bfloat16 5e-2, 0.9; int8 1e-1, 0.9; autocast 1e-1, 0.8.
- Contenders take turns; each round starts with a different one. Figures are medians; quartiles need more than one timing. A contender
  that is too slow gets the time of the checked call (quick run, over 8 s) or runs fewer variants, scaled by the operations below.
- The authors' loop is our version of it: the encoder once, then masked decoder passes one by one, up to 8 images at a time under autocast
  and 2 in float32 (the fastest). Autocast keeps a float32 residual stream.
- Peers (ONNX Runtime, TensorFlow.js) delete the dropped token and run one or two variants at a time, whichever is faster. Their encoder is
  not timed, which favours them by less than 2%.
- ltrp and onnxruntime-node use every core, onnxruntime-web as many WebAssembly threads, TensorFlow.js one.
- Memory is the peak resident size while timed, minus that before (in brackets: after) loading.
- "Event loop" is the longest time without a turn of the event loop (1 ms timer, all rounds).`;
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
Only matrix products count; a multiply-add is two operations. A block of width D with an MLP of width M costs 2 T (4 D² + 2 D M) for its linears on T
tokens and 4 Q T D for q kᵀ and p v with Q queries: 1.319 GFLOP for T = 197, D = 512, M = 2048. A decoder pass is eight blocks and the
prediction (0.154). The encoder embeds 196 patches (0.231), runs 12 blocks of width 768 on 20 tokens and projects to the decoder's width.

- "Of peak" is the loop's count over the time taken, relative to the peak at the contender's precision.
- "Own, of peak" is the time that a contender's own operations would take at the peaks of their precisions, over the time taken.
- The direct form deletes the dropped token, computes the first block's q, k and v once, and the last block for masked queries only.
- The delta form does the same for encoder and anchor, in float32. Its variants need no attention product in the first block and two for
  each one of the direct form elsewhere.

${table(['ViT-B/16 teacher, 196 patches, 19 visible', 'GFLOP'], body)}`;
}
