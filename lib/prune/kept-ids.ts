/** The nodes that turn ids of kept patches into tokens. */
import protobuf from 'protobufjs';
import { attributeTypes, modelType } from '../onnx/schema.js';
import type { StoredNode, StoredTensor } from '../onnx/stored.js';
import type { NewNode } from './call.js';
import { Refusal } from './refusal.js';
import { Size } from './size.js';

/** The number of kept patches, which a run chooses. */
export const kept = Size.named('ltrp/kept');

/** Larger than any number of tokens: ONNX's Gather refuses it, and would have taken -1 for the last one. */
const nowhere = 2 ** 40;

export type Put = (
  op_type: string,
  input: string[],
  attributes?: Record<string, number | number[]>,
) => string;

/** Makes nodes and constants under names that the model does not use. */
export class NodeMaker {
  /** Integer constants made so far. */
  readonly constants: StoredTensor[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #integers = new Map<string, string>();

  constructor(
    private readonly taken: Set<string>,
    private readonly opset: number,
  ) {}

  name(base: string): string {
    for (;;) {
      const number = (this.#numbers.get(base) ?? 0) + 1;
      this.#numbers.set(base, number);
      const name = `ltrp/${base}${number === 1 ? '' : `_${number}`}`;
      if (this.taken.has(name)) continue;
      this.taken.add(name);
      return name;
    }
  }

  node({ name = '', op_type, input, output, attribute = {} }: NewNode): StoredNode {
    return decoded('NodeProto', {
      name: name === '' ? output[0] : name,
      op_type,
      input,
      output,
      attribute: Object.entries(attribute).map(([name, value]) =>
        typeof value === 'number'
          ? { name, type: attributeTypes.int, i: value }
          : { name, type: attributeTypes.ints, ints: value },
      ),
    }) as StoredNode;
  }

  /** A constant int64 of these dims; by default a list. */
  integers(values: readonly number[], dims: readonly number[] = [values.length]): string {
    const key = `${values.join()}/${dims.join()}`;
    const known = this.#integers.get(key);
    if (known !== undefined) return known;
    const name = this.name(`integers_${values.slice(0, 4).join('_').replaceAll('-', 'minus_')}`);
    const data = BigInt64Array.from(values, (value) => BigInt(value));
    const raw_data = new Uint8Array(data.buffer);
    this.constants.push(
      decoded('TensorProto', { name, dims, data_type: 7, raw_data }) as StoredTensor,
    );
    this.#integers.set(key, name);
    return name;
  }

  unsqueeze(put: Put, name: string, axes: number[]): string {
    return this.opset < 13
      ? put('Unsqueeze', [name], { axes })
      : put('Unsqueeze', [name, this.integers(axes)]);
  }

  squeeze(put: Put, name: string, axes: number[]): string {
    return this.opset < 13
      ? put('Squeeze', [name], { axes })
      : put('Squeeze', [name, this.integers(axes)]);
  }
}

function decoded(type: 'NodeProto' | 'TensorProto', message: object): unknown {
  const messageType: protobuf.Type = modelType.root.lookupType(`onnx.${type}`);
  return messageType.decode(messageType.encode(messageType.fromObject(message)).finish());
}

export class KeptIds {
  readonly #made = new Map<string, string>();
  readonly #nodes: NewNode[] = [];
  /** int64 [images, kept], checked. */
  #ids = '';
  /** int64 [1] each. */
  #images = '';
  #kept = '';
  #allPatches = '';

  /** `sizes` says which input's axis each named size is. */
  constructor(
    private readonly maker: NodeMaker,
    private readonly input: string,
    private readonly sizes: ReadonlyMap<string, readonly [input: string, axis: number]>,
  ) {}

  #put(
    op_type: string,
    input: string[],
    attribute: Record<string, number | number[]> = {},
    base = op_type.toLowerCase(),
  ): string {
    const output = this.maker.name(base);
    this.#nodes.push({ op_type, input, output: [output], attribute });
    return output;
  }

  /** The nodes that compute what was asked for since the last call. */
  taken(): NewNode[] {
    return this.#nodes.splice(0);
  }

  /**
   * `tokens` [images, kept + others, width] of `source` [images, all, width]. Ids below 0 or beyond the grid, and another number of
   * rows than there are images, fail in the run.
   */
  take(
    source: string,
    tokens: string,
    patches: Size,
    around: readonly [before: number, after: number],
    width: Size,
  ): NewNode[] {
    const maker = this.maker;
    const shape = this.#put('Shape', [source]);
    this.#images = this.#put('Gather', [shape, maker.integers([0])], { axis: 0 }, 'images');
    const all = this.#put('Gather', [shape, maker.integers([1])], { axis: 0 }, 'all');
    const idsShape = this.#put('Shape', [this.input]);
    this.#kept = this.#put('Gather', [idsShape, maker.integers([1])], { axis: 0 }, 'kept');
    const { number } = patches;
    this.#allPatches =
      number === undefined
        ? this.#put('Sub', [all, maker.integers([around[0] + around[1]])], {}, 'patches')
        : maker.integers([number]);
    const last =
      number === undefined
        ? this.#put('Sub', [this.#allPatches, maker.integers([1])], {}, 'last_patch')
        : maker.integers([number - 1]);
    const rows = this.#put('Concat', [this.#images, this.#kept], { axis: 0 });
    // Fails unless there is one row of ids for each image.
    const ids = this.#put('Reshape', [this.input, rows], {}, 'one_row_of_ids_for_each_image');
    const below = this.#put('Less', [ids, maker.integers([0])]);
    const beyond = this.#put('Less', [last, ids]);
    const outside = this.#put('Or', [below, beyond]);
    this.#ids = this.#put('Where', [outside, maker.integers([nowhere]), ids]);
    const index = this.index(around);
    const firsts = this.#put('Mul', [this.imageNumbers(), all]);
    const places = this.#put('Add', [index, firsts]);
    const flat = this.#put('Reshape', [source, maker.integers([-1, width.number as number])]);
    // Messages of runtimes name the node.
    const name = maker.name('an_id_outside_the_grid_fails_here');
    const output = {
      name,
      op_type: 'Gather',
      input: [flat, places],
      output: [tokens],
      attribute: { axis: 0 },
    };
    return [...this.taken(), output];
  }

  /** int64 [images, 1]: 0, 1, ... */
  imageNumbers(): string {
    return this.#once('images', () => {
      const maker = this.maker;
      const scalar = maker.integers([0], []);
      const count = this.#put('Gather', [this.#images, scalar], { axis: 0 });
      const range = this.#put('Range', [scalar, count, maker.integers([1], [])]);
      return this.#put('Reshape', [range, maker.integers([-1, 1])]);
    });
  }

  /** int64 [images, kept + others]: where the tokens that are left stand among all of them. */
  index([before, after]: readonly [before: number, after: number]): string {
    return this.#once(`index ${before} ${after}`, () => {
      const maker = this.maker;
      const others = (count: number, first: string | undefined): string => {
        const places = Array.from({ length: count }, (_, index) => index);
        const constant = maker.integers(places, [1, count]);
        const shape = this.#put('Concat', [this.#images, maker.integers([count])], { axis: 0 });
        const row = first === undefined ? constant : this.#put('Add', [constant, first]);
        return this.#put('Expand', [row, shape]);
      };
      const parts = [
        before === 0 ? this.#ids : this.#put('Add', [this.#ids, maker.integers([before])]),
      ];
      if (before > 0) parts.unshift(others(before, undefined));
      if (after > 0) {
        const first = this.#put('Add', [this.#allPatches, maker.integers([before])]);
        parts.push(others(after, first));
      }
      return parts.length === 1 ? (parts[0] as string) : this.#put('Concat', parts, { axis: 1 });
    });
  }

  /** int64 [1]: a size that only a run knows. */
  size(size: Size): string {
    const { number } = size;
    if (number !== undefined) return this.maker.integers([number]);
    return this.#once(`size ${size.key}`, () => {
      const terms = size.terms.map(([coefficient, names]) => {
        const factors = names.map((name) => this.#named(name));
        if (coefficient !== 1 || factors.length === 0)
          factors.push(this.maker.integers([coefficient]));
        return factors.reduce((a, b) => this.#put('Mul', [a, b]));
      });
      return terms.reduce((a, b) => this.#put('Add', [a, b]));
    });
  }

  #named(name: string): string {
    if (kept.is(Size.named(name))) return this.#kept;
    const found = this.sizes.get(name);
    if (found === undefined) throw new Refusal('it needs a size that is not known');
    const [input, axis] = found;
    return this.#once(`axis ${input} ${axis}`, () =>
      this.#put('Gather', [this.#put('Shape', [input]), this.maker.integers([axis])], { axis: 0 }),
    );
  }

  #once(key: string, make: () => string): string {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const name = make();
    this.#made.set(key, name);
    return name;
  }
}
