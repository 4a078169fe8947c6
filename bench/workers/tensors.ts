/** Tensors in files: raw float32 with a shape beside it (bench/PROTOCOL.md); and what a checkpoint's header says. */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import type { TransformerConfig } from '../../lib/index.js';

export interface Tensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** A tensor in a file, as requests name it. */
export interface TensorFile {
  path: string;
  shape: number[];
}

export function readTensor({ path, shape }: TensorFile): Tensor {
  const bytes = readFileSync(path);
  const count = shape.reduce((product, size) => product * size, 1);
  if (bytes.byteLength !== 4 * count) {
    throw new Error(`${path} has ${bytes.byteLength} bytes instead of ${4 * count}.`);
  }
  return { data: floats(bytes), shape };
}

export function writeTensor(path: string, { data, shape }: Tensor): TensorFile {
  writeFileSync(path, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return { path, shape: [...shape] };
}

/** Copies, because a file's bytes need not begin at a multiple of four. */
export function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}

/** What the benchmark needs of a model's configuration. */
export interface StoredConfig {
  imageHeight: number;
  imageWidth: number;
  patchSize: number;
  encoder: TransformerConfig;
  /** A ranker's is empty. */
  decoder: TransformerConfig;
  mean: [number, number, number];
  std: [number, number, number];
}

/** A transformer as our checkpoints' headers have it. */
type StoredTransformer = Omit<TransformerConfig, 'mlpDim'> & { mlp_dim: number };

/** Geometry and normalisation of one of our models, from the file's header alone. */
export function readConfig(path: string): StoredConfig {
  const file = openSync(path, 'r');
  try {
    const bytes = (length: number, position: number): Buffer => {
      const found = Buffer.alloc(length);
      if (readSync(file, found, 0, length, position) !== length) {
        throw new Error(`${path} ends within its header.`);
      }
      return found;
    };
    const length = Number(bytes(8, 0).readBigUInt64LE(0));
    const header = JSON.parse(bytes(length, 8).toString('utf8')) as {
      __metadata__: { config: string };
    };
    const config = JSON.parse(header.__metadata__.config) as {
      image_height: number;
      image_width: number;
      patch_size: number;
      encoder: StoredTransformer;
      decoder?: StoredTransformer | null;
      mean: [number, number, number];
      std: [number, number, number];
    };
    const transformer = ({ mlp_dim, ...rest }: StoredTransformer): TransformerConfig => ({
      ...rest,
      mlpDim: mlp_dim,
    });
    const { image_height, image_width, patch_size, encoder, decoder, mean, std } = config;
    return {
      imageHeight: image_height,
      imageWidth: image_width,
      patchSize: patch_size,
      encoder: transformer(encoder),
      decoder: transformer(decoder ?? { dim: 0, depth: 0, heads: 0, mlp_dim: 0 }),
      mean,
      std,
    };
  } finally {
    closeSync(file);
  }
}
