/** Tensors in files: raw float32 with a shape beside it (bench/PROTOCOL.md), and safetensors in float32. */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import type { MaeConfig, RankerConfig, TransformerConfig } from '../../lib/index.js';

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
function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}

/** Geometry as our checkpoints' headers have it. */
interface StoredTransformer {
  dim: number;
  depth: number;
  heads: number;
  mlp_dim: number;
}

interface Header {
  __metadata__: { config: string };
  [name: string]: unknown;
}

export interface Checkpoint {
  tensors: ReadonlyMap<string, Tensor>;
  imageHeight: number;
  imageWidth: number;
  patchSize: number;
  layerNormEps: number;
  encoder: TransformerConfig;
  decoder: TransformerConfig | null;
  head: RankerConfig['head'] | null;
}

/** Geometry and normalisation of one of our teachers, from the file's header alone. */
export function readTeacherConfig(
  path: string,
): Pick<
  MaeConfig,
  'encoder' | 'decoder' | 'patchSize' | 'imageHeight' | 'imageWidth' | 'mean' | 'std'
> {
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
    const header = JSON.parse(bytes(length, 8).toString('utf8')) as Header;
    const config = JSON.parse(header.__metadata__.config) as {
      image_height: number;
      image_width: number;
      patch_size: number;
      encoder: StoredTransformer;
      decoder: StoredTransformer;
      mean: [number, number, number];
      std: [number, number, number];
    };
    return {
      encoder: transformer(config.encoder),
      decoder: transformer(config.decoder),
      patchSize: config.patch_size,
      imageHeight: config.image_height,
      imageWidth: config.image_width,
      mean: config.mean,
      std: config.std,
    };
  } finally {
    closeSync(file);
  }
}

/**
 * One of our checkpoints with float32 weights, for the libraries that cannot read it themselves. Position tables that the
 * file leaves out because they are the fixed ones are put in.
 */
export function readCheckpoint(path: string): Checkpoint {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Header;
  const config = JSON.parse(header.__metadata__.config) as {
    image_height: number;
    image_width: number;
    patch_size: number;
    layer_norm_eps: number;
    encoder: StoredTransformer;
    decoder?: StoredTransformer | null;
    head?: RankerConfig['head'];
    positions: string;
    decoder_positions?: string;
  };
  const tensors = new Map<string, Tensor>();
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const entry = value as { dtype: string; shape: number[]; data_offsets: [number, number] };
    if (entry.dtype !== 'F32') throw new Error(`${name} of ${path} is ${entry.dtype}, not F32.`);
    const [begin, end] = entry.data_offsets;
    const data = floats(bytes.subarray(start + begin, start + end));
    tensors.set(name, { data, shape: entry.shape });
  }
  const grid = [config.image_height / config.patch_size, config.image_width / config.patch_size];
  const [gridRows = 0, gridColumns = 0] = grid;
  const encoder = transformer(config.encoder);
  const decoder = config.decoder ? transformer(config.decoder) : null;
  if (config.positions === 'sincos2d') {
    tensors.set('pos_embed', sincosPositions(gridRows, gridColumns, encoder.dim));
  }
  if (decoder !== null && config.decoder_positions === 'sincos2d') {
    tensors.set('decoder_pos_embed', sincosPositions(gridRows, gridColumns, decoder.dim));
  }
  return {
    tensors,
    imageHeight: config.image_height,
    imageWidth: config.image_width,
    patchSize: config.patch_size,
    layerNormEps: config.layer_norm_eps,
    encoder,
    decoder,
    head: config.head ?? null,
  };
}

function transformer({ dim, depth, heads, mlp_dim }: StoredTransformer): MaeConfig['encoder'] {
  return { dim, depth, heads, mlpDim: mlp_dim };
}

/**
 * MAE's fixed table [1, 1 + rows · columns, dim]: of each position sin and cos of the column, then of the row, over the
 * frequencies 1 / 10000^(k / (dim / 4)); zeros for CLS.
 */
export function sincosPositions(gridRows: number, gridColumns: number, dim: number): Tensor {
  const tokens = 1 + gridRows * gridColumns;
  const data = new Float32Array(tokens * dim);
  const quarter = dim / 4;
  for (let token = 1; token < tokens; token++) {
    const row = Math.floor((token - 1) / gridColumns);
    const column = (token - 1) % gridColumns;
    for (let k = 0; k < quarter; k++) {
      const frequency = 1 / 10000 ** (k / quarter);
      const at = token * dim + k;
      data[at] = Math.sin(column * frequency);
      data[at + quarter] = Math.cos(column * frequency);
      data[at + 2 * quarter] = Math.sin(row * frequency);
      data[at + 3 * quarter] = Math.cos(row * frequency);
    }
  }
  return { data, shape: [1, tokens, dim] };
}
