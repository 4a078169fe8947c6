/** Operators that add products up: matrix products, attention, convolutions. */
import {
  broadcast,
  changes,
  columnsId,
  plain,
  rowsId,
  sameAxis,
  sizeIs,
  sizeWas,
  tokensOf,
  varied,
  type Axis,
} from '../axes.js';
import { type Call, type Known } from '../call.js';
import { attribute } from '../graph.js';
import { Refusal } from '../refusal.js';
import { Size } from '../size.js';

/** Where the two matrices stand among an operator's inputs. */
export const products: Record<string, [number, number]> = {
  MatMul: [0, 1],
  MatMulInteger: [0, 1],
  FusedMatMul: [0, 1],
  MatMulIntegerToFloat: [0, 1],
  DynamicQuantizeMatMul: [0, 1],
  QLinearMatMul: [0, 3],
};

export function productRule(call: Call): Known[] {
  const [left, right] = products[call.node.op_type] as [number, number];
  const turn = (axes: readonly Axis[], name: string): readonly Axis[] =>
    call.int(name, 0) === 0 ? axes : [...axes.slice(0, -2), ...axes.slice(-2).reverse()];
  if (call.int('transBatchA', 0) !== 0 || call.int('transBatchB', 0) !== 0) {
    throw new Refusal('it transposes its batch');
  }
  const a = turn(call.axes(left), 'transA');
  const b = turn(call.axes(right), 'transB');
  return [{ axes: matrixProduct(call, a, b) }];
}

function matrixProduct(call: Call, a: readonly Axis[], b: readonly Axis[]): Axis[] {
  const inner = a.at(-1) ?? [];
  const otherInner = b.length > 1 ? (b.at(-2) ?? []) : (b[0] ?? []);
  const rows = a.length > 1 ? [varied(a.at(-2) ?? [])] : [];
  const columns = b.length > 1 ? [varied(b.at(-1) ?? [])] : [];
  contract(call, inner, otherInner);
  const { axes, joins } = broadcast([a.slice(0, -2), b.slice(0, -2)]);
  if (joins.length > 0) throw new Refusal('it multiplies each patch by a matrix of its own');
  return [...axes, ...rows, ...columns];
}

function contract(call: Call, a: Axis, b: Axis): void {
  const tokens = [a, b].filter((axis) => tokensOf(axis) !== undefined).length;
  if (tokens === 0) {
    if (changes(a) || changes(b)) throw new Refusal('it adds up over the kept patches');
    return;
  }
  if (tokens < 2 || !sameAxis(a, b)) throw new Refusal('it has a weight for each patch');
  call.mixes = true;
}

export function gemmRule(call: Call): Known[] {
  const turn = (axes: readonly Axis[], name: string): readonly Axis[] =>
    call.int(name, 0) === 0 ? axes : [...axes].reverse();
  const axes = matrixProduct(call, turn(call.axes(0), 'transA'), turn(call.axes(1), 'transB'));
  if (call.has(2)) {
    const { joins } = broadcast([axes, call.axes(2)]);
    if (joins.length > 0) throw new Refusal('it adds a table to the tokens');
  }
  return [{ axes }];
}

/** Weights packed in blocks: the last axis becomes `N`. */
export function packedProductRule(call: Call): Known[] {
  const axes = call.axes(0);
  contract(call, axes.at(-1) ?? [], []);
  return [{ axes: [...axes.slice(0, -1), plain(Size.of(call.int('N', 0)))] }];
}

/** onnxruntime's fused self-attention: [images, tokens, width] with one matrix for queries, keys and values. */
export function fusedAttentionRule(call: Call): Known[] {
  const quantised = call.node.op_type === 'QAttention';
  const axes = call.axes(0);
  for (const index of quantised ? [5, 8] : [3, 4, 5, 6]) {
    if (call.has(index)) throw new Refusal('it has a mask, a bias or a past');
  }
  if (
    attribute(call.node, 'qkv_hidden_sizes') !== undefined ||
    call.int('unidirectional', 0) !== 0 ||
    call.int('do_rotary', 0) !== 0
  ) {
    // Rotary positions would be the places among the kept tokens.
    throw new Refusal('its attention is not the usual one');
  }
  if (axes.length !== 3) throw new Refusal('its input is not [images, tokens, width]');
  const width = sizeWas(call.axes(1).at(-1) ?? []).number;
  if (width === undefined) throw new Refusal('the width of its heads is not known');
  call.mixes = call.touched;
  return [{ axes: [axes[0] as Axis, axes[1] as Axis, plain(Size.of(width / 3))] }];
}

/** Attention of queries, keys and values, [images, tokens, width] or [images, heads, tokens, width] each. */
export function attentionRule(call: Call): Known[] {
  const fused = call.node.domain === 'com.microsoft';
  if (!call.has(1) || !call.has(2)) throw new Refusal('its queries, keys and values are packed');
  // The projection's bias, where there is one, is no concern of the tokens.
  for (let index = 4; index < call.node.input.length; index++) {
    if (call.has(index)) throw new Refusal('it has a mask, a bias or a past');
  }
  if (call.int('is_causal', 0) !== 0 || call.int('unidirectional', 0) !== 0) {
    throw new Refusal('its tokens see only those before them');
  }
  const [q, k, v] = [call.axes(0), call.axes(1), call.axes(2)];
  if (q.length !== k.length || k.length !== v.length || (q.length !== 3 && q.length !== 4)) {
    throw new Refusal('its queries, keys and values are packed');
  }
  const at = q.length - 2;
  if (!sameAxis(k[at] ?? [], v[at] ?? [])) throw new Refusal('it has other keys than values');
  if (!fused && call.has(3))
    addMask(call, [q[0] ?? [], q.length === 4 ? (q[1] ?? []) : [], q[at] ?? [], k[at] ?? []]);
  call.mixes = call.touched;
  return [
    { axes: [...q.slice(0, -1), v.at(-1) ?? []] },
    ...call.node.output.slice(1).map(() => ({})),
  ];
}

/** What is added to the scores [images, heads, queries, keys]: cut like any table. */
function addMask(call: Call, scores: readonly Axis[]): void {
  const mask = call.axes(3);
  const { axes, joins } = broadcast([scores, mask]);
  for (const join of joins) {
    if (join.input !== 1) throw new Refusal('its mask has other tokens than its scores');
    const name = call.node.input[3] as string;
    if (call.editor === undefined) continue;
    const cut = call.editor.cutTable(name, mask, join, axes);
    // This operator does not broadcast a mask over tokens.
    call.editor.setInput(
      3,
      call.editor.expand(cut, [1, 1, sizeIs(axes.at(-2) ?? []), sizeIs(axes.at(-1) ?? [])]),
    );
  }
}

/** The patch projection: a convolution of the picture whose windows lie side by side. */
export function convolutionRule(call: Call): Known[] {
  const axes = call.axes(0);
  const weights = call.axes(call.node.op_type === 'QLinearConv' ? 3 : 1);
  if (axes.some((axis) => tokensOf(axis) !== undefined || changes(axis))) {
    throw new Refusal('it reads the patches as a grid');
  }
  const out = plain(sizeWas(weights[0] ?? []));
  const kernel =
    call.ints('kernel_shape') ?? weights.slice(2).map((axis) => sizeWas(axis).number ?? 0);
  const [batch, , rows, columns] = axes;
  if (axes.length !== 4 || !areSides(rows, columns)) return [{}];
  const strides = call.ints('strides') ?? [1, 1];
  const unpadded =
    (call.ints('pads') ?? []).every((pad) => pad === 0) &&
    call.text('auto_pad')?.startsWith('SAME') !== true;
  const undilated = (call.ints('dilations') ?? []).every((each) => each === 1);
  if (kernel.every((side) => side === 1) && strides.every((stride) => stride === 1) && unpadded) {
    return [{ axes: [batch as Axis, out, rows as Axis, columns as Axis] }];
  }
  if (kernel.join() !== strides.join() || !unpadded || !undilated || call.int('group', 1) !== 1) {
    call.findings.notProjection = 'its windows overlap or leave gaps, so they are no patches';
    return [{}];
  }
  const [height, width] = kernel as [number, number];
  call.findings.projections.push(call.node.output[0] as string);
  const id = batch?.[0]?.id;
  if (id !== undefined) call.findings.batch = id;
  const side = (axis: Axis | undefined, length: number, id: string): Axis => {
    const size = sizeWas(axis ?? []);
    const count =
      size.number === undefined
        ? size.over(Size.of(length))
        : Size.of(Math.floor(size.number / length));
    return [{ was: count, is: count, id }];
  };
  return [
    { axes: [batch as Axis, out, side(rows, height, rowsId), side(columns, width, columnsId)] },
  ];
}

/** Whether these are height and width of a model's input, whole: neighbouring axes of it, behind the images. */
function areSides(rows: Axis | undefined, columns: Axis | undefined): boolean {
  const [first, second] = [rows, columns].map((axis) =>
    axis?.length === 1 ? /^input:(\d+):([^|]*)$/.exec(axis[0]?.id ?? '') : null,
  );
  if (first == null || second == null || first[2] !== second[2]) return false;
  return Number(first[1]) > 0 && Number(first[1]) + 1 === Number(second[1]);
}
