/**
 * Floating-point operations as the benchmark counts them: matrix products alone, a multiply-add as two. Softmax, LayerNorm,
 * GELU and sums are not counted, for anybody. The derivation is written out in docs/benchmarks.md.
 */
import type { MaeConfig, RankerConfig, TransformerConfig } from '../lib/index.js';
import {
  decoderFlops,
  encoderFlops,
  loopFlops,
  rankerFlops,
  transformerFlops,
  type ScoringShape,
} from '../lib/plan/flops.js';

export { decoderFlops, encoderFlops, loopFlops, rankerFlops, transformerFlops, type ScoringShape };

type Teacher = Pick<MaeConfig, 'encoder' | 'decoder' | 'patchSize'>;

/** q kᵀ and p v of one block, all heads together. */
function attention({ dim }: TransformerConfig, queries: number, keys: number): number {
  return 4 * queries * keys * dim;
}

/**
 * The peers on one image: the decoder alone, once on all tokens and m times with one token deleted. The encoder is computed
 * for them and costs them nothing.
 */
export function peerFlops(teacher: Teacher, { patches, variants }: ScoringShape): number {
  return decoderFlops(teacher, patches + 1) + variants * decoderFlops(teacher, patches);
}

/** Operations of one image that are done at float32, and those done at the contender's own precision. */
export interface SplitFlops {
  float32: number;
  own: number;
}

/** The blocks of one pass when first-block q, k, v are at hand and the last block answers masked queries only. */
function trimmedPass(
  teacher: Teacher,
  { patches, visible }: ScoringShape,
  tokens: number,
  attentionFactor: number,
  firstAttention: boolean,
): number {
  const { decoder, patchSize } = teacher;
  const { dim, mlpDim, depth } = decoder;
  const masked = patches - visible;
  const qkv = 2 * tokens * 3 * dim * dim;
  const rest = (rows: number): number => 2 * rows * (dim * dim + 2 * dim * mlpDim);
  let sum = 2 * masked * dim * 3 * patchSize ** 2;
  for (let block = 0; block < depth; block++) {
    const queries = block === depth - 1 ? masked : tokens;
    if (block > 0) sum += qkv;
    if (block > 0 || firstAttention) {
      sum += attention(decoder, queries, tokens) * (block > 0 ? attentionFactor : 1);
    }
    sum += rest(queries);
  }
  return sum;
}

/** The direct form on one image, all in float32: what is left of the loop once nothing is computed twice or thrown away. */
export function directFlops(teacher: Teacher, shape: ScoringShape): SplitFlops {
  const { patches, variants: count } = shape;
  const { dim } = teacher.decoder;
  const firstQkv = 2 * (patches + 1) * 3 * dim * dim;
  const anchor = trimmedPass(teacher, shape, patches + 1, 1, true);
  const variants = count * trimmedPass(teacher, shape, patches, 1, true);
  return { float32: encoderFlops(teacher, shape) + firstQkv + anchor + variants, own: 0 };
}

/**
 * The delta form on one image: encoder and anchor in float32; of each variant the linears on differences, attention with
 * two products where the direct form has one (dq (k + dk)ᵀ + q dkᵀ, and (p' − p)(v + dv) + p dv), none in the first block,
 * whose leave-one-out softmax is elementwise.
 */
export function deltaFlops(teacher: Teacher, shape: ScoringShape): SplitFlops {
  const { patches, variants: count } = shape;
  const { dim } = teacher.decoder;
  const firstQkv = 2 * (patches + 1) * 3 * dim * dim;
  const anchor = trimmedPass(teacher, shape, patches + 1, 1, true);
  return {
    float32: encoderFlops(teacher, shape) + firstQkv + anchor,
    own: count * trimmedPass(teacher, shape, patches, 2, false),
  };
}

/**
 * What {@link directFlops} and {@link deltaFlops} count, apart: the linears, which are the library's products, and attention as
 * it is computed: one float32 product where the counts above have two for a difference.
 */
export function splitByKind(
  teacher: Teacher,
  shape: ScoringShape,
  form: 'direct' | 'delta',
): { products: SplitFlops; attention: number } {
  const { patches, visible, variants } = shape;
  const { encoder, decoder } = teacher;
  const encoderAttention = encoder.depth * attention(encoder, visible + 1, visible + 1);
  const firstQkv = 2 * (patches + 1) * 3 * decoder.dim ** 2;
  const linears = (tokens: number): number => trimmedPass(teacher, shape, tokens, 0, false);
  const attended = (tokens: number, first: boolean): number =>
    trimmedPass(teacher, shape, tokens, 1, first) - linears(tokens);
  const once = encoderFlops(teacher, shape) - encoderAttention + firstQkv + linears(patches + 1);
  const anchorAttention = encoderAttention + attended(patches + 1, true);
  const direct = form === 'direct';
  const rest = variants * linears(patches);
  return {
    products: { float32: direct ? once + rest : once, own: direct ? 0 : rest },
    attention: anchorAttention + variants * attended(patches, direct),
  };
}

/**
 * Pre-training on one image, forward and backward: what the decoder need not answer (visible patches in the last block) is not
 * counted. The backward pass is twice the forward pass, but for the patch projection, whose input needs no gradient.
 */
export function pretrainingFlops(
  teacher: Teacher,
  { patches, visible }: Pick<ScoringShape, 'patches' | 'visible'>,
): number {
  const { encoder, decoder, patchSize } = teacher;
  const embedding = 2 * visible * 3 * patchSize ** 2 * encoder.dim;
  const intoDecoder = 2 * (visible + 1) * encoder.dim * decoder.dim;
  const firstQkv = 2 * (patches + 1) * 3 * decoder.dim ** 2;
  const shape = { patches, visible, variants: 0 };
  const decoding = firstQkv + trimmedPass(teacher, shape, patches + 1, 1, true);
  return 2 * embedding + 3 * (transformerFlops(encoder, visible + 1) + intoDecoder + decoding);
}

/** A ranker's own part of its training on one image, all patches in. */
export function rankerTrainingFlops(
  ranker: Pick<RankerConfig, 'encoder' | 'patchSize'>,
  patches: number,
): number {
  return (
    3 * rankerFlops(ranker, patches) - 2 * patches * 3 * ranker.patchSize ** 2 * ranker.encoder.dim
  );
}

/** A ViT-B/16 classifier with 1000 classes on one 224 px image, the yardstick for what a ranker may cost. */
export function vitBaseFlops(patches = 196): number {
  const encoder = { dim: 768, depth: 12, heads: 12, mlpDim: 3072 };
  return 2 * patches * 3 * 16 ** 2 * 768 + transformerFlops(encoder, patches + 1) + 2 * 768 * 1000;
}

/**
 * Share of the machine's matmul peak: the time that the counted operations would take at the measured peaks, divided by the
 * time they took.
 *
 * @param milliseconds - of one image.
 * @param peaks - GFLOP/s, measured in the same run.
 * @returns null where a peak that is needed was not measured.
 */
export function shareOfPeak(
  flops: SplitFlops,
  milliseconds: number,
  peaks: { float32: number | null; own: number | null },
): number | null {
  let ideal = 0;
  for (const part of ['float32', 'own'] as const) {
    const peak = peaks[part];
    if (flops[part] === 0) continue;
    if (peak === null) return null;
    ideal += flops[part] / (peak * 1e6);
  }
  return ideal / milliseconds;
}
