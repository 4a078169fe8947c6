/** `pruneOnnx` on files of other forms: constants as inputs, branches with shapes, functions, weights outside. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pruneOnnx } from '../lib/index.js';
import { modelType } from '../lib/onnx/schema.js';
import { openOnnx, runOnnx, sameOutputs } from './support/onnx.js';
import { temporaryFolder } from './support/paths.js';
import {
  encode,
  grid,
  makeNode,
  smallVit,
  type GraphObject,
  type NodeObject,
} from './support/small-vit.js';

const side = [grid.rows * grid.patch, grid.columns * grid.patch] as const;
const pixels = {
  data: Float32Array.from({ length: 2 * 3 * side[0] * side[1] }, (_, i) => Math.sin(i * 0.37 + 1)),
  shape: [2, 3, ...side],
};
const keep = { data: Int32Array.of(7, 3, 19, 0, 11, 4, 5, 6, 18, 2), shape: [2, 5] };
const every = { data: Int32Array.from({ length: 40 }, (_, i) => i % 20), shape: [2, 20] };

/** Expects the model of `bytes`, which is `smallVit()` in another form, to be cut right. */
async function cutsRight(t: ExecutionContext, bytes: Uint8Array): Promise<string> {
  const folder = await temporaryFolder(t);
  const [model, cut, hand] = ['model', 'cut', 'hand'].map((name) =>
    join(folder, `${name}.onnx`),
  ) as [string, string, string];
  await writeFile(model, bytes);
  await pruneOnnx(model, cut);
  await writeFile(hand, encode(smallVit({ byHand: true })));
  for (const [actual, expected] of [
    [await runOnnx(cut, { pixels, keep: every }), await runOnnx(model, { pixels })],
    [await runOnnx(cut, { pixels, keep }), await runOnnx(hand, { pixels, keep })],
  ] as const) {
    sameOutputs(t, actual, expected, 'the model');
  }
  return cut;
}

const declared = (name: string, dims: number[], elem_type = 1): Record<string, unknown> => ({
  name,
  type: { tensor_type: { elem_type, shape: { dim: dims.map((size) => ({ dim_value: size })) } } },
});

/** `smallVit()` whose patches come out of an If with these branches, which only the run knows. */
function withBranches(branch: (name: string) => Record<string, unknown>): GraphObject {
  const graph = smallVit();
  const at = graph.node.findIndex(({ name }) => name === 'only');
  const attribute = ['then', 'else'].map((name) => ({
    name: `${name}_branch`,
    type: 5,
    g: {
      name,
      output: [{ name: `${name}_out`, type: { tensor_type: { elem_type: 1 } } }],
      ...branch(name),
    },
  }));
  graph.node.splice(
    at,
    1,
    makeNode('bigger', 'Less', ['int1_1', 'images'], ['bigger']),
    makeNode('condition', 'Squeeze', ['bigger'], ['condition']),
    { name: 'only', op_type: 'If', input: ['condition'], output: ['only'], attribute },
  );
  return graph;
}

const slice = (start: string, output: string): object =>
  makeNode('', 'Slice', ['tokens', start, 'int1_21', 'int1_1'], [output]);

test('constants that are listed as inputs, as old exporters do', async (t) => {
  const graph = smallVit();
  for (const { name, dims, data_type } of graph.initializer)
    graph.input.push(declared(name as string, dims as number[], data_type as number));
  const cut = await openOnnx([await cutsRight(t, encode(graph))]);
  // A constant that nothing reads any more must not become an input that has to be given.
  t.deepEqual(cut.inputs, ['pixels', 'keep']);
  await cut.release();
});

test('shapes that are written down in branches', async (t) => {
  const branch = (name: string): Record<string, unknown> => ({
    node: [
      slice('int1_1', `${name}_part`),
      makeNode('', 'Identity', [`${name}_part`], [`${name}_out`]),
    ],
    output: [declared(`${name}_out`, [2, 20, 8])],
    value_info: [declared(`${name}_part`, [2, 20, 8])],
  });
  await cutsRight(t, encode(withBranches(branch)));
});

test('functions that branches call, with nodes without names', async (t) => {
  const list = (name: string, value: number): object => ({
    op_type: 'Constant',
    output: [name],
    attribute: [{ name: 'value_ints', type: 7, ints: [value] }],
  });
  const graph = withBranches((name) => ({
    node: [{ ...makeNode('', 'Part', ['tokens'], [`${name}_out`]), domain: 'test' }],
  }));
  graph.functions.push({
    name: 'Part',
    domain: 'test',
    input: ['x'],
    output: ['y'],
    opset_import: [{ domain: '', version: 17 }],
    node: [list('a', 1), list('b', 21), makeNode('', 'Slice', ['x', 'a', 'b', 'a'], ['y'])],
  });
  await cutsRight(t, encode(graph));
});

test('operator sets that only a function names', async (t) => {
  const graph = smallVit();
  const at = graph.node.findIndex(({ name }) => name === 'projected');
  const projected = graph.node[at] as NodeObject;
  graph.node.splice(
    at,
    1,
    { ...projected, output: ['before'] },
    { ...makeNode('act', 'Act', ['before'], ['projected']), domain: 'test' },
  );
  const { functions, ...rest } = graph;
  functions.push({
    name: 'Act',
    domain: 'test',
    input: ['x'],
    output: ['y'],
    opset_import: [
      { domain: '', version: 17 },
      { domain: 'com.microsoft', version: 1 },
    ],
    // x, by way of an operator of another domain.
    node: [
      { ...makeNode('', 'QuickGelu', ['x'], ['z']), domain: 'com.microsoft' },
      makeNode('', 'Sub', ['z', 'z'], ['nothing']),
      makeNode('', 'Add', ['x', 'nothing'], ['y']),
    ],
  });
  const message = {
    ir_version: 8,
    graph: { name: 'small', ...rest },
    functions,
    opset_import: [
      { domain: '', version: 17 },
      { domain: 'test', version: 1 },
    ],
  };
  await cutsRight(t, modelType.encode(modelType.fromObject(message)).finish());
});

test('weights of branches and constants that lie outside follow the output', async (t) => {
  const outside = (name: string): object => ({
    name,
    dims: [1],
    data_type: 7,
    data_location: 1,
    external_data: Object.entries({ location: 'model.onnx_data', offset: '8', length: '8' }).map(
      ([key, value]) => ({ key, value }),
    ),
  });
  const graph = withBranches((name) => ({
    node: [
      name === 'then'
        ? makeNode('', 'Identity', ['far'], ['then_start'])
        : {
            ...makeNode('', 'Constant', [], ['else_start']),
            attribute: [{ name: 'value', type: 4, t: outside('') }],
          },
      slice(`${name}_start`, `${name}_out`),
    ],
    initializer: name === 'then' ? [outside('far')] : [],
  }));
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'out'));
  const [model, data] = [join(folder, 'model.onnx'), Buffer.alloc(16)];
  data.writeBigInt64LE(1n, 8);
  await writeFile(model, encode(graph));
  await writeFile(`${model}_data`, data);
  const { files } = await pruneOnnx(model, join(folder, 'out', 'cut.onnx'));
  t.deepEqual(await readFile(files[1] ?? ''), data);
  const bytes = await readFile(files[0] as string);
  t.is(bytes.toString('latin1').split('cut.onnx_data').length - 1, 2);
  t.false(bytes.includes('model.onnx_data'));
  // By the name that another loader looks for.
  const other = join(folder, 'out', 'other.onnx');
  t.deepEqual((await pruneOnnx(model, other, { dataSuffix: '.data' })).files, [
    other,
    `${other}.data`,
  ]);
  t.true((await readFile(other)).includes('other.onnx.data'));
  await t.throwsAsync(pruneOnnx(model, other, { dataSuffix: 'data' as never }), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
    message: /dataSuffix must be one of '\.data', '_data'/,
  });
});
