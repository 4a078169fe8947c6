/** A graph of nodes that can be read, and edited where it must be. What is not edited keeps its bytes. */
import {
  toNumber,
  type StoredAttribute,
  type StoredNode,
  type StoredTensor,
} from '../onnx/stored.js';

/** A node, and its bytes while nothing was changed in it. */
export interface Entry {
  node: StoredNode;
  raw?: Uint8Array | undefined;
}

/** A constant: its shape, and its numbers where they are few. */
export interface Constant {
  dims: number[];
  values?: number[] | undefined;
  /** All its numbers are the same. */
  uniform?: boolean;
}

/** Shapes and places have no more numbers than this; of larger constants only the shape matters. */
const mostValues = 64;

const bytesPerElement: Record<number, number> = { 1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 11: 8 };

/** The numbers of a tensor; `external` reads those that lie outside. */
export function constantOf(
  tensor: StoredTensor,
  external: (tensor: StoredTensor, length: number) => Uint8Array | undefined,
): Constant {
  const dims = tensor.dims.map(toNumber);
  const count = dims.reduce((size, dim) => size * dim, 1);
  const width = bytesPerElement[tensor.data_type];
  const uniform = allTheSame(tensor.raw_data, count);
  if (width === undefined || count > mostValues) return { dims, uniform };
  if (tensor.int64_data.length > 0) return { dims, values: tensor.int64_data.map(toNumber) };
  if (tensor.int32_data.length > 0) return { dims, values: [...tensor.int32_data] };
  if (tensor.float_data.length > 0) return { dims, values: [...tensor.float_data] };
  const raw = tensor.external_data.length > 0 ? external(tensor, count * width) : tensor.raw_data;
  if (raw?.byteLength !== count * width) return { dims };
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const read = (index: number): number => {
    const at = index * width;
    switch (tensor.data_type) {
      case 1:
        return view.getFloat32(at, true);
      case 3:
        return view.getInt8(at);
      case 6:
        return view.getInt32(at, true);
      case 7:
        return Number(view.getBigInt64(at, true));
      case 11:
        return view.getFloat64(at, true);
      default:
        return view.getUint8(at);
    }
  };
  const values = Array.from({ length: count }, (_, index) => read(index));
  return { dims, values, uniform: uniform || values.every((value) => value === values[0]) };
}

/** Whether all of `count` elements have the same bytes; that of weights is known after two of them. */
function allTheSame(raw: Uint8Array, count: number): boolean {
  const width = raw.byteLength / count;
  if (count === 0 || raw.byteLength === 0 || !Number.isInteger(width)) return false;
  return Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength - width).equals(
    raw.subarray(width),
  );
}

/** A list of nodes with its constants; the one of a branch sees those of the graph around it. */
export interface Graph {
  entries: Entry[];
  constants: ReadonlyMap<string, () => Constant>;
  outputs: readonly string[];
}

export function attribute(node: StoredNode, name: string): StoredAttribute | undefined {
  return node.attribute.find((each) => each.name === name);
}

export function integer(node: StoredNode, name: string): number | undefined;
export function integer(node: StoredNode, name: string, otherwise: number): number;
export function integer(node: StoredNode, name: string, otherwise?: number): number | undefined {
  const found = attribute(node, name);
  return found === undefined ? otherwise : toNumber(found.i);
}

export function integers(node: StoredNode, name: string): number[] | undefined {
  return attribute(node, name)?.ints.map(toNumber);
}

/** Names that a node reads, those of its branches included unless they are their own. */
export function readsOf(node: StoredNode): string[] {
  const reads = node.input.filter((name) => name !== '');
  for (const { g } of node.attribute) {
    if (g == null) continue;
    const own = new Set([
      ...g.input.map(({ name }) => name),
      ...g.initializer.map(({ name }) => name),
      ...g.node.flatMap(({ output }) => output),
    ]);
    const inside = [...g.node.flatMap(readsOf), ...g.output.map(({ name }) => name)];
    reads.push(...inside.filter((name) => !own.has(name)));
  }
  return reads;
}

/** How messages call a node. */
export function called({ name, op_type, output }: StoredNode): string {
  return name === ''
    ? `the ${op_type} that computes '${output[0] ?? ''}'`
    : `'${name}' (${op_type})`;
}
