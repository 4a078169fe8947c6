/** The decoder and the ranker in TensorFlow.js operations, for both of its backends. */
import { readFileSync } from 'node:fs';
import type { TransformerConfig } from '../../lib/index.js';
import { modelType } from '../../lib/onnx/schema.js';
import { floats, type Tensor } from './tensors.js';

/** What one of our ONNX models carries besides its nodes, which this library cannot run. */
export interface Checkpoint {
  config: {
    imageHeight: number;
    imageWidth: number;
    patchSize: number;
    layerNormEps: number;
    encoder: TransformerConfig;
    decoder?: TransformerConfig;
    head?: 'cls' | 'token';
  };
  /** By their canonical names. */
  tensors: ReadonlyMap<string, Tensor>;
}

export function readGraph(path: string): Checkpoint {
  const { graph, metadata_props: properties } = modelType.toObject(
    modelType.decode(readFileSync(path)),
    { longs: Number },
  ) as {
    graph: { initializer: { name: string; dims?: number[]; raw_data: Uint8Array }[] };
    metadata_props: { key: string; value: string }[];
  };
  const config = properties.find(({ key }) => key === 'ltrp.config')?.value ?? '{}';
  return {
    config: JSON.parse(config) as Checkpoint['config'],
    tensors: new Map(
      graph.initializer.map(({ name, dims = [], raw_data: bytes }) => [
        name,
        { data: floats(bytes), shape: dims },
      ]),
    ),
  };
}

/** Handle of a tensor in the library. */
export interface TfTensor {
  readonly shape: number[];
  data(): Promise<Float32Array>;
  dispose(): void;
}

/** What this uses of the library. Its own types are not there until the benchmark installs it. */
export interface TensorFlow {
  version_core?: string;
  version: Record<string, string>;
  setBackend(name: string): Promise<boolean>;
  getBackend(): string;
  ready(): Promise<void>;
  env(): { getAsync(name: string): Promise<unknown>; set(name: string, value: unknown): void };
  tensor(values: Float32Array, shape: readonly number[], dtype: 'float32'): TfTensor;
  scalar(value: number): TfTensor;
  tidy(work: () => TfTensor): TfTensor;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  add(a: TfTensor, b: TfTensor): TfTensor;
  sub(a: TfTensor, b: TfTensor): TfTensor;
  mul(a: TfTensor, b: TfTensor): TfTensor;
  square(a: TfTensor): TfTensor;
  rsqrt(a: TfTensor): TfTensor;
  erf(a: TfTensor): TfTensor;
  softmax(a: TfTensor): TfTensor;
  mean(a: TfTensor, axis: number, keepDims: boolean): TfTensor;
  reshape(a: TfTensor, shape: readonly number[]): TfTensor;
  transpose(a: TfTensor, order: readonly number[]): TfTensor;
  slice(a: TfTensor, begin: readonly number[], size: readonly number[]): TfTensor;
  tile(a: TfTensor, times: readonly number[]): TfTensor;
  concat(parts: readonly TfTensor[], axis: number): TfTensor;
  fused: {
    matMul(options: { a: TfTensor; b: TfTensor; transposeB: boolean; bias: TfTensor }): TfTensor;
  };
}

interface Linear {
  weight: TfTensor; // [in, out], so that no multiplication has to transpose it
  bias: TfTensor;
}

interface LayerNorm {
  weight: TfTensor;
  bias: TfTensor;
}

interface Block {
  norm1: LayerNorm;
  query: Linear;
  key: Linear;
  value: Linear;
  proj: Linear;
  norm2: LayerNorm;
  fc1: Linear;
  fc2: Linear;
}

/** A stack of pre-norm blocks and its final norm. */
class Transformer {
  readonly #tf: TensorFlow;
  readonly #config: TransformerConfig;
  readonly #blocks: Block[];
  readonly #norm: LayerNorm;
  readonly #eps: TfTensor;
  readonly #half: TfTensor;
  readonly #one: TfTensor;
  readonly #rootHalf: TfTensor;

  constructor(weights: Weights, config: TransformerConfig, prefix: string, norm: string) {
    this.#tf = weights.tf;
    this.#config = config;
    this.#eps = weights.tf.scalar(weights.checkpoint.config.layerNormEps);
    this.#half = weights.tf.scalar(0.5);
    this.#one = weights.tf.scalar(1);
    this.#rootHalf = weights.tf.scalar(Math.SQRT1_2);
    // The scale of the logits goes into the queries' weights: one pass over the logits less.
    const scale = 1 / Math.sqrt(config.dim / config.heads);
    this.#blocks = Array.from({ length: config.depth }, (_, index) => {
      const name = `${prefix}.${String(index)}`;
      return {
        norm1: weights.layerNorm(`${name}.norm1`),
        query: weights.linear(`${name}.attn.qkv`, 0, config.dim, scale),
        key: weights.linear(`${name}.attn.qkv`, config.dim, config.dim),
        value: weights.linear(`${name}.attn.qkv`, 2 * config.dim, config.dim),
        proj: weights.linear(`${name}.attn.proj`),
        norm2: weights.layerNorm(`${name}.norm2`),
        fc1: weights.linear(`${name}.mlp.fc1`),
        fc2: weights.linear(`${name}.mlp.fc2`),
      };
    });
    this.#norm = weights.layerNorm(norm);
  }

  /** [m · T, E] to [m · T, E]. */
  forward(tokens: TfTensor, count: number): TfTensor {
    const tf = this.#tf;
    let current = tokens;
    for (const block of this.#blocks) {
      const before = current;
      current = tf.tidy(() => {
        const attended = tf.add(
          before,
          this.#attention(block, this.#normed(before, block.norm1), count),
        );
        const hidden = this.#gelu(linear(tf, this.#normed(attended, block.norm2), block.fc1));
        return tf.add(attended, linear(tf, hidden, block.fc2));
      });
      if (before !== tokens) before.dispose();
    }
    return this.#normed(current, this.#norm);
  }

  #attention(block: Block, input: TfTensor, count: number): TfTensor {
    const tf = this.#tf;
    const { dim, heads } = this.#config;
    const rowsInAll = input.shape[0] as number;
    const split = (part: Linear): TfTensor => {
      const shape = [rowsInAll / count, count, heads, dim / heads];
      return tf.transpose(tf.reshape(linear(tf, input, part), shape), [0, 2, 1, 3]);
    };
    const keys = tf.transpose(split(block.key), [0, 1, 3, 2]);
    const logits = this.#products(split(block.query), keys);
    const mixed = this.#products(tf.softmax(logits), split(block.value));
    return linear(tf, tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [rowsInAll, dim]), block.proj);
  }

  /**
   * Matrix products of all heads, [m, heads, a, b] by [m, heads, b, c]. The WebAssembly backend has fast products for single
   * matrices only (through XNNPACK) and a plain loop for stacks of them, so it gets one head at a time.
   */
  #products(left: TfTensor, right: TfTensor): TfTensor {
    const tf = this.#tf;
    if (tf.getBackend() !== 'wasm') return tf.matMul(left, right);
    const [count, heads, a, b] = left.shape as [number, number, number, number];
    const c = right.shape[3] as number;
    const lefts = tf.reshape(left, [count * heads, a, b]);
    const rights = tf.reshape(right, [count * heads, b, c]);
    const parts = Array.from({ length: count * heads }, (_, head) =>
      tf.matMul(
        tf.slice(lefts, [head, 0, 0], [1, a, b]),
        tf.slice(rights, [head, 0, 0], [1, b, c]),
      ),
    );
    return tf.reshape(tf.concat(parts, 0), [count, heads, a, c]);
  }

  #normed(input: TfTensor, { weight, bias }: LayerNorm): TfTensor {
    const tf = this.#tf;
    const centred = tf.sub(input, tf.mean(input, -1, true));
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), this.#eps));
    return tf.add(tf.mul(tf.mul(centred, scale), weight), bias);
  }

  #gelu(input: TfTensor): TfTensor {
    const tf = this.#tf;
    const share = tf.add(tf.erf(tf.mul(input, this.#rootHalf)), this.#one);
    return tf.mul(tf.mul(input, this.#half), share);
  }
}

function linear(tf: TensorFlow, input: TfTensor, { weight, bias }: Linear): TfTensor {
  return tf.fused.matMul({ a: input, b: weight, transposeB: false, bias });
}

/** A checkpoint's tensors in the library's memory. */
class Weights {
  constructor(
    readonly tf: TensorFlow,
    readonly checkpoint: Checkpoint,
  ) {}

  tensor(name: string): TfTensor {
    const { data, shape } = this.#stored(name);
    return this.tf.tensor(data, shape, 'float32');
  }

  layerNorm(name: string): LayerNorm {
    return { weight: this.tensor(`${name}.weight`), bias: this.tensor(`${name}.bias`) };
  }

  /** Rows [from, from + count) of a linear layer [out, in], transposed and multiplied by `scale`. */
  linear(name: string, from = 0, count?: number, scale = 1): Linear {
    const stored = this.#stored(`${name}.weight`);
    const out = stored.shape[0] as number;
    const width = stored.data.length / out;
    const rowsTaken = count ?? out;
    const weight = new Float32Array(rowsTaken * width);
    for (let row = 0; row < rowsTaken; row++) {
      for (let column = 0; column < width; column++) {
        weight[column * rowsTaken + row] =
          scale * (stored.data[(from + row) * width + column] as number);
      }
    }
    const bias = this.#stored(`${name}.bias`).data.slice(from, from + rowsTaken);
    for (let row = 0; row < rowsTaken; row++) bias[row] = scale * (bias[row] as number);
    return {
      weight: this.tf.tensor(weight, [width, rowsTaken], 'float32'),
      bias: this.tf.tensor(bias, [rowsTaken], 'float32'),
    };
  }

  #stored(name: string): Tensor {
    const tensor = this.checkpoint.tensors.get(name);
    if (tensor === undefined) throw new Error(`The model lacks ${name}.`);
    return tensor;
  }
}

/** The decoder of a model: tokens [m, T, E] to predictions [m, T − 1, values]. */
export function decoderOf(
  tf: TensorFlow,
  checkpoint: Checkpoint,
): (tokens: Tensor) => Promise<Tensor> {
  const { decoder } = checkpoint.config;
  if (!decoder) throw new Error('The model has no decoder.');
  const weights = new Weights(tf, checkpoint);
  const blocks = new Transformer(weights, decoder, 'decoder_blocks', 'decoder_norm');
  const prediction = weights.linear('decoder_pred');
  return (tokens) =>
    fetched(() => {
      const [count, length, width] = tokens.shape as [number, number, number];
      const input = tf.tensor(tokens.data, [count * length, width], 'float32');
      const normed = tf.reshape(blocks.forward(input, length), [count, length, width]);
      const patches = tf.reshape(tf.slice(normed, [0, 1, 0], [count, length - 1, width]), [
        count * (length - 1),
        width,
      ]);
      return tf.reshape(linear(tf, patches, prediction), [count, length - 1, -1]);
    }, tf);
}

/** A ranker: images [n, 3, H, W] to logits [n, L]. */
export function rankerOf(
  tf: TensorFlow,
  checkpoint: Checkpoint,
): (images: Tensor) => Promise<Tensor> {
  const weights = new Weights(tf, checkpoint);
  const { encoder, patchSize: side, imageHeight, imageWidth, head: kind } = checkpoint.config;
  const blocks = new Transformer(weights, encoder, 'blocks', 'norm');
  const embedding = weights.linear('patch_embed.proj');
  const head = weights.linear('head');
  const { dim } = encoder;
  const patches = (imageHeight / side) * (imageWidth / side);
  const table = tf.reshape(weights.tensor('pos_embed'), [1, 1 + patches, dim]);
  const cls = tf.add(weights.tensor('cls_token'), tf.slice(table, [0, 0, 0], [1, 1, dim]));
  const positions = tf.slice(table, [0, 1, 0], [1, patches, dim]);
  return (images) =>
    fetched(() => {
      const count = images.shape[0] as number;
      const cut = patchRows(images, side);
      const rowsOfPixels = tf.tensor(cut, [count * patches, 3 * side * side], 'float32');
      const embedded = tf.reshape(linear(tf, rowsOfPixels, embedding), [count, patches, dim]);
      const tokens = tf.concat([tf.tile(cls, [count, 1, 1]), tf.add(embedded, positions)], 1);
      const flat = tf.reshape(tokens, [count * (patches + 1), dim]);
      const normed = tf.reshape(blocks.forward(flat, patches + 1), [count, patches + 1, dim]);
      if (kind === 'cls') {
        return linear(
          tf,
          tf.reshape(tf.slice(normed, [0, 0, 0], [count, 1, dim]), [count, dim]),
          head,
        );
      }
      const own = tf.slice(normed, [0, 1, 0], [count, patches, dim]);
      return tf.reshape(linear(tf, tf.reshape(own, [count * patches, dim]), head), [
        count,
        patches,
      ]);
    }, tf);
}

async function fetched(work: () => TfTensor, tf: TensorFlow): Promise<Tensor> {
  const result = tf.tidy(work);
  try {
    return { data: await result.data(), shape: result.shape };
  } finally {
    result.dispose();
  }
}

/**
 * Images [n, 3, H, W] as rows of patches [n · L, 3 · side · side], values ordered (channel, row, column). Plain JavaScript is
 * faster at this than either backend's transposition of rank 6.
 */
export function patchRows({ data, shape }: Tensor, side: number): Float32Array {
  const [count, channels, height, width] = shape as [number, number, number, number];
  const result = new Float32Array(data.length);
  let at = 0;
  for (let image = 0; image < count; image++) {
    for (let top = 0; top < height; top += side) {
      for (let left = 0; left < width; left += side) {
        for (let channel = 0; channel < channels; channel++) {
          for (let row = 0; row < side; row++) {
            const from = ((image * channels + channel) * height + top + row) * width + left;
            result.set(data.subarray(from, from + side), at);
            at += side;
          }
        }
      }
    }
  }
  return result;
}
