/** From pixels to tokens: what both models have in front of their blocks. */
import type { NativeMaeConfig, NativeRankerConfig } from '../native/binding.js';
import type { Dimension, GraphBuilder, Value } from './graph.js';

type Config = NativeMaeConfig | NativeRankerConfig;

/** Rows times columns of patches of the model's own image size. */
export function patchCount({ imageHeight, imageWidth, patchSize }: Config): number {
  return (imageHeight / patchSize) * (imageWidth / patchSize);
}

/** Values of a patch: p * p * 3. */
export const patchValues = ({ patchSize }: Config): number => patchSize * patchSize * 3;

/** The input `images` [n, 3, H, W], of the model's own size. */
export function imagesInput(g: GraphBuilder, { imageHeight, imageWidth }: Config): Value {
  const shape: Dimension[] = ['n', 3, imageHeight, imageWidth];
  return g.input('images', 'float32', shape, 'RGB, normalised: (x / 255 - mean) / std');
}

/** images [n, 3, H, W] -> patches [n, L, 3 * p * p], values ordered (channel, row, column) as the projection's weights. */
export function patchify(g: GraphBuilder, images: Value, config: Config): Value {
  const { imageHeight, imageWidth, patchSize: p } = config;
  const cut = g.node('Reshape', [images, g.integers(-1, 3, imageHeight / p, p, imageWidth / p, p)]);
  const gathered = g.node('Transpose', [cut], { perm: [0, 2, 4, 1, 3, 5] });
  return g.node('Reshape', [gathered, g.integers(-1, patchCount(config), patchValues(config))]);
}

/** A position table [1, L + 1, D] as [L + 1, D]. */
export function positions(g: GraphBuilder, name: string, config: Config, dim: number): Value {
  return g.weight(name, [patchCount(config) + 1, dim]);
}

/** x from `start` to `end` along `axis`. */
export function slice(g: GraphBuilder, x: Value, axis: number, start: number, end: number): Value {
  return g.node('Slice', [x, g.integers(start), g.integers(end), g.integers(axis)]);
}

/** An end for {@link slice} beyond every size. */
export const toTheEnd = 2 ** 31 - 1;

/** tokens [n, T, D] with their positions -> [n, 1 + T, D]: the CLS token with its own position in front. */
export function prependCls(g: GraphBuilder, tokens: Value, table: Value, dim: number): Value {
  const cls = g.node('Add', [g.weight('cls_token'), slice(g, table, 0, 0, 1)]);
  return g.concat(1, g.node('Expand', [cls, batchShape(g, tokens, 1, dim)]), tokens);
}

/** The shape [n, ...rest], n being the first size of `like`. */
export function batchShape(g: GraphBuilder, like: Value, ...rest: number[]): Value {
  return g.concat(0, g.node('Shape', [like], { start: 0, end: 1 }), g.integers(...rest));
}
