/**
 * Unknown graphs are refused, never silently wrong: an operator is put behind every tensor of a small transformer, along every axis.
 * Each such graph is refused, or computes what the same graph cut by hand computes.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { LtrpError, pruneOnnx } from '../lib/index.js';
import { isWithin } from './support/compare.js';
import { openOnnx, type Feeds, type Outputs, runOnnx } from './support/onnx.js';
import { temporaryFolder } from './support/paths.js';
import {
  encode,
  grid,
  makeNode,
  smallVit,
  type GraphObject,
  type NodeObject,
} from './support/small-vit.js';

/** Tensors, their rank and which of their axes count tokens. */
const tensors: [name: string, rank: number, tokens: number[]][] = [
  ['conv', 4, [2, 3]],
  ['flat', 3, [2]],
  ['embedded', 3, [1]],
  ['joined', 3, [1]],
  ['placed', 3, [1]],
  ['normed', 3, [1]],
  ['q_product', 3, [1]],
  ['k_split', 4, [1]],
  ['q_turned', 4, [2]],
  ['k_turned', 4, [3]],
  ['v_turned', 4, [2]],
  ['scores', 4, [2, 3]],
  ['weights', 4, [2, 3]],
  ['context', 4, [2]],
  ['context_turned', 4, [1]],
  ['merged', 3, [1]],
  ['summed', 3, [1]],
  ['only', 3, [1]],
];

/** Before positions are added: what mixes patches there sees all of them where it is cut by hand, the kept ones where it is not. */
const early = new Set(['conv', 'flat', 'embedded', 'joined']);

/** These depend on the order of the tokens, or on how many there are before the cut: along an axis of tokens all are refused. */
const refusedOnTokens = new Set([
  'a turned axis',
  'a rolled axis',
  'a running sum',
  'the third one taken off',
  'the sum added',
  'a norm',
]);

type Insert = (x: string, y: string, axis: number) => NodeObject[];

const steps = (
  x: string,
  name: string,
  starts: number,
  ends: number,
  axis: number,
  step: number,
): NodeObject =>
  makeNode(name, 'Slice', [x, ...[starts, ends, axis, step].map((value) => `m${value}`)], [name]);

const far = 1_000_000;

/** Nodes that compute `y` of `x`, both of one shape. */
const inserts: Record<string, Insert> = {
  'a turned axis': (x, y, axis) => [steps(x, y, -1, -far, axis, -1)],
  'a rolled axis': (x, y, axis) => [
    steps(x, `${y}_head`, 0, 1, axis, 1),
    steps(x, `${y}_tail`, 1, far, axis, 1),
    makeNode(y, 'Concat', [`${y}_tail`, `${y}_head`], [y], { axis }),
  ],
  'a running sum': (x, y, axis) => [makeNode(y, 'CumSum', [x, `m${axis}`], [y])],
  softmax: (x, y, axis) => [makeNode(y, 'Softmax', [x], [y], { axis })],
  'the mean taken off': (x, y, axis) => [
    makeNode(`${y}_mean`, 'ReduceMean', [x], [`${y}_mean`], { axes: [axis], keepdims: 1 }),
    makeNode(y, 'Sub', [x, `${y}_mean`], [y]),
  ],
  'the sum added': (x, y, axis) => [
    makeNode(`${y}_sum`, 'ReduceSum', [x, `m${axis}`], [`${y}_sum`], { keepdims: 1 }),
    makeNode(y, 'Add', [x, `${y}_sum`], [y]),
  ],
  'the first one taken off': (x, y, axis) => [
    steps(x, `${y}_first`, 0, 1, axis, 1),
    makeNode(y, 'Sub', [x, `${y}_first`], [y]),
  ],
  'the third one taken off': (x, y, axis) => [
    steps(x, `${y}_third`, 2, 3, axis, 1),
    makeNode(y, 'Sub', [x, `${y}_third`], [y]),
  ],
  'a norm': (x, y, axis) => [makeNode(y, 'LpNormalization', [x], [y], { axis, p: 2 })],
  'its number of elements': (x, y, axis) => [
    makeNode(`${y}_shape`, 'Shape', [x], [`${y}_shape`]),
    makeNode(`${y}_count`, 'Gather', [`${y}_shape`, `m${axis}`], [`${y}_count`]),
    { ...makeNode(`${y}_real`, 'Cast', [`${y}_count`], [`${y}_real`], { to: 1 }) },
    makeNode(y, 'Mul', [x, `${y}_real`], [y]),
  ],
};

/** The graph with the nodes of `insert` between a tensor and its readers; by hand, behind the tokens that were taken. */
function mutated(graph: GraphObject, name: string, axis: number, insert: Insert): GraphObject {
  const taken =
    name === 'placed' && graph.node.some((node) => node.name === 'hand_taken')
      ? 'hand_taken'
      : name;
  const at = graph.node.findIndex((node) => node.name === taken);
  const node = graph.node.map((each, index) =>
    index <= at
      ? each
      : { ...each, input: each.input.map((input) => (input === taken ? 'mutant' : input)) },
  );
  node.splice(at + 1, 0, ...insert(taken, 'mutant', axis));
  const constants = [-far, -1, 0, 1, 2, 3, far].map((value) => ({
    name: `m${value}`,
    dims: [1],
    data_type: 7,
    int64_data: [value],
  }));
  return { ...graph, node, initializer: [...graph.initializer, ...constants] };
}

const feeds: Feeds = {
  pixels: {
    data: Float32Array.from({ length: 2 * 3 * 32 * 40 }, (_, index) => Math.sin(index * 0.37)),
    shape: [2, 3, grid.rows * grid.patch, grid.columns * grid.patch],
  },
};
const keep = { data: Int32Array.of(7, 3, 19, 0, 11, 4, 5, 6, 18, 2), shape: [2, 5] };
const all = { data: Int32Array.from({ length: 40 }, (_, index) => index % 20), shape: [2, 20] };

for (const [what, insert] of Object.entries(inserts)) {
  test(`${what}, behind every tensor along every axis: refused, or right`, async (t) => {
    const folder = await temporaryFolder(t);
    const file = (name: string): string => join(folder, `${name}.onnx`);
    const run = (name: string, given: Feeds): Promise<Outputs> => runOnnx(file(name), given);
    const near = (actual: Outputs, expected: Outputs, where: string): void => {
      for (const [name, { data, shape }] of Object.entries(expected)) {
        t.deepEqual(actual[name]?.shape, shape, `${where}, ${name}`);
        const most = data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
        isWithin(
          t,
          actual[name]?.data as Float32Array,
          data,
          { absolute: 1e-5 * most },
          `${where}, ${name}`,
        );
      }
    };
    const [refused, right]: [string[], string[]] = [[], []];
    for (const [name, rank, tokens] of tensors) {
      for (let axis = 1; axis < rank; axis++) {
        const where = `${name}, axis ${axis}`;
        await writeFile(file('model'), encode(mutated(smallVit(), name, axis, insert)));
        try {
          await pruneOnnx(file('model'), file('cut'), { overwrite: true });
        } catch (error) {
          if (!(error instanceof LtrpError) || error.code !== 'ERR_LTRP_UNSUPPORTED') throw error;
          refused.push(where);
          continue;
        }
        right.push(where);
        if (name !== 'conv') t.false(refusedOnTokens.has(what) && tokens.includes(axis), where);
        near(
          await run('cut', { ...feeds, keep: all }),
          await run('model', feeds),
          `${where}, all patches`,
        );
        // Where nothing was taken yet, there are more patches than where it is cut by hand.
        const before = early.has(name) || (name === 'placed' && what === 'its number of elements');
        if (before && tokens.includes(axis)) continue;
        await writeFile(
          file('hand'),
          encode(mutated(smallVit({ byHand: true }), name, axis, insert)),
        );
        near(
          await run('cut', { ...feeds, keep }),
          await run('hand', { ...feeds, keep }),
          `${where}, some patches`,
        );
      }
    }
    t.log(`${right.length} right, ${refused.length} refused`);
    t.is(right.length + refused.length, 45);
  });
}

/** Nodes that compute `scaled` of `summed` with the number of all patches, `real` or a row `sizes` with it. */
const withCounts: Record<string, NodeObject[]> = {
  itself: [makeNode('scaled', 'Mul', ['summed', 'real'], ['scaled'])],
  'its reciprocal': [
    makeNode('share', 'Reciprocal', ['real'], ['share']),
    makeNode('scaled', 'Mul', ['summed', 'share'], ['scaled']),
  ],
  'the reciprocal of its logarithm': [
    makeNode('logarithm', 'Log', ['real'], ['logarithm']),
    makeNode('share', 'Reciprocal', ['logarithm'], ['share']),
    makeNode('scaled', 'Mul', ['summed', 'share'], ['scaled']),
  ],
  'the largest size': [
    makeNode('largest', 'ReduceMax', ['sizes'], ['largest'], { keepdims: 0 }),
    makeNode('scaled', 'Mul', ['summed', 'largest'], ['scaled']),
  ],
  'a sum of sizes': [
    makeNode('sum', 'ReduceSum', ['sizes'], ['sum'], { keepdims: 0 }),
    makeNode('scaled', 'Mul', ['summed', 'sum'], ['scaled']),
  ],
  'a table with it': [
    makeNode('table', 'Mul', ['class_token', 'real'], ['table']),
    makeNode('scaled', 'Add', ['summed', 'table'], ['scaled']),
  ],
  'a matrix with it': [
    makeNode('matrix', 'Div', ['out', 'real'], ['matrix']),
    makeNode('scaled', 'MatMul', ['summed', 'matrix'], ['scaled']),
  ],
  'a limit': [makeNode('scaled', 'Clip', ['summed', '', 'real'], ['scaled'])],
};

for (const [what, nodes] of Object.entries(withCounts)) {
  test(`a number of all patches that is used behind the cut is refused: ${what}`, async (t) => {
    const folder = await temporaryFolder(t);
    const graph = smallVit();
    const at = graph.node.findIndex(({ name }) => name === 'summed');
    const node = graph.node.map((each) => ({
      ...each,
      input: each.input.map((name) => (name === 'summed' ? 'scaled' : name)),
    }));
    node.splice(
      at + 1,
      0,
      makeNode('count', 'Size', ['embedded'], ['count']),
      makeNode('real', 'Cast', ['count'], ['real'], { to: 1 }),
      makeNode('embedded_shape', 'Shape', ['embedded'], ['embedded_shape']),
      makeNode('sizes', 'Cast', ['embedded_shape'], ['sizes'], { to: 1 }),
      ...nodes,
    );
    await writeFile(join(folder, 'model.onnx'), encode({ ...graph, node }));
    // It is a good model otherwise.
    const model = await openOnnx([join(folder, 'model.onnx')]);
    await model.release();
    const pruning = pruneOnnx(join(folder, 'model.onnx'), join(folder, 'cut.onnx'));
    const error = await t.throwsAsync(pruning, { instanceOf: LtrpError });
    t.regex(error.message, /'scaled' \(\w+\): it computes with the number of all patches/);
  });
}
