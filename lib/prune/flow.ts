/** Follows the patches through a graph, node by node in its order. */
import { LtrpError, unsupported } from '../errors.js';
import type { StoredGraph, StoredNode, StoredTensor } from '../onnx/stored.js';
import { changes, plain, sizeWas, tokensOf, type Axis } from './axes.js';
import {
  Call,
  hasStale,
  isTouched,
  samePair,
  type Editor,
  type Findings,
  type Known,
} from './call.js';
import { attribute, called, constantOf, readsOf, type Constant, type Entry } from './graph.js';
import { Refusal } from './refusal.js';
import { ruleFor } from './rules/index.js';
import { sameShape } from './rules/parts.js';
import { Size } from './size.js';

/** Values by name; a branch has its own and sees those around it. */
export class Scope {
  readonly #known = new Map<string, Known>();
  readonly #outer: Scope | undefined;

  constructor(
    private readonly constants: ReadonlyMap<string, () => Constant>,
    outer?: Scope,
  ) {
    this.#outer = outer;
  }

  get(name: string): Known | undefined {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const constant = this.constants.get(name)?.();
    if (constant === undefined) return this.#outer?.get(name);
    const made = knownConstant(constant);
    this.#known.set(name, made);
    return made;
  }

  set(name: string, known: Known): void {
    this.#known.set(name, known);
  }
}

export function knownConstant({ dims, values, uniform }: Constant): Known {
  const axis = (size: number): Axis => plain(Size.of(size));
  return {
    axes: dims.map((size) =>
      uniform === true ? axis(size).map((each) => ({ ...each, uniform })) : axis(size),
    ),
    values: values?.map((value) => ({ was: Size.of(value), is: Size.of(value) })),
  };
}

/** What happens around each node while a graph is followed. */
export interface Visitor {
  /** The way to change the node, while the model is cut. */
  editor(entry: Entry, scope: Scope): Editor | undefined;
  /** After the node's outputs are known. */
  after(entry: Entry, scope: Scope, mixes: boolean): void;
  /** A branch's entries before and after they are followed; `follow` tells whether sizes change in it. */
  branch(node: StoredNode, name: string, graph: StoredGraph, follow: () => boolean): void;
}

export interface Followed {
  opset: number;
  findings: Findings;
  visitor: Visitor;
  /** What is not understood is refused, else lost. */
  strict: boolean;
  /** Reads a small tensor that lies outside the model. */
  outside: (tensor: StoredTensor, length: number) => Uint8Array | undefined;
}

/**
 * Returns whether a node mixed tokens.
 *
 * @throws {LtrpError} that names the node, if `strict`.
 */
export function follow(entries: readonly Entry[], scope: Scope, followed: Followed): boolean {
  let mixed = false;
  for (const entry of entries) {
    const { node } = entry;
    let mixes = false;
    try {
      const outputs = nodeOutputs(entry, scope, followed, () => (mixes = true));
      node.output.forEach((name, index) => {
        if (name !== '') scope.set(name, outputs[index] ?? {});
      });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const touched = readsOf(node).some((name) => isTouched(scope.get(name) ?? {}));
      if (followed.strict && touched) throw refusal(node, error.message);
      for (const name of node.output) scope.set(name, touched ? { lost: true } : {});
      mixes = touched;
    }
    followed.visitor.after(entry, scope, mixes);
    mixed ||= mixes;
  }
  return mixed;
}

export function refusal(node: StoredNode, reason: string): LtrpError {
  return unsupported(`The model cannot be cut at ${called(node)}: ${reason}.`);
}

function nodeOutputs(
  entry: Entry,
  scope: Scope,
  followed: Followed,
  setMixes: () => void,
): Known[] {
  const { node } = entry;
  if (node.op_type === 'Constant' && node.domain === '')
    return [constantNode(node, followed.outside)];
  if (node.op_type === 'If' && node.domain === '')
    return ifOutputs(node, scope, followed, setMixes);
  const captured = node.attribute.some(({ g }) => g != null) ? readsOf(node) : node.input;
  const inputs = node.input.map((name) => (name === '' ? undefined : (scope.get(name) ?? {})));
  const touched = captured.some((name) => isTouched(scope.get(name) ?? {}));
  if (touched && captured !== node.input)
    throw new Refusal('it is a loop, and what it does to patches is not followed');
  const call = new Call(
    node,
    inputs,
    followed.opset,
    followed.findings,
    followed.visitor.editor(entry, scope),
  );
  const outputs = ruleFor(node)(call);
  if (call.mixes) setMixes();
  const stale = elementsOf(node.op_type, inputs).some((known) => hasStale(known ?? {}));
  if (stale && outputs.some(({ axes }) => axes?.some(changes) === true))
    throw new Refusal('it computes with the number of all patches');
  // An output that the rule says nothing of may hold patches.
  return node.output.map((_, index) => {
    const known = outputs[index] ?? {};
    if (touched && known.axes === undefined) return { lost: true };
    return stale && known.values === undefined ? { ...known, stale } : known;
  });
}

/** Operators whose outputs hold no elements of their inputs. */
const shapesOnly = new Set(
  'ConstantOfShape RandomNormalLike RandomUniformLike Range Shape Size'.split(' '),
);
/** Operators whose outputs hold elements of their first input only; the others are shapes, places and axes. */
const firstOnly = new Set(
  'Expand Gather GatherElements GatherND Pad Reshape Resize Slice Split Tile TopK'.split(' '),
);

/** The inputs whose elements the outputs are made of. */
function elementsOf(
  operator: string,
  inputs: readonly (Known | undefined)[],
): readonly (Known | undefined)[] {
  return shapesOnly.has(operator) ? [] : firstOnly.has(operator) ? inputs.slice(0, 1) : inputs;
}

function constantNode(node: StoredNode, outside: Followed['outside']): Known {
  const tensor = attribute(node, 'value')?.t;
  if (tensor != null) return knownConstant(constantOf(tensor, outside));
  const whole = attribute(node, 'value_int') ?? attribute(node, 'value_ints');
  if (whole !== undefined) {
    const list = whole.name === 'value_ints';
    const values = (list ? whole.ints : [whole.i]).map((value) =>
      typeof value === 'number' ? value : value.toNumber(),
    );
    return knownConstant({ dims: list ? [values.length] : [], values });
  }
  const real = attribute(node, 'value_float') ?? attribute(node, 'value_floats');
  if (real === undefined) return {};
  const list = real.name === 'value_floats';
  const values = list ? real.floats : [real.f];
  return knownConstant({ dims: list ? [values.length] : [], values });
}

/** The branch that is taken, if that is known; else both, which must agree. */
function ifOutputs(
  node: StoredNode,
  scope: Scope,
  followed: Followed,
  setMixes: () => void,
): Known[] {
  const condition = scope.get(node.input[0] ?? '');
  const value = condition?.values?.[0];
  const names = ['then_branch', 'else_branch'];
  const touchedCondition = condition !== undefined && isTouched(condition);
  const taken =
    value?.was.number === undefined || !value.was.is(value.is)
      ? names
      : [value.was.is(0) ? 'else_branch' : 'then_branch'];
  if (touchedCondition && taken.length > 1)
    throw new Refusal('which branch it takes depends on the number of kept patches');
  const results = taken.map((name) => {
    const graph = attribute(node, name)?.g;
    if (graph == null) throw new Refusal('it lacks a branch');
    return branchOutputs(node, name, graph, scope, followed, setMixes);
  });
  const [first, second] = results as [Known[], Known[]?];
  return first.map((known, index) => {
    const other = second?.[index];
    if (other === undefined) return known;
    const same =
      known.axes !== undefined && other.axes !== undefined && sameShape(known.axes, other.axes);
    const touched = isTouched(known) || isTouched(other);
    if (touched && !same) throw new Refusal('its branches have outputs of different shapes');
    const values =
      known.values?.length === other.values?.length &&
      known.values?.every((each, at) => samePair(each, other.values?.[at] ?? each)) === true
        ? known.values
        : undefined;
    return same ? { axes: known.axes, values, stale: hasStale(known) || hasStale(other) } : {};
  });
}

function branchOutputs(
  node: StoredNode,
  name: string,
  graph: StoredGraph,
  outer: Scope,
  followed: Followed,
  setMixes: () => void,
): Known[] {
  const constants = new Map(
    graph.initializer.map((tensor) => [
      tensor.name,
      (): Constant => constantOf(tensor, followed.outside),
    ]),
  );
  const scope = new Scope(constants, outer);
  followed.visitor.branch(node, name, graph, () => {
    const inner = graph.node.map((each) => ({ node: each }));
    if (follow(inner, scope, followed)) setMixes();
    return graph.node.some(({ output }) =>
      output.some((each) => scope.get(each)?.axes?.some(changes) === true),
    );
  });
  return graph.output.map(({ name: output }) => scope.get(output) ?? {});
}

/** Whether a tensor has images, tokens and width, in this order, so that whole tokens can be taken from it. */
export function isTokenTable(
  axes: readonly Axis[] | undefined,
  batch: string | undefined,
): boolean {
  const [images, tokens, width] = axes ?? [];
  return (
    axes?.length === 3 &&
    batch !== undefined &&
    images?.length === 1 &&
    images[0]?.id === batch &&
    tokens?.length === 1 &&
    tokensOf(tokens) !== undefined &&
    sizeWas(width ?? []).number !== undefined &&
    tokensOf(width ?? []) === undefined
  );
}
