/** Follows the graph once more, as it is when cut, and changes what was made for all patches. */
import { copyOf, type StoredGraph, type StoredNode, type StoredValueInfo } from '../onnx/stored.js';
import {
  changes,
  isUniform,
  isUnit,
  others,
  sizeWas,
  tokensOf,
  type Axis,
  type Join,
} from './axes.js';
import type { Editor, NewNode } from './call.js';
import type { Cut } from './cut.js';
import type { Scope, Visitor } from './flow.js';
import { attribute, type Entry } from './graph.js';
import { KeptIds, kept, type NodeMaker, type Put } from './kept-ids.js';
import { Refusal } from './refusal.js';
import { Size } from './size.js';

/** A list of nodes that is being made: the graph's, or a branch's. */
interface Level {
  done: Entry[];
  /** Nodes that go in front of the one that is followed. */
  before: Entry[];
  changed: boolean;
}

export class Cutter implements Visitor {
  readonly #levels: Level[] = [{ done: [], before: [], changed: false }];
  readonly #changed = new Set<StoredNode>();
  readonly #replaced = new Set<StoredNode>();
  readonly #tables = new Map<string, string>();

  constructor(
    private readonly maker: NodeMaker,
    private readonly cut: Cut,
    private readonly batch: string,
    private readonly ids: KeptIds,
    private readonly inputs: readonly string[],
  ) {}

  /** The nodes of the cut graph. */
  get entries(): Entry[] {
    return (this.#levels[0] as Level).done;
  }

  get #level(): Level {
    return this.#levels.at(-1) as Level;
  }

  /** Adds nodes to the graph itself, where branches see them too, or to the branch that is followed. */
  #add(nodes: readonly NewNode[], level: Level = this.#levels[0] as Level): void {
    level.changed = true;
    level.before.push(...nodes.map((node): Entry => ({ node: this.maker.node(node) })));
  }

  editor(entry: Entry): Editor {
    const { node } = entry;
    return {
      shape: (sizes) => this.#shape(sizes),
      cutTable: (name, axes, join, result) => this.#cutTable(name, axes, join, result),
      expand: (name, sizes) => {
        const output = this.maker.name('expand');
        const shape = this.#shape(sizes);
        this.#add([{ op_type: 'Expand', input: [name, shape], output: [output] }], this.#level);
        return output;
      },
      setInput: (index, name) => {
        node.input[index] = name;
        this.#changed.add(node);
        this.#level.changed = true;
      },
      replace: (nodes) => {
        this.#add(nodes, this.#level);
        this.#replaced.add(node);
      },
    };
  }

  after(entry: Entry, scope: Scope): void {
    const level = this.#level;
    level.done.push(...level.before.splice(0));
    const isCut = entry.node.output.includes(this.cut.tensor) && this.#levels.length === 1;
    if (isCut) {
      this.#takeTokens(entry, scope);
      return;
    }
    if (this.#replaced.has(entry.node) || this.#shapeOfNoise(entry, scope)) return;
    level.done.push(this.#changed.has(entry.node) ? { node: entry.node } : entry);
  }

  /** The random numbers that a model draws patches by are an input that goes; its shape is that of others. */
  #shapeOfNoise({ node }: Entry, scope: Scope): boolean {
    const [input = '', output = ''] = [node.input[0], node.output[0]];
    const isNoise = this.inputs.includes(input) && !this.batch.endsWith(`:${input}`);
    if (this.cut.drawnBy === undefined || node.op_type !== 'Shape' || !isNoise) return false;
    const sizes = scope.get(output)?.values;
    if (sizes === undefined) return false;
    const shape = this.#shape(sizes.map(({ was }) => was));
    this.#add([{ op_type: 'Identity', input: [shape], output: [output] }]);
    this.#level.done.push(...this.#level.before.splice(0));
    return true;
  }

  branch(node: StoredNode, name: string, graph: StoredGraph, follow: () => boolean): void {
    const level: Level = { done: [], before: [], changed: false };
    this.#levels.push(level);
    const resized = follow();
    this.#levels.pop();
    if (!level.changed && !resized) return;
    const found = attribute(node, name);
    if (found !== undefined) {
      found.g = copyOf(graph, {
        node: level.done.map(({ node: each }) => each),
        output: graph.output.map(withoutShape),
        value_info: [],
      });
    }
    this.#changed.add(node);
    this.#level.changed = true;
  }

  /** The node keeps its name for the tokens that are left; all of them get another one. */
  #takeTokens(entry: Entry, scope: Scope): void {
    const { tensor, source } = this.cut;
    const { done, before } = this.#level;
    const [images, tokens, width] = scope.get(source)?.axes as [Axis, Axis, Axis];
    let from = source;
    if (source === tensor) {
      from = this.maker.name('all_tokens');
      const output = entry.node.output.map((name) => (name === tensor ? from : name));
      done.push({ node: copyOf(entry.node, { output }) });
    }
    const factor = tokensOf(tokens);
    if (factor === undefined) throw new Error('The cut has no tokens.');
    const [front, behind] = others(factor.tokens ?? []);
    this.#add(
      this.ids.take(
        from,
        tensor,
        factor.was.minus(front + behind),
        [front, behind],
        sizeWas(width),
      ),
    );
    done.push(...before.splice(0));
    const is = kept.plus(front + behind);
    const drawn = sizeWas(scope.get(tensor)?.axes?.[1] ?? []);
    scope.set(tensor, {
      axes: [
        images,
        [{ was: source === tensor ? factor.was : drawn, is, tokens: factor.tokens ?? [] }],
        width,
      ],
    });
  }

  #shape(sizes: readonly (Size | number)[]): string {
    const numbers = sizes.map((size) => (typeof size === 'number' ? size : size.number));
    if (!numbers.includes(undefined)) return this.maker.integers(numbers as number[]);
    const parts = sizes.map((size) =>
      this.ids.size(typeof size === 'number' ? Size.of(size) : size),
    );
    this.#add(this.ids.taken());
    const name = this.maker.name('shape');
    this.#add([{ op_type: 'Concat', input: parts, output: [name], attribute: { axis: 0 } }]);
    return name;
  }

  #cutTable(name: string, own: readonly Axis[], join: Join, result: readonly Axis[]): string {
    const rank = result.length;
    const level = this.#level;
    const key = `${this.#levels.length} ${name} ${join.axes.join()} ${rank}`;
    const known = this.#levels.length === 1 ? this.#tables.get(key) : undefined;
    if (known !== undefined) return known;
    const axes: Axis[] = [...Array.from({ length: rank - own.length }, (): Axis => []), ...own];
    const images = result.findIndex((axis) => axis.length === 1 && axis[0]?.id === this.batch);
    if (images < 0)
      throw new Refusal('it joins a table to patches whose images have no axis of their own');
    const put: Put = (op_type, input, attribute = {}) => {
      const output = this.maker.name(op_type.toLowerCase());
      this.#add([{ op_type, input, output: [output], attribute }], level);
      return output;
    };
    let table = name;
    if (own.length < rank)
      table = this.maker.unsqueeze(
        put,
        table,
        Array.from({ length: rank - own.length }, (_, index) => index),
      );
    const firstOnly = (axis: number): string =>
      put('Slice', [table, ...[0, 1, axis].map((value) => this.maker.integers([value]))]);
    const onImages = axes[images] ?? [];
    if (!isUnit(onImages) && isUniform(onImages)) {
      table = firstOnly(images);
      axes[images] = [];
    }
    const real = join.axes.filter((axis) => {
      const uniform = isUniform(axes[axis] ?? []);
      if (uniform) {
        table = firstOnly(axis);
        axes[axis] = [];
      }
      return !uniform;
    });
    if (real.length > 0 && this.cut.drawnBy !== undefined) {
      throw new Refusal('it joins a table to the patches that the model drew');
    }
    if (real.length > 0) table = this.#gathered(put, table, axes, result, images, real);
    this.#tables.set(key, table);
    return table;
  }

  /**
   * The table's rows (or, on two axes, its entries) of each image's tokens. The axis of images, if the table has one, and those of
   * tokens are put side by side and become one, which a single Gather takes from.
   */
  #gathered(
    put: Put,
    name: string,
    axes: readonly Axis[],
    result: readonly Axis[],
    images: number,
    real: readonly number[],
  ): string {
    const maker = this.maker;
    const perImage = !isUnit(axes[images] ?? []);
    const joined = [images, ...real];
    const rest = result.map((_, at) => at).filter((at) => !joined.includes(at));
    const size = (at: number): Size => sizeWas(axes[at] ?? []);
    let table = put('Transpose', [name], { perm: [...joined, ...rest] });
    const kept = rest.map((at) => size(at).number);
    if (kept.includes(undefined))
      throw new Refusal('it joins a table of a size that only a run knows');
    table = put('Reshape', [table, maker.integers([-1, ...(kept as number[])])]);
    // One axis of the index for each axis of tokens, behind that of the images.
    const places = real.map((at, order) => {
      const factor = tokensOf(result[at] ?? []);
      if (factor === undefined || !changes([factor])) throw new Error('No tokens are joined.');
      const index = this.ids.index(others(factor.tokens ?? []));
      this.#add(this.ids.taken());
      const between = real.flatMap((_, other) => (other === order ? [] : [other + 1]));
      return between.length === 0 ? index : maker.unsqueeze(put, index, between);
    });
    let index = places[0] as string;
    for (let order = 1; order < real.length; order++) {
      const stride = this.#shape([size(real[order] as number)]);
      index = put('Add', [put('Mul', [index, stride]), places[order] as string]);
    }
    if (perImage) {
      const image = this.ids.imageNumbers();
      this.#add(this.ids.taken());
      const stride = this.#shape([real.map(size).reduce((a, b) => a.times(b))]);
      const shape = [-1, ...real.map(() => 1)];
      index = put('Add', [
        put('Reshape', [put('Mul', [image, stride]), maker.integers(shape)]),
        index,
      ]);
    }
    table = put('Gather', [table, index], { axis: 0 });
    const order = [...joined, ...rest];
    return put('Transpose', [table], { perm: result.map((_, at) => order.indexOf(at)) });
  }
}

/** Of a branch's output: runtimes allocate what is declared, and find the shape themselves. */
function withoutShape(info: StoredValueInfo): StoredValueInfo {
  const tensor = info.type?.tensor_type;
  if (tensor?.shape == null) return info;
  return copyOf(info, { type: { tensor_type: copyOf(tensor, { shape: null }) } });
}
