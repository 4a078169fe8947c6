/** A small vision transformer as an ONNX graph, whole or with its tokens taken by hand: 4 x 5 patches between two other tokens. */
import { modelType } from '../../lib/onnx/schema.js';

export interface NodeObject {
  name: string;
  op_type: string;
  domain?: string;
  input: string[];
  output: string[];
  attribute: Record<string, unknown>[];
}

export interface GraphObject {
  node: NodeObject[];
  initializer: Record<string, unknown>[];
  input: Record<string, unknown>[];
  output: Record<string, unknown>[];
  functions: Record<string, unknown>[];
}

export const grid = { rows: 4, columns: 5, patches: 20, patch: 8, width: 8 };

export interface SmallVitOptions {
  /** The tokens of an input `keep` are taken by hand, with operators that the rewriting does not use. */
  byHand?: boolean;
  /** Counts of tokens stand in shapes and limits as numbers (default), or are computed. */
  counts?: 'numbers' | 'computed';
  /** The patch projection is a product with patches that were cut out. */
  unfolded?: boolean;
  /** Images of a run. Default: any. */
  images?: number;
  /** A relative bias joins the scores; by hand for one image only. */
  bias?: boolean;
}

/** Numbers in [-1, 1) that look random and are the same in every run. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed * 7919 + 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

const bytesOf = (data: Float32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

export class GraphMaker {
  readonly graph: GraphObject = { node: [], initializer: [], input: [], output: [], functions: [] };
  #seed = 1;

  weight(name: string, dims: number[], scale = 1): string {
    const data = numbers(
      dims.reduce((a, b) => a * b, 1),
      this.#seed++,
    ).map((value) => value * scale);
    this.graph.initializer.push({ name, dims, data_type: 1, raw_data: bytesOf(data) });
    return name;
  }

  integers(values: number[], dims: number[] = [values.length]): string {
    const name = `int${dims.length}_${values.join('_').replaceAll('-', 'm')}`;
    if (!this.graph.initializer.some((each) => each.name === name)) {
      const data = BigInt64Array.from(values, BigInt);
      this.graph.initializer.push({ name, dims, data_type: 7, raw_data: bytesOf(data) });
    }
    return name;
  }

  node(
    name: string,
    op_type: string,
    input: string[],
    attributes: Record<string, number | number[]> = {},
  ): string {
    this.graph.node.push(makeNode(name, op_type, input, [name], attributes));
    return name;
  }

  input(name: string, elem_type: number, dims: (number | string)[]): void {
    this.graph.input.push(info(name, elem_type, dims));
  }

  output(name: string, dims: (number | string)[]): void {
    this.graph.output.push(info(name, 1, dims));
  }
}

export function makeNode(
  name: string,
  op_type: string,
  input: string[],
  output: string[],
  attributes: Record<string, number | number[]> = {},
): NodeObject {
  const attribute = Object.entries(attributes).map(([key, value]) =>
    Array.isArray(value) ? { name: key, type: 7, ints: value } : { name: key, type: 2, i: value },
  );
  return { name, op_type, input, output, attribute };
}

function info(name: string, elem_type: number, dims: (number | string)[]): Record<string, unknown> {
  const dim = dims.map((size) =>
    typeof size === 'number' ? { dim_value: size } : { dim_param: size },
  );
  return { name, type: { tensor_type: { elem_type, shape: { dim } } } };
}

export function encode({ functions, ...graph }: GraphObject, opset = 17): Uint8Array {
  return modelType
    .encode(
      modelType.fromObject({
        ir_version: 8,
        graph: { name: 'small', ...graph },
        functions,
        opset_import: [
          { domain: '', version: opset },
          { domain: 'test', version: 1 },
          { domain: 'com.microsoft', version: 1 },
        ],
      }),
    )
    .finish();
}

/** Outputs: `tokens` [n, T, 8], `first` [n, 8] (the class token), `mean` [n, 8] (over the patches). */
export function smallVit(options: SmallVitOptions = {}): GraphObject {
  const { byHand = false, counts = 'numbers', unfolded = false, images, bias = false } = options;
  const { rows, columns, patches, patch, width } = grid;
  const all = patches + 2;
  const made = new GraphMaker();
  const { graph } = made;
  const n = images ?? 'n';
  made.input('pixels', 1, [n, 3, rows * patch, columns * patch]);
  if (byHand) made.input('keep', 7, [n, 'k']);
  const batch = made.node('images', 'Gather', [
    made.node('shape', 'Shape', ['pixels']),
    made.integers([0]),
  ]);
  let tokens: string;
  if (unfolded) {
    const cut = made.node('cut', 'Reshape', [
      'pixels',
      made.integers([-1, 3, rows, patch, columns, patch]),
    ]);
    const turned = made.node('turned', 'Transpose', [cut], { perm: [0, 2, 4, 1, 3, 5] });
    const flat = made.node('flat', 'Reshape', [
      turned,
      made.integers([-1, patches, 3 * patch * patch]),
    ]);
    tokens = made.node('embedded', 'MatMul', [
      flat,
      made.weight('projection', [3 * patch * patch, width], 0.2),
    ]);
  } else {
    const weights = [
      made.weight('projection', [width, 3, patch, patch], 0.2),
      made.weight('projection_bias', [width]),
    ];
    const conv = made.node('conv', 'Conv', ['pixels', ...weights], {
      kernel_shape: [patch, patch],
      strides: [patch, patch],
    });
    const flat = made.node('flat', 'Reshape', [conv, made.integers([0, width, -1])]);
    tokens = made.node('embedded', 'Transpose', [flat], { perm: [0, 2, 1] });
  }
  const spread = made.node('one_each', 'Concat', [batch, made.integers([1, 1])], { axis: 0 });
  const first = made.node('class', 'Expand', [made.weight('class_token', [1, 1, width]), spread]);
  const last = made.node('register', 'Expand', [
    made.weight('register_token', [1, 1, width]),
    spread,
  ]);
  const joined = made.node('joined', 'Concat', [first, tokens, last], { axis: 1 });
  let x = made.node('placed', 'Add', [joined, made.weight('positions', [1, all, width])]);
  let chosen = '';
  if (byHand) {
    const one = made.integers([1]);
    const shifted = made.node('hand_ids', 'Add', ['keep', one]);
    const column = made.node('hand_column', 'Concat', [batch, one], { axis: 0 });
    const zero = made.node('hand_zero', 'Expand', [made.integers([0], [1, 1]), column]);
    const end = made.node('hand_end', 'Expand', [made.integers([all - 1], [1, 1]), column]);
    chosen = made.node('hand_all', 'Concat', [zero, shifted, end], { axis: 1 });
    const index = made.node('hand_index', 'Unsqueeze', [chosen, made.integers([-1])]);
    x = made.node('hand_taken', 'GatherND', [x, index], { batch_dims: 1 });
  }
  const ones = ['ones', 'zeros'].map((name, value) => {
    const data = new Float32Array(width).fill(1 - value);
    graph.initializer.push({ name, dims: [width], data_type: 1, raw_data: bytesOf(data) });
    return name;
  });
  const normed = made.node('normed', 'LayerNormalization', [x, ...ones], { axis: -1 });
  const free = byHand || counts === 'computed';
  const heads = (name: string): string => {
    const product = made.node(`${name}_product`, 'MatMul', [
      normed,
      made.weight(name, [width, width]),
    ]);
    const shape = free
      ? made.integers([0, -1, 2, width / 2])
      : made.integers(images === undefined ? [-1, all, 2, width / 2] : [images, all, 2, width / 2]);
    return made.node(`${name}_split`, 'Reshape', [product, shape]);
  };
  const q = made.node('q_turned', 'Transpose', [heads('q')], { perm: [0, 2, 1, 3] });
  const k = made.node('k_turned', 'Transpose', [heads('k')], { perm: [0, 2, 3, 1] });
  const v = made.node('v_turned', 'Transpose', [heads('v')], { perm: [0, 2, 1, 3] });
  let scores = made.node('scores', 'MatMul', [q, k]);
  if (bias) {
    let table = made.weight('bias', [1, 2, all, all], 3);
    if (byHand) {
      const ids = made.node('hand_row', 'Gather', [chosen, made.integers([0], [])], { axis: 0 });
      table = made.node('hand_rows', 'Gather', [table, ids], { axis: 2 });
      table = made.node('hand_columns', 'Gather', [table, ids], { axis: 3 });
    }
    scores = made.node('biased', 'Add', [scores, table]);
  }
  const weights = made.node('weights', 'Softmax', [scores], { axis: -1 });
  const context = made.node('context', 'MatMul', [weights, v]);
  const turned = made.node('context_turned', 'Transpose', [context], { perm: [0, 2, 1, 3] });
  const merged = made.node('merged', 'Reshape', [
    turned,
    free ? made.integers([0, -1, width]) : made.integers([images ?? -1, all, width]),
  ]);
  const projected = made.node('projected', 'MatMul', [merged, made.weight('out', [width, width])]);
  x = made.node('summed', 'Add', [x, projected]);
  made.node('tokens', 'LayerNormalization', [x, ...ones], { axis: -1 });
  made.node('first', 'Gather', ['tokens', made.integers([0], [])], { axis: 1 });
  const end = free ? -1 : all - 1;
  const only = made.node('only', 'Slice', [
    'tokens',
    made.integers([1]),
    made.integers([end]),
    made.integers([1]),
  ]);
  made.node('mean', 'ReduceMean', [only], { axes: [1], keepdims: 0 });
  made.output('tokens', [n, free ? 't' : all, width]);
  made.output('first', [n, width]);
  made.output('mean', [n, width]);
  return graph;
}
