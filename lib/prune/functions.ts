/** Local functions of a model, written out where they are called, so that the rules of operators see what they do. */
import {
  copyOf,
  type StoredAttribute,
  type StoredFunction,
  type StoredGraph,
  type StoredNode,
} from '../onnx/stored.js';
import type { Entry } from './graph.js';

const keyOf = ({
  domain,
  name,
  overload,
}: {
  domain: string;
  name: string;
  overload: string;
}): string => `${domain}:${name}:${overload}`;

/** Deeper calls than this are a circle. */
const deepest = 32;

/** `entries` with every call replaced by the nodes of its function, under names of their own. */
export function writeOut(entries: readonly Entry[], functions: readonly StoredFunction[]): Entry[] {
  const byKey = new Map(functions.map((each) => [keyOf(each), each]));
  let calls = 0;
  const expand = (entry: Entry, depth: number): Entry[] => {
    const { node } = entry;
    const called = byKey.get(
      keyOf({ domain: node.domain, name: node.op_type, overload: node.overload }),
    );
    if (called === undefined) {
      const written = inBranches(node, depth);
      return [written === node ? entry : { node: written }];
    }
    if (depth > deepest) throw new Error('Its functions call each other in a circle.');
    calls++;
    const prefix = `${node.name === '' ? node.op_type : node.name}/${calls}/`;
    const names = new Map<string, string>([['', '']]);
    called.input.forEach((name, index) => names.set(name, node.input[index] ?? ''));
    called.output.forEach((name, index) => {
      const given = node.output[index] ?? '';
      names.set(name, given === '' ? prefix + name : given);
    });
    const given = new Map(node.attribute.map((each) => [each.name, each]));
    for (const each of called.attribute_proto)
      if (!given.has(each.name)) given.set(each.name, each);
    const rename = (name: string): string => names.get(name) ?? prefix + name;
    return called.node.flatMap((inner) =>
      expand({ node: renamed(inner, rename, given, prefix) }, depth + 1),
    );
  };
  const inBranches = (node: StoredNode, depth: number): StoredNode => {
    const before = calls;
    const attribute = node.attribute.map((each) => {
      if (each.g == null) return each;
      const inner = each.g.node.flatMap((one) => expand({ node: one }, depth));
      return copyOf(each, { g: copyOf(each.g, { node: inner.map(({ node: one }) => one) }) });
    });
    return calls === before ? node : copyOf(node, { attribute });
  };
  return entries.flatMap((entry) => expand(entry, 0));
}

function renamed(
  node: StoredNode,
  rename: (name: string) => string,
  given: ReadonlyMap<string, StoredAttribute>,
  prefix: string,
): StoredNode {
  return copyOf(node, {
    // Nodes without names may be many, and names are given once.
    name: node.name === '' ? '' : prefix + node.name,
    input: node.input.map(rename),
    output: node.output.map(rename),
    attribute: node.attribute.flatMap((each): StoredAttribute[] => {
      if (each.ref_attr_name !== '') {
        const value = given.get(each.ref_attr_name);
        return value === undefined ? [] : [copyOf(value, { name: each.name })];
      }
      if (each.g == null) return [each];
      return [copyOf(each, { g: renamedGraph(each.g, rename, given, prefix) })];
    }),
  });
}

function renamedGraph(
  graph: StoredGraph,
  rename: (name: string) => string,
  given: ReadonlyMap<string, StoredAttribute>,
  prefix: string,
): StoredGraph {
  const named = <Named extends { name: string }>(each: Named): Named =>
    copyOf(each, { name: rename(each.name) } as Partial<Named>);
  return copyOf(graph, {
    node: graph.node.map((each) => renamed(each, rename, given, prefix)),
    input: graph.input.map(named),
    output: graph.output.map(named),
    initializer: graph.initializer.map(named),
  });
}
