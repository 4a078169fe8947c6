/** Puts an ONNX graph together: nodes in order of computation, weights by canonical name, small integer constants. */
import type { NativeTensor } from '../native/binding.js';
import {
  attributeTypes,
  dataTypes,
  type AttributeMessage,
  type DataType,
  type NodeMessage,
  type ValueInfoMessage,
} from './schema.js';

/** A tensor in the graph, by its name. */
export type Value = string;

/** A constant of the graph; `data` is written as it is. */
export interface Initializer {
  name: string;
  type: DataType;
  dims: readonly number[];
  data: Float32Array | BigInt64Array;
}

export interface Graph {
  name: string;
  nodes: NodeMessage[];
  inputs: ValueInfoMessage[];
  outputs: ValueInfoMessage[];
  initializers: Initializer[];
}

/** A number is a fixed size, a string names a size that each run may choose. */
export type Dimension = number | string;

/** Integers are ONNX ints; a float says so. */
export type Attribute = number | readonly number[] | { float: number };

export class GraphBuilder {
  readonly #graph: Graph;
  readonly #constants = new Map<string, Value>();
  readonly #counts = new Map<string, number>();
  #scope = '';

  constructor(
    name: string,
    private readonly weights: Record<string, NativeTensor>,
  ) {
    this.#graph = { name, nodes: [], inputs: [], outputs: [], initializers: [] };
  }

  get graph(): Graph {
    return this.#graph;
  }

  input(name: string, type: DataType, shape: readonly Dimension[], description: string): Value {
    this.#graph.inputs.push(valueInfo(name, type, shape, description));
    return name;
  }

  /** Declares `value` as the graph's output `name`. */
  output(value: Value, name: string, shape: readonly Dimension[], description: string): void {
    const producer = this.#graph.nodes.find((node) => node.output.includes(value));
    if (producer === undefined) throw new Error(`No node computes ${value}.`);
    producer.output = producer.output.map((output) => (output === value ? name : output));
    for (const node of this.#graph.nodes) {
      node.input = node.input.map((input) => (input === value ? name : input));
    }
    this.#graph.outputs.push(valueInfo(name, 'float32', shape, description));
  }

  /** Nodes added by `build` are named below `scope`. */
  within<T>(scope: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = `${outer}${scope}/`;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  /** A weight of the checkpoint, its values as they are stored; `dims` declares another shape of the same size. */
  weight(name: string, dims?: readonly number[]): Value {
    const tensor = this.weights[name];
    if (tensor === undefined) throw new Error(`The checkpoint has no tensor ${name}.`);
    if (!this.#constants.has(name)) {
      this.#constants.set(name, name);
      const { data, shape } = tensor;
      this.#graph.initializers.push({ name, type: 'float32', dims: dims ?? shape, data });
    }
    return name;
  }

  /** A list of integers; equal lists are one constant. */
  integers(...values: number[]): Value {
    const key = `[${values.join(',')}]`;
    return this.#constant(key, () => ({
      name: key,
      type: 'int64',
      dims: [values.length],
      data: BigInt64Array.from(values, BigInt),
    }));
  }

  /** A single integer, of rank 0. */
  integer(value: number): Value {
    const key = String(value);
    return this.#constant(key, () => ({
      name: key,
      type: 'int64',
      dims: [],
      data: BigInt64Array.of(BigInt(value)),
    }));
  }

  /** A single float, of rank 0. */
  float(name: string, value: number): Value {
    return this.#constant(name, () => ({
      name,
      type: 'float32',
      dims: [],
      data: Float32Array.of(value),
    }));
  }

  /** Adds a node with one output. */
  node(
    operator: string,
    inputs: readonly Value[],
    attributes: Record<string, Attribute> = {},
  ): Value {
    return this.nodes(operator, inputs, 1, attributes)[0] as Value;
  }

  /** Adds a node with several outputs. */
  nodes(
    operator: string,
    inputs: readonly Value[],
    outputs: number,
    attributes: Record<string, Attribute> = {},
  ): Value[] {
    const base = `${this.#scope}${operator}`;
    const count = this.#counts.get(base) ?? 0;
    this.#counts.set(base, count + 1);
    const name = count === 0 ? base : `${base}_${count}`;
    const output = Array.from({ length: outputs }, (_, index) =>
      outputs === 1 ? `${name}:out` : `${name}:${index}`,
    );
    this.#graph.nodes.push({
      name,
      op_type: operator,
      input: [...inputs],
      output,
      attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
    });
    return output;
  }

  /** Joins tensors along an axis. */
  concat(axis: number, ...parts: readonly Value[]): Value {
    return this.node('Concat', parts, { axis });
  }

  #constant(key: string, make: () => Initializer): Value {
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const initializer = make();
    this.#constants.set(key, initializer.name);
    this.#graph.initializers.push(initializer);
    return initializer.name;
  }
}

function attribute(name: string, value: Attribute): AttributeMessage {
  if (typeof value === 'number') return { name, type: attributeTypes.int, i: value };
  if ('float' in value) return { name, type: attributeTypes.float, f: value.float };
  return { name, type: attributeTypes.ints, ints: [...value] };
}

function valueInfo(
  name: string,
  type: DataType,
  shape: readonly Dimension[],
  description: string,
): ValueInfoMessage {
  const dim = shape.map((size) =>
    typeof size === 'number' ? { dim_value: size } : { dim_param: size },
  );
  return {
    name,
    doc_string: description,
    type: { tensor_type: { elem_type: dataTypes[type], shape: { dim } } },
  };
}
