/**
 * Floating-point operations: matrix products alone, a multiply-add as two. Of a ranker by its geometry, of a foreign model by what
 * onnxruntime says that it ran.
 */
import type { MaeConfig, RankerConfig, TransformerConfig } from '../types.js';

/** A stack of blocks on `tokens` tokens: linears (4 · dim² and 2 · dim · mlpDim) and both products of attention. */
export function transformerFlops(
  { dim, mlpDim, depth }: TransformerConfig,
  tokens: number,
): number {
  const linears = 2 * tokens * (4 * dim * dim + 2 * dim * mlpDim);
  return depth * (linears + 4 * tokens * tokens * dim);
}

/**
 * A ranker on one image: patch embedding, CLS and all L patches through the blocks, the head. Both heads do L dot products
 * (the CLS head has L rows and one token, the token head one row and L tokens).
 */
export function rankerFlops(
  { encoder, patchSize }: Pick<RankerConfig, 'encoder' | 'patchSize'>,
  patches: number,
): number {
  const embedding = 2 * patches * 3 * patchSize ** 2 * encoder.dim;
  return embedding + transformerFlops(encoder, patches + 1) + 2 * patches * encoder.dim;
}

/** A classifier on the kept patches of an image: they are embedded, then they and CLS pass the blocks. Without the head. */
export function classifierFlops(
  { encoder, patchSize }: Pick<RankerConfig, 'encoder' | 'patchSize'>,
  kept: number,
): number {
  const embedding = 2 * kept * 3 * patchSize ** 2 * encoder.dim;
  return embedding + transformerFlops(encoder, kept + 1);
}

/** What `scores` computes, as far as its cost goes. */
export interface ScoringShape {
  /** L: patches of an image. */
  patches: number;
  /** V: visible ones. */
  visible: number;
  /** m: variants that are computed, V where all are. */
  variants: number;
}

type Teacher = Pick<MaeConfig, 'encoder' | 'decoder' | 'patchSize'>;

/** One image through the encoder: all patches are embedded, then the visible ones and CLS go through the blocks. */
export function encoderFlops(teacher: Teacher, { patches, visible }: ScoringShape): number {
  const { encoder, decoder, patchSize } = teacher;
  const embedding = 2 * patches * 3 * patchSize ** 2 * encoder.dim;
  const intoDecoder = 2 * (visible + 1) * encoder.dim * decoder.dim;
  return embedding + transformerFlops(encoder, visible + 1) + intoDecoder;
}

/** One whole pass of the decoder over `tokens` tokens, the prediction of all patches included. */
export function decoderFlops(teacher: Teacher, tokens: number): number {
  const { decoder, patchSize } = teacher;
  return transformerFlops(decoder, tokens) + 2 * (tokens - 1) * decoder.dim * 3 * patchSize ** 2;
}

/** The authors' loop on one image: the encoder, then 1 + m whole decoder passes over L + 1 tokens, one of them hidden. */
export function loopFlops(teacher: Teacher, shape: ScoringShape): number {
  const { patches, variants } = shape;
  return encoderFlops(teacher, shape) + (1 + variants) * decoderFlops(teacher, patches + 1);
}

/** One entry of onnxruntime's profile, as far as it is read. */
export interface ProfileEvent {
  cat?: string;
  args?: {
    op_name?: string;
    input_type_shape?: Record<string, number[]>[];
    output_type_shape?: Record<string, number[]>[];
  };
}

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** Operators whose products are not counted, so that a count would be too low. */
const uncountable = /Attention$|^Einsum$|^(LSTM|GRU|RNN)$/;

type Rule = (inputs: readonly number[][], output: readonly number[]) => number;

/** The weights are packed, not the second input, or not in the profile because the runtime keeps them packed. */
const rows: Rule = ([a = []], output) => 2 * product(output) * (a.at(-1) ?? NaN);

/** Either operand may be transposed: (m k)(k n) / (m n) = k². */
const matrices: Rule = (inputs, output) => {
  const [a = [], b = []] = inputs;
  if (b.length < 2) return rows(inputs, output);
  const sides = (shape: readonly number[]): number => product(shape.slice(-2));
  return 2 * product(output) * Math.sqrt((sides(a) * sides(b)) / sides(output));
};

const convolution =
  (weights: number): Rule =>
  (inputs, output) =>
    2 * product(output) * product((inputs[weights] ?? [NaN, NaN]).slice(1));

/** q kᵀ and p v; a matrix of weights for q, k and v makes it onnxruntime's own Attention, which projects as well. */
const attention: Rule = ([q = [], k = []]) => {
  const [batch = NaN, tokens = NaN] = q;
  if (k.length === 2)
    return 2 * product(q) * (k[1] ?? NaN) + (4 * batch * tokens * tokens * (k[1] ?? NaN)) / 3;
  return 4 * product(q) * (k.at(-2) ?? NaN);
};

const rules: Record<string, Rule> = {
  MatMul: matrices,
  FusedMatMul: matrices,
  Gemm: matrices,
  FusedGemm: matrices,
  MatMulInteger: matrices,
  MatMulIntegerToFloat: matrices,
  DynamicQuantizeMatMul: matrices,
  QLinearMatMul: rows,
  QGemm: rows,
  MatMulNBits: rows,
  Conv: convolution(1),
  FusedConv: convolution(1),
  ConvInteger: convolution(1),
  QLinearConv: convolution(3),
  Attention: attention,
  MultiHeadAttention: attention,
};

/** Operations of the run that a profile is of, and the kinds of operators that should be in them and are not. */
export function profiledFlops(events: readonly ProfileEvent[]): {
  flops: number;
  uncounted: string[];
} {
  let flops = 0;
  const uncounted = new Set<string>();
  for (const { cat, args } of events) {
    const { op_name: name, input_type_shape: given, output_type_shape: made } = args ?? {};
    if (cat !== 'Node' || name === undefined || given === undefined || made === undefined) continue;
    const shapes = (list: typeof given): number[][] =>
      list.map((typed) => Object.values(typed)[0] ?? []);
    const rule = rules[name];
    const counted = rule?.(shapes(given), shapes(made)[0] ?? []);
    if (counted !== undefined && Number.isFinite(counted)) flops += counted;
    else if (rule !== undefined || uncountable.test(name)) uncounted.add(name);
  }
  return { flops, uncounted: [...uncounted].sort() };
}
