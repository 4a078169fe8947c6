/** One node as its rule sees it: what is known of its inputs, and ways to change it. */
import type { StoredNode } from '../onnx/stored.js';
import { changes, plain, sizeIs, sizeWas, tokensOf, type Axis, type Join } from './axes.js';
import { integer, integers, attribute } from './graph.js';
import { Refusal } from './refusal.js';
import { Size } from './size.js';

/** A number of the model: as it is, and once the model is cut. */
export interface Pair {
  was: Size;
  is: Size;
  /** It was made of how many tokens there are. */
  counted?: boolean;
}

/** What is known of a tensor. Nothing is known of one without axes. */
export interface Known {
  axes?: readonly Axis[] | undefined;
  /** Its numbers in raster order: shapes and what is computed from them. */
  values?: readonly Pair[] | undefined;
  /** It has to do with patches, but nobody knows how. */
  lost?: boolean;
  /** The number of all patches is in its elements, though nobody knows how: `values` does not tell. */
  stale?: boolean;
}

/** What only the cut model has; while the model is only read, there is none. */
export interface Editor {
  /** Makes a tensor int64 [n] of these sizes and returns its name. */
  shape(sizes: readonly (Size | number)[]): string;
  /** Cuts a table that joins tokens: `name` with axes `axes` is joined by a tensor of axes `result`. Returns the cut one's name. */
  cutTable(name: string, axes: readonly Axis[], join: Join, result: readonly Axis[]): string;
  /** Spreads axes of size 1; the name of what results. */
  expand(name: string, sizes: readonly (Size | number)[]): string;
  /** Replaces the node by others. */
  replace(nodes: readonly NewNode[]): void;
  setInput(index: number, name: string): void;
}

export interface NewNode {
  /** Default: its output's. */
  name?: string;
  op_type: string;
  input: string[];
  output: string[];
  attribute?: Record<string, number | number[]>;
}

/** What the rules of patch projections and of drawn masks tell about the whole graph. */
export interface Findings {
  /** Id of the axis that counts images. */
  batch?: string;
  /** Names of the nodes that project patches. */
  projections: string[];
  /** Why the convolution that was met is none. */
  notProjection?: string;
  /** A node that draws its own patches, and the tensor it takes them from. */
  draw?: { output: string; source: string; indices: string };
}

export class Call {
  /** Set by rules of operators whose result for one token depends on others. */
  mixes = false;

  constructor(
    readonly node: StoredNode,
    readonly inputs: readonly (Known | undefined)[],
    readonly opset: number,
    readonly findings: Findings,
    readonly editor: Editor | undefined,
  ) {}

  int(name: string): number | undefined;
  int(name: string, otherwise: number): number;
  int(name: string, otherwise?: number): number | undefined {
    return otherwise === undefined ? integer(this.node, name) : integer(this.node, name, otherwise);
  }

  ints(name: string): number[] | undefined {
    return integers(this.node, name);
  }

  text(name: string): string | undefined {
    const found = attribute(this.node, name);
    return found === undefined ? undefined : Buffer.from(found.s).toString();
  }

  has(index: number): boolean {
    return (this.node.input[index] ?? '') !== '';
  }

  /** @throws {Refusal} where they are not known. */
  axes(index: number): readonly Axis[] {
    const axes = this.inputs[index]?.axes;
    if (axes === undefined) {
      throw new Refusal(`the shape of its input '${this.node.input[index] ?? ''}' is not known`);
    }
    return axes;
  }

  values(index: number): readonly Pair[] | undefined {
    return this.inputs[index]?.values;
  }

  /** Numbers that no cut changes. */
  numbers(index: number): number[] | undefined {
    const numbers = this.values(index)?.map(({ was, is }) => (was.is(is) ? was.number : undefined));
    return numbers === undefined || numbers.includes(undefined) ? undefined : (numbers as number[]);
  }

  /** Axes given as an attribute or, in newer operator sets, as an input; never negative. */
  axesArgument(input: number, rank: number): number[] | undefined {
    const given = this.ints('axes') ?? (this.has(input) ? this.numbers(input) : undefined);
    if (given === undefined && this.has(input)) throw new Refusal('its axes are not constant');
    return given?.map((axis) => (axis < 0 ? axis + rank : axis));
  }

  /** Whether the cut changes anything that the node reads. */
  get touched(): boolean {
    return this.inputs.some((known) => known !== undefined && isTouched(known));
  }
}

/** Counted behind the cut, numbers follow the kept patches; counted before it, they do not. */
const isStale = ({ was, is, counted }: Pair): boolean => counted === true && was.is(is);

/** Whether the number of all patches is in elements of the tensor. */
export const hasStale = ({ values, stale }: Known): boolean =>
  stale === true || values?.some(isStale) === true;

export const isTouched = ({ axes, values, lost }: Known): boolean =>
  lost === true ||
  axes?.some((axis) => tokensOf(axis) !== undefined || changes(axis)) === true ||
  values?.some(({ was, is }) => !was.is(is)) === true;

export const pair = (value: number): Pair => ({ was: Size.of(value), is: Size.of(value) });
export const vector = (values: readonly Pair[]): Known => ({
  axes: [plain(Size.of(values.length))],
  values,
});
export const pairOf = (axis: Axis): Pair => ({
  was: sizeWas(axis),
  is: sizeIs(axis),
  counted: tokensOf(axis) !== undefined,
});
export const samePair = (a: Pair, b: Pair): boolean => a.was.is(b.was) && a.is.is(b.is);

/** Index of an axis, never negative. */
export const place = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
