/** Transformer blocks as ONNX nodes: the arithmetic of native/core/model/transformer.cpp, in operators of set 17. */
import type { NativeTransformerConfig } from '../native/binding.js';
import type { GraphBuilder, Value } from './graph.js';

/**
 * rows [r, in] -> [r, out]. `name`.weight is [out, in], as checkpoints have it; Gemm transposes it while it multiplies, so
 * that its values go into the file as they are. `dims` declares [out, in] for a weight that is stored in another shape.
 */
export function linear(
  g: GraphBuilder,
  rows: Value,
  name: string,
  dims?: readonly [number, number],
): Value {
  const inputs = [rows, g.weight(`${name}.weight`, dims), g.weight(`${name}.bias`)];
  return g.node('Gemm', inputs, { transB: 1 });
}

/** tokens [n, T, in] -> [n, T, out], through {@link linear}; T is `count` in a one-element tensor. */
export function linearTokens(
  g: GraphBuilder,
  tokens: Value,
  name: string,
  size: { in: number; out: number; count: Value },
): Value {
  const rows = linear(g, g.node('Reshape', [tokens, g.integers(-1, size.in)]), name, [
    size.out,
    size.in,
  ]);
  return g.node('Reshape', [rows, g.concat(0, g.integers(-1), size.count, g.integers(size.out))]);
}

/** T of tokens [n, T, D], as a one-element tensor. */
export function tokenCount(g: GraphBuilder, tokens: Value): Value {
  return g.node('Shape', [tokens], { start: 1, end: 2 });
}

function layerNorm(g: GraphBuilder, x: Value, name: string, epsilon: number): Value {
  return g.node('LayerNormalization', [x, g.weight(`${name}.weight`), g.weight(`${name}.bias`)], {
    axis: -1,
    epsilon: { float: epsilon },
  });
}

/** Exact GELU, x * (erf(x / sqrt 2) + 1) * 0.5, spelled the way runtimes recognise and fuse. */
function gelu(g: GraphBuilder, x: Value): Value {
  const erf = g.node('Erf', [g.node('Div', [x, g.float('sqrt2', Math.SQRT2)])]);
  const gate = g.node('Add', [erf, g.float('one', 1)]);
  return g.node('Mul', [g.node('Mul', [x, gate]), g.float('half', 0.5)]);
}

/** qkv [n * T, 3D] -> heads' output [n * T, D]. `split` is the shape [n, T, heads, D / heads]. */
function attention(g: GraphBuilder, qkv: Value, dim: number, heads: number, split: Value): Value {
  const [q, k, v] = g
    .nodes('Split', [qkv, g.integers(dim, dim, dim)], 3, { axis: 1 })
    .map((part) =>
      g.node('Transpose', [g.node('Reshape', [part, split])], { perm: [0, 2, 1, 3] }),
    ) as [Value, Value, Value];
  // Scale and transposition become part of the product where a runtime has one that takes them.
  const product = g.node('MatMul', [q, g.node('Transpose', [k], { perm: [0, 1, 3, 2] })]);
  const logits = g.node('Mul', [
    product,
    g.float(`scale${dim / heads}`, 1 / Math.sqrt(dim / heads)),
  ]);
  const attended = g.node('MatMul', [g.node('Softmax', [logits], { axis: -1 }), v]);
  const joined = g.node('Transpose', [attended], { perm: [0, 2, 1, 3] });
  return g.node('Reshape', [joined, g.integers(-1, dim)]);
}

/**
 * All blocks `prefix`.0 … and the final norm `norm`: tokens [n, T, D] -> the same shape, n and T chosen by each run.
 * Between attentions the tokens are rows [n * T, D], as Gemm takes them.
 */
export function transformer(
  g: GraphBuilder,
  tokens: Value,
  config: NativeTransformerConfig,
  { prefix, norm, epsilon }: { prefix: string; norm: string; epsilon: number },
): Value {
  const { dim, depth, heads } = config;
  const count = tokenCount(g, tokens);
  const split = g.concat(0, g.integers(-1), count, g.integers(heads, dim / heads));
  let rows = g.node('Reshape', [tokens, g.integers(-1, dim)]);
  for (let i = 0; i < depth; i++) {
    const name = `${prefix}.${i}`;
    rows = g.within(name, () => {
      const qkv = linear(g, layerNorm(g, rows, `${name}.norm1`, epsilon), `${name}.attn.qkv`);
      const attended = attention(g, qkv, dim, heads, split);
      const middle = g.node('Add', [rows, linear(g, attended, `${name}.attn.proj`)]);
      const normed = layerNorm(g, middle, `${name}.norm2`, epsilon);
      const hidden = gelu(g, linear(g, normed, `${name}.mlp.fc1`));
      return g.node('Add', [middle, linear(g, hidden, `${name}.mlp.fc2`)]);
    });
  }
  return g.node('Reshape', [
    layerNorm(g, rows, norm, epsilon),
    g.concat(0, g.integers(-1), count, g.integers(dim)),
  ]);
}
