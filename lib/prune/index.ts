/** Cuts a graph: finds its patches, takes the kept ones, and makes what follows fit. */
import { unsupported } from '../errors.js';
import { copyOf, toNumber, type StoredTensor, type StoredValueInfo } from '../onnx/stored.js';
import { others, sizeIs, sizeWas, tokensOf, type Axis } from './axes.js';
import type { Findings } from './call.js';
import { batchOf, findCut, type Cut } from './cut.js';
import { Cutter } from './cutter.js';
import { follow, Scope, type Visitor } from './flow.js';
import { readsOf, type Entry } from './graph.js';
import { kept, KeptIds, NodeMaker } from './kept-ids.js';
import type { StoredModel } from './model.js';
import { Size } from './size.js';

/** Range and Where on int64 are as old as this. */
const oldestOpset = 11;

export interface CutModel {
  /** Constants to add. */
  constants: StoredTensor[];
  /** Names that nodes and outputs read. */
  reads: Set<string>;
  /** Patches of one picture, where the model has a fixed grid. */
  patches: number | undefined;
  /** Tokens in front of the patches where they are taken, and behind. */
  others: readonly [before: number, after: number];
  /** Name of the tensor that holds fewer tokens from here on. */
  tensor: string;
  notes: string[];
}

/** Changes `model` so that it takes the input `input`. */
export function cutModel(model: StoredModel, input: string): CutModel {
  if (model.opset < oldestOpset) {
    throw unsupported(
      `${model.path} has operator set ${model.opset}; export it with ${oldestOpset} or newer.`,
    );
  }
  const { names, opset, outside } = model;
  if (names.has(input)) {
    throw unsupported(
      `${model.path} has a tensor '${input}' already; choose another name for the ids.`,
    );
  }
  const graph = {
    entries: model.entries,
    constants: model.constants,
    outputs: model.outputs.map(({ name }) => name),
  };
  const inputs = realInputs(model);
  const { scope, findings, mixing } = readThrough(model, inputs);
  const cut = findCut(graph, scope, findings, mixing);
  const source = scope.get(cut.source)?.axes ?? [];
  const batch = batchOf(scope, cut.source, findings) ?? '';
  const tokens = tokensOf(source[1] ?? []);
  const around = others(tokens?.tokens ?? []);
  const patches = sizeWas(source[1] ?? []).minus(around[0] + around[1]);

  const again = new Scope(model.constants);
  const sizes = new Map<string, readonly [string, number]>();
  // Sizes are read from the pictures where they have them.
  const pictures = inputs.filter(({ name }) => batch.endsWith(`:${name}`));
  for (const info of [...pictures, ...inputs]) again.set(info.name, knownInput(info, sizes));
  const maker = new NodeMaker(names.add(input), model.opset);
  const cutter = new Cutter(
    maker,
    cut,
    batch,
    new KeptIds(maker, input, sizes),
    inputs.map(({ name }) => name),
  );
  follow(model.entries, again, {
    opset,
    findings: { projections: [] },
    visitor: cutter,
    strict: true,
    outside,
  });

  const notes = dropDraw(model, cut);
  model.outputs = model.outputs.map((info) => outputInfo(info, again, scope));
  const { entries, reads } = alive(cutter.entries, model.outputs);
  model.entries = entries;
  const dead = inputs.filter(({ name }) => cut.drawnBy !== undefined && !reads.has(name));
  notes.push(
    ...dead.map(({ name }) => `The input '${name}' is gone: the ids say which patches are kept.`),
  );
  const images = imagesOf(model, batch);
  // Without its value, which goes when nothing reads it, a constant would be an input to give.
  const stay = model.inputs.filter((info) =>
    inputs.includes(info) ? !dead.includes(info) : reads.has(info.name),
  );
  model.inputs = [...stay, idsInfo(input, images)];
  return {
    constants: maker.constants,
    reads,
    patches: patches.number,
    others: around,
    tensor: cut.tensor,
    notes,
  };
}

/** Inputs that are not constants; old exporters list those too. */
function realInputs(model: StoredModel): StoredValueInfo[] {
  const { constants } = model;
  return model.inputs.filter(({ name }) => !constants.has(name));
}

/** Follows the graph as it is. */
function readThrough(
  model: StoredModel,
  inputs: readonly StoredValueInfo[],
): { scope: Scope; findings: Findings; mixing: Set<Entry> } {
  const scope = new Scope(model.constants);
  const sizes = new Map<string, readonly [string, number]>();
  for (const info of inputs) scope.set(info.name, knownInput(info, sizes));
  const mixing = new Set<Entry>();
  const visitor: Visitor = {
    editor: () => undefined,
    after: (entry, _scope, mixes) => {
      if (mixes) mixing.add(entry);
    },
    branch: (_node, _name, _graph, followBranch) => followBranch(),
  };
  const findings: Findings = { projections: [] };
  const { opset, outside } = model;
  follow(model.entries, scope, { opset, findings, visitor, strict: false, outside });
  return { scope, findings, mixing };
}

/** An input's axes keep their identity. Sizes with one name are one size. */
function knownInput(
  { name, type }: StoredValueInfo,
  sizes: Map<string, readonly [string, number]>,
): { axes?: Axis[] } {
  const shape = type?.tensor_type?.shape;
  if (shape == null) return {};
  const axes = shape.dim.map(({ dim_value, dim_param }, index): Axis => {
    const fixed = dim_value == null ? 0 : toNumber(dim_value);
    const named = dim_param == null || dim_param === '' ? `${name}.${index}` : dim_param;
    const unique = named.replaceAll('*', '.');
    if (fixed <= 0 && !sizes.has(unique)) sizes.set(unique, [name, index]);
    const was = fixed > 0 ? Size.of(fixed) : Size.named(unique);
    return [{ was, is: was, id: `input:${index}:${name}` }];
  });
  return { axes };
}

/** A model that drew its own patches has outputs that tell which; they are the caller's ids now. */
function dropDraw(model: StoredModel, cut: Cut): string[] {
  if (cut.drawnBy === undefined) return [];
  const makers = new Map(
    model.entries.flatMap(({ node }) => node.output.map((name) => [name, node] as const)),
  );
  const draws = (name: string, seen = new Set<string>()): boolean => {
    if (name === cut.tensor || seen.has(name)) return false;
    seen.add(name);
    const node = makers.get(name);
    if (node === undefined) return false;
    return (
      node.op_type.startsWith('Random') ||
      node.op_type === 'TopK' ||
      readsOf(node).some((each) => draws(each, seen))
    );
  };
  const gone = model.outputs.filter(({ name }) => draws(name));
  model.outputs = model.outputs.filter((info) => !gone.includes(info));
  return gone.map(
    ({ name }) => `The output '${name}' is gone: it told which patches the model drew.`,
  );
}

/** Nodes that outputs need, and all names that are read. */
function alive(
  entries: readonly Entry[],
  outputs: readonly StoredValueInfo[],
): { entries: Entry[]; reads: Set<string> } {
  const reads = new Set(outputs.map(({ name }) => name));
  const needed: Entry[] = [];
  for (const entry of [...entries].reverse()) {
    if (!entry.node.output.some((name) => reads.has(name))) continue;
    needed.unshift(entry);
    for (const name of readsOf(entry.node)) reads.add(name);
  }
  return { entries: needed, reads };
}

function outputInfo(info: StoredValueInfo, scope: Scope, before: Scope): StoredValueInfo {
  const known = scope.get(info.name);
  if (known?.lost === true) {
    throw unsupported(
      `The model cannot be cut: the shape of its output '${info.name}' is not known.`,
    );
  }
  const axes = known?.axes;
  const shape = info.type?.tensor_type?.shape;
  if (axes === undefined || shape == null || axes.every((axis) => sizeIs(axis).is(sizeWas(axis))))
    return info;
  const was = before.get(info.name)?.axes;
  const dim = axes.map((axis, index) => {
    const is = sizeIs(axis);
    const same = was !== undefined && is.is(sizeWas(was[index] ?? []));
    const given = shape.dim[index];
    if (same && given !== undefined) return given;
    return is.number === undefined ? { dim_param: nameOf(is) } : { dim_value: is.number };
  });
  const tensor_type = {
    ...info.type?.tensor_type,
    elem_type: info.type?.tensor_type?.elem_type ?? 0,
    shape: { dim },
  };
  return copyOf(info, { type: { tensor_type } });
}

/** Equal names mean equal sizes, so that each size has one of its own. */
function nameOf(size: Size): string {
  const rest = size.minus(kept).number;
  if (rest === undefined) return `ltrp_${size.key.replaceAll(/\W+/g, '_')}`;
  return rest === 0 ? keptName : `${keptName}_plus_${rest}`;
}

const keptName = 'kept_patches';

function imagesOf(
  model: StoredModel,
  batch: string,
): { dim_value: number } | { dim_param: string } | object {
  const [, , name] = /^input:(\d+):(.*)$/s.exec(batch) ?? [];
  const info = model.inputs.find((each) => each.name === name);
  return info?.type?.tensor_type?.shape?.dim[0] ?? {};
}

function idsInfo(name: string, images: object): StoredValueInfo {
  const int64 = 7;
  const dim = [images, { dim_param: keptName }];
  return { name, type: { tensor_type: { elem_type: int64, shape: { dim } } } };
}
