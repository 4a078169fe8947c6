/** `pruneOnnx`: small graphs made here against the same graphs cut by hand, in onnxruntime-web. */
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LtrpError, pruneOnnx } from '../lib/index.js';
import { writeTogether } from '../lib/onnx/partial-file.js';
import { modelType } from '../lib/onnx/schema.js';
import { ltrp } from './support/command.js';
import { isWithin } from './support/compare.js';
import { openOnnx, type Feeds, type Outputs, runOnnx, sameOutputs } from './support/onnx.js';
import { temporaryFolder } from './support/paths.js';
import {
  encode,
  GraphMaker,
  grid,
  makeNode,
  smallVit,
  type GraphObject,
  type SmallVitOptions,
} from './support/small-vit.js';

const side = [grid.rows * grid.patch, grid.columns * grid.patch] as const;

function pixels(images: number, seed = 1): Feeds[string] {
  const data = Float32Array.from({ length: images * 3 * side[0] * side[1] }, (_, index) =>
    Math.sin(index * 0.37 * seed + seed),
  );
  return { data, shape: [images, 3, ...side] };
}

const ids = (...rows: number[][]): Feeds[string] => ({
  data: Int32Array.from(rows.flat()),
  shape: [rows.length, rows[0]?.length ?? 0],
});

const everyId = (images: number): Feeds[string] =>
  ids(...Array.from({ length: images }, () => Array.from({ length: grid.patches }, (_, id) => id)));

/** The graph as a file, and what `pruneOnnx` makes of it. */
async function pruned(
  t: ExecutionContext,
  graph: GraphObject,
  opset?: number,
): Promise<{ model: string; cut: string }> {
  const folder = await temporaryFolder(t);
  const [model, cut] = [join(folder, 'model.onnx'), join(folder, 'cut.onnx')];
  await writeFile(model, encode(graph, opset));
  await pruneOnnx(model, cut);
  return { model, cut };
}

async function byHand(t: ExecutionContext, graph: GraphObject, feeds: Feeds): Promise<Outputs> {
  const path = join(await temporaryFolder(t), 'hand.onnx');
  await writeFile(path, encode(graph));
  return runOnnx(path, feeds);
}

/** Patches of each image in an order of their own. */
const chosen = ids([7, 3, 19, 0, 11], [4, 5, 6, 18, 2]);

const variants: [string, SmallVitOptions][] = [
  ['counts baked into shapes and limits', {}],
  ['counts computed from shapes', { counts: 'computed' }],
  ['patches cut out and multiplied', { unfolded: true }],
  ['a fixed batch', { images: 2 }],
];
for (const [name, options] of variants) {
  test(`${name}: all patches give the same, some what the graph cut by hand gives`, async (t) => {
    const { model, cut } = await pruned(t, smallVit(options));
    const given = { pixels: pixels(2) };
    sameOutputs(
      t,
      await runOnnx(cut, { ...given, keep: everyId(2) }),
      await runOnnx(model, given),
      'all',
    );
    const expected = await byHand(t, smallVit({ ...options, byHand: true }), {
      ...given,
      keep: chosen,
    });
    t.deepEqual(expected.tokens?.shape, [2, 7, 8]);
    sameOutputs(t, await runOnnx(cut, { ...given, keep: chosen }), expected, 'some');
    // A wrong patch is seen.
    const other = await runOnnx(cut, { ...given, keep: ids([7, 3, 19, 0, 12], [4, 5, 6, 18, 2]) });
    t.true(largestDifference(other.first, expected.first) > 1e-3);
  });
}

test('a relative bias is cut on both of its axes', async (t) => {
  const { model, cut } = await pruned(t, smallVit({ bias: true }));
  sameOutputs(
    t,
    await runOnnx(cut, { pixels: pixels(2), keep: everyId(2) }),
    await runOnnx(model, { pixels: pixels(2) }),
    'all',
  );
  for (const row of [[7, 3, 19, 0, 11], [12], [...Array(20).keys()].reverse()]) {
    const feeds = { pixels: pixels(1), keep: ids(row) };
    sameOutputs(
      t,
      await runOnnx(cut, feeds),
      await byHand(t, smallVit({ bias: true, byHand: true }), feeds),
      row.join(),
    );
  }
  // Each image has its own rows of the table.
  const both = await runOnnx(cut, { pixels: pixels(2), keep: chosen });
  const single = await runOnnx(cut, { pixels: pixels(1), keep: ids([7, 3, 19, 0, 11]) });
  isWithin(
    t,
    both.first?.data.slice(0, 8) as Float32Array,
    single.first?.data as Float32Array,
    { absolute: 1e-5 },
    'first image',
  );
});

function largestDifference(a: Outputs[string] | undefined, b: Outputs[string] | undefined): number {
  if (a?.data.length !== b?.data.length || a === undefined || b === undefined) return Infinity;
  return a.data.reduce<number>(
    (most, value, index) => Math.max(most, Math.abs(value - (b.data[index] ?? NaN))),
    0,
  );
}

test('ids outside the grid and rows that do not fit the images are errors of the run', async (t) => {
  const { cut } = await pruned(t, smallVit());
  const given = { pixels: pixels(2) };
  for (const wrong of [-1, 20, 21, -20, 2 ** 31 - 1]) {
    const error = await t.throwsAsync(
      runOnnx(cut, { ...given, keep: ids([0, wrong], [1, 2]) }),
      undefined,
      String(wrong),
    );
    t.regex(error.message, /an_id_outside_the_grid_fails_here/);
  }
  for (const rows of [ids([0, 1]), ids([0, 1], [2, 3], [4, 5]), ids([0], [1], [2], [3])]) {
    const error = await t.throwsAsync(runOnnx(cut, { ...given, keep: rows }));
    // The runtime says which operator; native ones say its name, too.
    t.regex(error.message, /reshape/i);
  }
});

test('an id that comes twice is computed twice', async (t) => {
  const { cut } = await pruned(t, smallVit());
  const { tokens } = await runOnnx(cut, { pixels: pixels(1), keep: ids([4, 4]) });
  t.deepEqual(tokens?.data.slice(8, 16), tokens?.data.slice(16, 24));
});

/** Splits the graph's nodes before and behind one, which is replaced. */
function replaced(graph: GraphObject, name: string, nodes: GraphObject['node']): GraphObject {
  const at = graph.node.findIndex((node) => node.name === name);
  return { ...graph, node: [...graph.node.slice(0, at), ...nodes, ...graph.node.slice(at + 1)] };
}

test('a Split with the counts of tokens', async (t) => {
  const graph = smallVit();
  const whole = replaced(graph, 'only', [
    makeNode('split', 'Split', ['tokens', 'int1_1_20_1'], ['head', 'only', 'tail'], { axis: 1 }),
  ]);
  whole.initializer.push({ name: 'int1_1_20_1', dims: [3], data_type: 7, int64_data: [1, 20, 1] });
  const { model, cut } = await pruned(t, whole);
  sameOutputs(
    t,
    await runOnnx(cut, { pixels: pixels(2), keep: everyId(2) }),
    await runOnnx(model, { pixels: pixels(2) }),
    'all',
  );
  const feeds = { pixels: pixels(2), keep: chosen };
  sameOutputs(
    t,
    await runOnnx(cut, feeds),
    await byHand(t, smallVit({ byHand: true }), feeds),
    'some',
  );
});

test('a local function with an attribute, and an If whose branches hold counts', async (t) => {
  const graph = replaced(smallVit(), 'merged', [
    {
      ...makeNode('call', 'Merge', ['context_turned'], ['merged'], { count: [-1, 22, 8] }),
      domain: 'test',
    },
  ]);
  graph.functions.push({
    name: 'Merge',
    domain: 'test',
    input: ['x'],
    output: ['y'],
    attribute: ['count'],
    opset_import: [{ domain: '', version: 17 }],
    node: [
      {
        op_type: 'Constant',
        input: [],
        output: ['shape'],
        attribute: [{ name: 'value_ints', type: 7, ref_attr_name: 'count' }],
      },
      { op_type: 'Reshape', input: ['x', 'shape'], output: ['y'], attribute: [] },
    ],
  });
  const branch = (name: string): Record<string, unknown> => ({
    name,
    node: [
      {
        op_type: 'Slice',
        input: ['tokens', 'int1_1', 'int1_21', 'int1_1'],
        output: [`${name}_part`],
        attribute: [],
      },
      {
        op_type: name === 'then' ? 'Identity' : 'Neg',
        input: [`${name}_part`],
        output: [`${name}_out`],
        attribute: [],
      },
    ],
    output: [{ name: `${name}_out`, type: { tensor_type: { elem_type: 1 } } }],
  });
  // One graph knows the branch, the other only its run.
  for (const source of ['int1_1', 'images']) {
    const condition = [
      makeNode('bigger', 'Less', ['int1_0', source], ['bigger']),
      makeNode('condition', 'Squeeze', ['bigger'], ['condition']),
    ];
    const both = ['then', 'else'].map((name) => ({
      name: `${name}_branch`,
      type: 5,
      g: branch(name),
    }));
    const whole = replaced(graph, 'only', [
      ...condition,
      { name: 'only', op_type: 'If', input: ['condition'], output: ['only'], attribute: both },
    ]);
    whole.initializer.push({ name: 'int1_0x', dims: [1], data_type: 7, int64_data: [0] });
    const { model, cut } = await pruned(t, whole);
    sameOutputs(
      t,
      await runOnnx(cut, { pixels: pixels(2), keep: everyId(2) }),
      await runOnnx(model, { pixels: pixels(2) }),
      'all',
    );
    const feeds = { pixels: pixels(2), keep: chosen };
    sameOutputs(
      t,
      await runOnnx(cut, feeds),
      await byHand(t, smallVit({ byHand: true }), feeds),
      source,
    );
  }
});

/** A node that takes one of two branches, which both are `nodes`; which one is known in the run only. */
function either(name: string, nodes: GraphObject['node'], output: string): GraphObject['node'] {
  const attribute = ['then', 'else'].map((branch) => ({
    name: `${branch}_branch`,
    type: 5,
    g: {
      name: branch,
      node: nodes,
      output: [{ name: output, type: { tensor_type: { elem_type: 1 } } }],
    },
  }));
  return [
    makeNode('bigger', 'Less', ['int1_1', 'images'], ['bigger']),
    makeNode('condition', 'Squeeze', ['bigger'], ['condition']),
    { name, op_type: 'If', input: ['condition'], output: [name], attribute },
  ];
}

/** Expects the graph with `change` to be cut right; `change` is told whether the graph was cut by hand. */
async function cutsRight(
  t: ExecutionContext,
  change: (graph: GraphObject, hand: boolean) => GraphObject,
  { images = 2, opset, ...options }: SmallVitOptions & { opset?: number } = {},
): Promise<void> {
  const graph = change(smallVit(options), false);
  const folder = await temporaryFolder(t);
  const [model, cut, hand] = ['model', 'cut', 'hand'].map((name) =>
    join(folder, `${name}.onnx`),
  ) as [string, string, string];
  await writeFile(model, encode(graph, opset));
  const { cutAt } = await pruneOnnx(model, cut);
  t.is(cutAt, 'placed');
  const given = { pixels: pixels(images) };
  sameOutputs(
    t,
    await runOnnx(cut, { ...given, keep: everyId(images) }),
    await runOnnx(model, given),
    'all',
  );
  await writeFile(hand, encode(change(smallVit({ ...options, byHand: true }), true), opset));
  const rows = [
    [7, 3, 19, 0, 11],
    [4, 5, 6, 18, 2],
  ].slice(0, images);
  const feeds = { ...given, keep: ids(...rows) };
  sameOutputs(t, await runOnnx(cut, feeds), await runOnnx(hand, feeds), 'some');
}

test('attention in the branches of an If mixes patches', async (t) => {
  await cutsRight(t, (graph) => {
    const name = (node: GraphObject['node'][number]): string => node.name;
    const [from, to] = ['normed', 'projected'].map((each) =>
      graph.node.map(name).indexOf(each),
    ) as [number, number];
    const attention = graph.node.slice(from + 1, to + 1);
    const behind = graph.node.slice(to + 1).map((node) => ({
      ...node,
      input: node.input.map((each) => (each === 'projected' ? 'attended' : each)),
    }));
    return {
      ...graph,
      node: [
        ...graph.node.slice(0, from + 1),
        ...either('attended', attention, 'projected'),
        ...behind,
      ],
    };
  });
});

/** onnxruntime's own attention, behind the other one. */
const fusedAttention = (
  graph: GraphObject,
  attributes: Record<string, number> = {},
  outputs: string[] = [],
): GraphObject => {
  const [wide, row] = [new GraphMaker(), new GraphMaker()];
  wide.weight('fused_weights', [grid.width, 3 * grid.width], 0.5);
  row.weight('fused_bias', [3 * grid.width]);
  graph.initializer.push(...wide.graph.initializer, ...row.graph.initializer);
  return replaced(graph, 'summed', [
    makeNode('sum', 'Add', ['placed', 'projected'], ['summed_before']),
    {
      ...makeNode(
        'summed',
        'Attention',
        ['summed_before', 'fused_weights', 'fused_bias'],
        ['summed', ...outputs],
        { num_heads: 2, ...attributes },
      ),
      domain: 'com.microsoft',
    },
  ]);
};

test("onnxruntime's attention is cut, but not with rotary positions", async (t) => {
  const hand = (graph: GraphObject): GraphObject => ({
    ...graph,
    node: graph.node.map((node) => ({
      ...node,
      input: node.input.map((name) =>
        name === 'placed' && node.name === 'sum' ? 'hand_taken' : name,
      ),
    })),
  });
  await cutsRight(t, (graph, byHandToo) =>
    byHandToo ? hand(fusedAttention(graph)) : fusedAttention(graph),
  );
  for (const op_type of ['Attention', 'QAttention']) {
    const graph = fusedAttention(smallVit(), { do_rotary: 1 });
    for (const node of graph.node) if (node.op_type === 'Attention') node.op_type = op_type;
    await t.throwsAsync(pruned(t, graph), {
      message: new RegExp(`'summed' \\(${op_type}\\): its attention is not the usual one`),
    });
  }
});

test('an output that no rule speaks of is not taken for one without patches', async (t) => {
  const graph = fusedAttention(smallVit(), {}, ['present']);
  const late = replaced(graph, 'mean', [
    makeNode('mean', 'ReduceSum', ['present', 'int1_1'], ['mean'], { keepdims: 0 }),
  ]);
  await t.throwsAsync(pruned(t, late), { message: /'mean' \(ReduceSum\)/ });
});

test("the mask of the standard's attention is cut, by either name of its domain", async (t) => {
  for (const domain of ['', 'ai.onnx']) {
    await cutsRight(
      t,
      (graph, byHandToo) => {
        const attention = replaced(graph, 'context', [
          makeNode('keys', 'Transpose', ['k_turned'], ['keys'], { perm: [0, 1, 3, 2] }),
          {
            ...makeNode(
              'context',
              'Attention',
              ['q_turned', 'keys', 'v_turned', byHandToo ? 'hand_columns' : 'bias'],
              ['context'],
            ),
            domain,
          },
        ]);
        // Newer operator sets have axes as an input.
        return replaced(attention, 'mean', [
          makeNode('mean', 'ReduceMean', ['only', 'int1_1'], ['mean'], { keepdims: 0 }),
        ]);
      },
      { images: 1, bias: true, opset: 23 },
    );
  }
});

/** As many rows as there are tokens: a number, or counted behind the cut. */
const tokensHere = (graph: GraphObject, counted: boolean): [GraphObject['node'], string] => {
  graph.initializer.push({ name: 'all_here', dims: [1], data_type: 7, int64_data: [22] });
  return [
    [
      makeNode('here_shape', 'Shape', ['summed_before'], ['here_shape']),
      makeNode('here', 'Gather', ['here_shape', 'int1_1'], ['here']),
    ],
    counted ? 'here' : 'all_here',
  ];
};

const summedBefore = (hand: boolean): GraphObject['node'][number] =>
  makeNode('sum', 'Add', [hand ? 'hand_taken' : 'placed', 'projected'], ['summed_before']);

test('a table of equal rows beside the features of tokens has as many as there are tokens', async (t) => {
  await cutsRight(t, (graph, hand) => {
    const [count, here] = tokensHere(graph, hand);
    const value = { dims: [1], data_type: 1, float_data: [0.5] };
    const weights = new GraphMaker();
    weights.weight('narrow', [12, 8], 0.5);
    graph.initializer.push(...weights.graph.initializer, {
      name: 'four',
      dims: [1],
      data_type: 7,
      int64_data: [4],
    });
    return replaced(graph, 'summed', [
      summedBefore(hand),
      ...count,
      makeNode('table_shape', 'Concat', ['images', here, 'four'], ['table_shape'], { axis: 0 }),
      {
        ...makeNode('table', 'ConstantOfShape', ['table_shape'], ['table']),
        attribute: [{ name: 'value', type: 4, t: value }],
      },
      makeNode('beside', 'Concat', ['summed_before', 'table'], ['beside'], { axis: 2 }),
      makeNode('summed', 'MatMul', ['beside', 'narrow'], ['summed']),
    ]);
  });
});

test('the type of each token, all the same, follows the kept patches', async (t) => {
  await cutsRight(t, (graph, hand) => {
    const [count, here] = tokensHere(graph, true);
    const value = { dims: [1], data_type: 7, int64_data: [1] };
    return replaced(graph, 'summed', [
      summedBefore(hand),
      ...count,
      makeNode('types_shape', 'Concat', ['images', here], ['types_shape'], { axis: 0 }),
      {
        ...makeNode('types', 'ConstantOfShape', ['types_shape'], ['types']),
        attribute: [{ name: 'value', type: 4, t: value }],
      },
      makeNode('typed', 'Gather', ['out', 'types'], ['typed'], { axis: 0 }),
      makeNode('summed', 'Add', ['summed_before', 'typed'], ['summed']),
    ]);
  });
});

test('a function that only a branch calls stays in the model', async (t) => {
  await cutsRight(t, (graph) => {
    const call = { ...makeNode('call', 'Minus', ['class_token'], ['minus']), domain: 'test' };
    graph.functions.push({
      name: 'Minus',
      domain: 'test',
      input: ['x'],
      output: ['y'],
      opset_import: [{ domain: '', version: 17 }],
      node: [{ op_type: 'Neg', input: ['x'], output: ['y'], attribute: [] }],
    });
    graph.output.push({ name: 'extra', type: { tensor_type: { elem_type: 1 } } });
    return { ...graph, node: [...graph.node, ...either('extra', [call], 'minus')] };
  });
});

const refusals: [string, (graph: GraphObject) => GraphObject, RegExp][] = [
  [
    'a sum over patches',
    (graph) =>
      replaced(graph, 'mean', [
        makeNode('mean', 'ReduceSum', ['only', 'int1_1'], ['mean'], { keepdims: 0 }),
      ]),
    /'mean' \(ReduceSum\): it adds up over the patches/,
  ],
  [
    'a weight for each patch',
    (graph) => {
      graph.initializer.push({
        name: 'each',
        dims: [1, 22],
        data_type: 1,
        float_data: Array.from({ length: 22 }, (_, i) => i),
      });
      return replaced(graph, 'first', [
        makeNode('weighed', 'MatMul', ['each', 'tokens'], ['weighed']),
        makeNode('first', 'Squeeze', ['weighed', 'int1_1'], ['first']),
      ]);
    },
    /'weighed' \(MatMul\): it has a weight for each patch/,
  ],
  [
    'one patch by its place',
    (graph) => {
      graph.initializer.push({ name: 'seventh', dims: [], data_type: 7, int64_data: [7] });
      return replaced(graph, 'first', [
        makeNode('first', 'Gather', ['tokens', 'seventh'], ['first'], { axis: 1 }),
      ]);
    },
    /'first' \(Gather\): it takes single patches by their place/,
  ],
  [
    'the grid',
    (graph) => {
      graph.initializer.push({
        name: 'gridded',
        dims: [4],
        data_type: 7,
        int64_data: [-1, 4, 5, 8],
      });
      return replaced(graph, 'mean', [
        makeNode('map', 'Reshape', ['only', 'gridded'], ['map']),
        makeNode('mean', 'ReduceMean', ['map'], ['mean'], { axes: [1, 2], keepdims: 0 }),
      ]);
    },
    /'map' \(Reshape\): it divides the patches/,
  ],
  [
    'positions by counting what is left',
    (graph) => {
      const count = [
        makeNode('size', 'Shape', ['normed'], ['size']),
        makeNode('count', 'Gather', ['size', 'one'], ['count']),
        makeNode('range', 'Range', ['zero', 'count', 'one'], ['range']),
        makeNode('late', 'Gather', ['late_table', 'range'], ['late']),
        makeNode('summed', 'Add', ['summed_before', 'late'], ['summed']),
      ];
      for (const [name, value] of [
        ['zero', 0],
        ['one', 1],
      ] as const) {
        graph.initializer.push({ name, dims: [], data_type: 7, int64_data: [value] });
      }
      graph.initializer.push({
        name: 'late_table',
        dims: [22, 8],
        data_type: 1,
        float_data: Array.from({ length: 176 }, Math.sin),
      });
      return replaced(graph, 'summed', [
        makeNode('sum', 'Add', ['placed', 'projected'], ['summed_before']),
        ...count,
      ]);
    },
    /'range' \(Range\): it numbers the tokens that are left/,
  ],
  [
    'every second of as many rows as there are tokens',
    (graph) => {
      graph.initializer.push({ name: 'two', dims: [1], data_type: 7, int64_data: [2] });
      return replaced(graph, 'first', [
        makeNode('size', 'Shape', ['tokens'], ['size']),
        makeNode('count', 'Gather', ['size', 'int1_1'], ['count']),
        makeNode('rows_shape', 'Concat', ['images', 'count'], ['rows_shape'], { axis: 0 }),
        makeNode('rows', 'ConstantOfShape', ['rows_shape'], ['rows']),
        makeNode('second', 'Slice', ['rows', 'int1_0', 'count', 'int1_1', 'two'], ['second']),
        makeNode('second_mean', 'ReduceMean', ['second'], ['second_mean'], { axes: [1] }),
        makeNode('class_one', 'Gather', ['tokens', 'int0_0'], ['class_one'], { axis: 1 }),
        makeNode('first', 'Add', ['class_one', 'second_mean'], ['first']),
      ]);
    },
    /'second' \(Slice\): it takes/,
  ],
  [
    'an operator that is not known',
    (graph) =>
      replaced(graph, 'first', [
        makeNode('run', 'CumSum', ['tokens', 'int1_1'], ['running']),
        makeNode('first', 'Gather', ['running', 'int0_0'], ['first'], { axis: 1 }),
      ]),
    /'run' \(CumSum\): ltrp has no rule for this operator/,
  ],
  [
    'windows that overlap',
    (graph) => {
      const float_data = Array.from({ length: 8 * 3 * 100 }, Math.sin);
      graph.initializer.push({ name: 'wide', dims: [8, 3, 10, 10], data_type: 1, float_data });
      return replaced(graph, 'conv', [
        makeNode('conv', 'Conv', ['pixels', 'wide'], ['conv'], {
          kernel_shape: [10, 10],
          strides: [8, 8],
          pads: [1, 1, 1, 1],
        }),
      ]);
    },
    /no patch projection.*its windows overlap/,
  ],
  [
    'patches in columns first',
    (graph) =>
      replaced(graph, 'flat', [
        makeNode('mirrored', 'Transpose', ['conv'], ['mirrored'], { perm: [0, 1, 3, 2] }),
        makeNode('flat', 'Reshape', ['mirrored', 'int1_0_8_m1'], ['flat']),
      ]),
    /The patches of 'conv' \(Conv\) never become tokens in raster order/,
  ],
];
for (const [name, change, message] of refusals) {
  test(`refused: ${name}`, async (t) => {
    const graph = change(smallVit());
    const folder = await temporaryFolder(t);
    const model = join(folder, 'model.onnx');
    await writeFile(model, encode(graph));
    // It is a good model otherwise.
    await runOnnx(model, { pixels: pixels(1) });
    const error = await t.throwsAsync(pruneOnnx(model, join(folder, 'cut.onnx')), {
      instanceOf: LtrpError,
    });
    t.is(error.code, 'ERR_LTRP_UNSUPPORTED');
    t.regex(error.message, message);
    await t.throwsAsync(stat(join(folder, 'cut.onnx')));
  });
}

test('weights outside the model are copied, not read, under a name that follows the output', async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'out'));
  const graph = smallVit();
  const data = Buffer.alloc(3 * 64 * 8 * 4);
  const projection = graph.initializer.find(({ name }) => name === 'projection') as {
    raw_data?: Uint8Array;
  };
  data.set(projection.raw_data as Uint8Array);
  delete projection.raw_data;
  Object.assign(projection, {
    data_location: 1,
    external_data: [
      { key: 'location', value: 'model.onnx_data' },
      { key: 'offset', value: '0' },
      { key: 'length', value: String(data.length) },
    ],
  });
  await writeFile(join(folder, 'model.onnx'), encode(graph));
  await t.throwsAsync(pruneOnnx(join(folder, 'model.onnx'), join(folder, 'out', 'cut.onnx')), {
    code: 'ERR_LTRP_FILE_NOT_FOUND',
    message: /model\.onnx_data, which is not there/,
  });
  await writeFile(join(folder, 'model.onnx_data'), data);
  const { files } = await pruneOnnx(join(folder, 'model.onnx'), join(folder, 'out', 'cut.onnx'));
  t.deepEqual(files, [join(folder, 'out', 'cut.onnx'), join(folder, 'out', 'cut.onnx_data')]);
  t.deepEqual(await readFile(files[1] as string), data);
  const model = await openOnnx(files);
  const feeds = { pixels: pixels(2), keep: chosen };
  sameOutputs(
    t,
    await model.runAll(feeds),
    await byHand(t, smallVit({ byHand: true }), feeds),
    'some',
  );
  await t.throwsAsync(pruneOnnx(join(folder, 'model.onnx'), join(folder, 'out', 'cut.onnx')), {
    code: 'ERR_LTRP_FILE_EXISTS',
  });
  await pruneOnnx(join(folder, 'model.onnx'), join(folder, 'out', 'cut.onnx'), { overwrite: true });
  t.deepEqual((await readdir(join(folder, 'out'))).sort(), ['cut.onnx', 'cut.onnx_data']);
});

test('files that are replaced together all come back where one cannot be', async (t) => {
  const folder = await temporaryFolder(t);
  const [data, model] = ['m.onnx_data', 'm.onnx'].map((name) => join(folder, name)) as [
    string,
    string,
  ];
  await writeFile(model, 'old model');
  for (const old of [['m.onnx'], ['m.onnx', 'm.onnx_data']]) {
    if (old.length > 1) await writeFile(data, 'old data');
    const writing = writeTogether(
      model,
      [data, model],
      { overwrite: true, signal: undefined },
      async (files) => {
        for (const file of files) {
          await file.open();
          await file.write(Buffer.from('new'));
        }
        // The last one cannot get its name.
        const partial = (await readdir(folder)).filter((name) =>
          /^m\.onnx\.\w+\.partial$/.test(name),
        );
        t.is(partial.length, 1);
        await rm(join(folder, partial[0] as string));
      },
    );
    await t.throwsAsync(writing, { code: 'ERR_LTRP_FILE_WRITE' });
    t.deepEqual((await readdir(folder)).sort(), old);
    t.is(await readFile(model, 'utf8'), 'old model');
  }
  t.is(await readFile(data, 'utf8'), 'old data');
});

test('what is not touched keeps its bytes; unknown fields too', async (t) => {
  const graph = smallVit();
  const folder = await temporaryFolder(t);
  // Field 99 of the model and of the graph, which no schema has.
  const unknown = Uint8Array.of(0x9a, 0x06, 0x02, 0x68, 0x69);
  const bytes = Buffer.concat([encode(graph), unknown]);
  await writeFile(join(folder, 'model.onnx'), bytes);
  await pruneOnnx(join(folder, 'model.onnx'), join(folder, 'cut.onnx'));
  const cut = await readFile(join(folder, 'cut.onnx'));
  t.true(cut.includes(Buffer.from(unknown)));
  interface Decoded {
    graph: { node: { name: string }[]; initializer: { name: string; raw_data: Uint8Array }[] };
  }
  const [before, after] = [bytes, cut].map(
    (each) => modelType.decode(each).toJSON() as Decoded,
  ) as [Decoded, Decoded];
  const find = <Named extends { name: string }>(list: Named[], name: string): Named | undefined =>
    list.find((each) => each.name === name);
  for (const name of ['conv', 'normed', 'scores', 'weights', 'projected']) {
    t.deepEqual(find(after.graph.node, name), find(before.graph.node, name), name);
  }
  t.deepEqual(
    find(after.graph.initializer, 'positions'),
    find(before.graph.initializer, 'positions'),
  );
});

test('the command says what it did, and refuses with the name of the node', async (t) => {
  const folder = await temporaryFolder(t);
  const model = join(folder, 'model.onnx');
  await writeFile(model, encode(smallVit()));
  const done = await ltrp(['prune', 'model.onnx', '--out', 'cut.onnx', '--ids-name', 'kept'], {
    cwd: folder,
  });
  t.is(done.code, 0, done.stderr);
  t.is(
    done.stdout,
    "model.onnx: 20 patches, 2 other tokens stay; 'kept' [images, K] takes the ids to keep; written to cut.onnx\n",
  );
  await runOnnx(join(folder, 'cut.onnx'), { pixels: pixels(1), kept: ids([3]) });
  const again = await ltrp(['prune', 'model.onnx', '--out', 'cut.onnx'], { cwd: folder });
  t.is(again.code, 1);
  t.regex(again.stderr, /replace it with --force/);
  const second = await ltrp(['prune', 'cut.onnx', '--out', 'twice.onnx', '--ids-name', 'kept'], {
    cwd: folder,
  });
  t.regex(second.stderr, /has a tensor 'kept' already; choose another name/);
  await writeFile(model, 'no model');
  const broken = await ltrp(['prune', 'model.onnx', '--out', 'cut.onnx', '--force'], {
    cwd: folder,
  });
  t.regex(broken.stderr, /is no ONNX model/);
});
