/** Operators that treat elements, or rows of features, one by one. */
import { broadcast, changes, isUnit, tokensOf, varied, type Axis } from '../axes.js';
import { pair, place, type Call, type Known, type Pair } from '../call.js';
import { Refusal } from '../refusal.js';
import { Size } from '../size.js';

/** Results of these are as their first input, element by element; further inputs are scalars or rows of features. */
export const unary = new Set(
  `Abs BiasGelu Cast CastLike Ceil Clip Cos Dropout Elu Erf Exp FastGelu Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu
Log Mish Neg Not QuickGelu Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tanh ThresholdedRelu`.split(
    /\s+/,
  ),
);

/** Results of these are element by element of all inputs, broadcast. */
export const binary = new Set(
  'Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Or PRelu Pow Sub Sum Where Xor'.split(
    ' ',
  ),
);

export function unaryRule(call: Call): Known[] {
  let axes = call.axes(0);
  call.inputs.slice(1).forEach((known, index) => {
    const own = known?.axes;
    if (known === undefined || own?.every((axis) => isUnit(axis)) === true) return;
    const last = axes.at(-1);
    if (own?.length !== 1 || last === undefined || tokensOf(last) !== undefined) {
      throw new Refusal(
        `its input '${call.node.input[index + 1] ?? ''}' is neither a scalar nor a row of features`,
      );
    }
    axes = [...axes.slice(0, -1), varied(last)];
  });
  return [{ axes, values: unaryValues(call) }, ...call.node.output.slice(1).map(() => ({ axes }))];
}

function unaryValues(call: Call): Pair[] | undefined {
  const values = call.values(0);
  const { op_type, output } = call.node;
  const known = unaryFunctions[op_type];
  const isCounted = values?.some(({ counted }) => counted === true) === true;
  if (known === undefined && !isCounted) return undefined;
  // What another function makes of a count is not known, but that it is made of it; attributes are the node's own.
  const apply =
    known ?? ((value: Size): Size => Size.unknown(`${op_type} ${output[0] ?? ''}`, value));
  return values?.map(({ was, is, counted = false }) => ({
    was: apply(was),
    is: apply(is),
    counted,
  }));
}

const same = (value: Size): Size => value;
const numeric =
  (name: string, apply: (value: number) => number) =>
  (value: Size): Size =>
    value.number === undefined ? Size.unknown(name, value) : Size.of(apply(value.number));

const unaryFunctions: Record<string, (value: Size) => Size> = {
  Identity: same,
  // Shapes are integers and stay what they are; a fraction that is cut off would be one of a scale.
  Cast: (value) =>
    value.number === undefined || Number.isInteger(value.number)
      ? value
      : Size.unknown('Cast', value),
  Neg: (value) => value.times(-1),
  Floor: numeric('Floor', Math.floor),
  Ceil: numeric('Ceil', Math.ceil),
  Sqrt: numeric('Sqrt', Math.sqrt),
  Not: numeric('Not', (value) => (value === 0 ? 1 : 0)),
};

export function binaryRule(call: Call): Known[] {
  const inputs = call.node.input.map((_, index) => call.axes(index));
  const { axes, joins } = broadcast(inputs);
  for (const join of joins) {
    const { editor } = call;
    if (editor === undefined) continue;
    const name = call.node.input[join.input] as string;
    editor.setInput(
      join.input,
      editor.cutTable(name, inputs[join.input] as readonly Axis[], join, axes),
    );
  }
  return [{ axes, values: binaryValues(call, axes) }];
}

function binaryValues(call: Call, axes: readonly Axis[]): Pair[] | undefined {
  const all = call.node.input.map((_, index) => call.values(index));
  const count = Math.max(...all.map((values) => values?.length ?? 0));
  if (
    axes.length > 1 ||
    all.some((values) => values === undefined || (values.length !== 1 && values.length !== count))
  ) {
    return undefined;
  }
  const apply = binaryFunctions[call.node.op_type];
  if (apply === undefined) return undefined;
  return Array.from({ length: count }, (_, index) => {
    const operands = all.map(
      (values) => (values?.length === 1 ? values[0] : values?.[index]) as Pair,
    );
    const [a, b, c] = operands as [Pair, Pair?, Pair?];
    const counted = operands.some((each) => each.counted === true);
    return { was: apply(a.was, b?.was, c?.was), is: apply(a.is, b?.is, c?.is), counted };
  });
}

const compare =
  (name: string, apply: (a: number, b: number) => boolean) =>
  (a: Size, b: Size = a): Size => {
    const difference = a.minus(b).number;
    return difference === undefined
      ? Size.unknown(name, a, b)
      : Size.of(apply(difference, 0) ? 1 : 0);
  };

type Operation = (a: Size, b?: Size, c?: Size) => Size;

const binaryFunctions: Record<string, Operation> = {
  Add: (a, b = a) => a.plus(b),
  Sub: (a, b = a) => a.minus(b),
  Mul: (a, b = a) => a.times(b),
  Div: (a, b = a) => a.over(b),
  Pow: (a, b = a) => {
    const [x, y] = [a.number, b.number];
    return x === undefined || y === undefined ? Size.unknown('Pow', a, b) : Size.of(x ** y);
  },
  Equal: (a, b = a) => {
    // Sizes are no negative numbers: -1 in a shape equals none of them.
    if (a.number === undefined && (b.number ?? 0) < 0) return Size.of(0);
    return compare('Equal', (x, y) => x === y)(a, b);
  },
  Less: compare('Less', (x, y) => x < y),
  LessOrEqual: compare('LessOrEqual', (x, y) => x <= y),
  Greater: compare('Greater', (x, y) => x > y),
  GreaterOrEqual: compare('GreaterOrEqual', (x, y) => x >= y),
  And: (a, b = a) =>
    a.is(0) || b.is(0) ? Size.of(0) : a.is(1) && b.is(1) ? Size.of(1) : Size.unknown('And', a, b),
  Or: (a, b = a) =>
    a.is(1) || b.is(1) ? Size.of(1) : a.is(0) && b.is(0) ? Size.of(0) : Size.unknown('Or', a, b),
  Where: (condition, a = condition, b = condition) =>
    condition.number === undefined
      ? Size.unknown('Where', condition, a, b)
      : condition.is(0)
        ? b
        : a,
  Max: (a, b = a) => extreme('Max', Math.max, a, b),
  Min: (a, b = a) => extreme('Min', Math.min, a, b),
  Mod: (a, b = a) => {
    const [x, y] = [a.number, b.number];
    return x === undefined || y === undefined
      ? Size.unknown('Mod', a, b)
      : Size.of(((x % y) + y) % y);
  },
};

function extreme(name: string, apply: (a: number, b: number) => number, a: Size, b: Size): Size {
  const [x, y] = [a.number, b.number];
  if (x !== undefined && y !== undefined) return Size.of(apply(x, y));
  return a.is(b) ? a : Size.unknown(name, a, b);
}

/** Normalisations over features, from `axis` to the last. */
export function normalisationRule(call: Call): Known[] {
  const skips = call.node.op_type.startsWith('Skip');
  const inputs = skips ? [call.axes(0), call.axes(1)] : [call.axes(0)];
  const { axes, joins } = broadcast(inputs);
  if (joins.length > 0) throw new Refusal('it adds a table to the tokens');
  const from = skips ? axes.length - 1 : place(call.int('axis', -1), axes.length);
  if (axes.slice(from).some((axis) => tokensOf(axis) !== undefined)) {
    throw new Refusal('it normalises over the patches');
  }
  const whole = { axes: axes.map((axis, index) => (index < from ? axis : varied(axis))) };
  const reduced = { axes: axes.map((axis, index) => (index < from ? axis : [])) };
  return call.node.output.map((_, index) => (index === 0 || index === 3 ? whole : reduced));
}

/** Softmax and its kin: over one axis, whatever its length. */
export function softmaxRule(call: Call): Known[] {
  const axes = call.axes(0);
  const axis = place(call.int('axis', call.opset < 13 ? 1 : -1), axes.length);
  // Before operator set 13 all axes from this one on were one.
  const over = call.opset < 13 ? axes.slice(axis) : [axes[axis] ?? []];
  const tokens = over.filter((each) => tokensOf(each) !== undefined);
  if (tokens.length > 0 && over.filter((each) => !isUnit(each)).length > 1) {
    throw new Refusal('it normalises over patches and another axis together');
  }
  call.mixes ||= tokens.length > 0;
  return [{ axes }];
}

/** Operators that keep the mean or an extreme of fewer patches what it should be. */
const reducible = new Set(['ReduceMean', 'ReduceMax', 'ReduceMin']);

export function reduceRule(call: Call): Known[] {
  const axes = call.axes(0);
  const given = call.axesArgument(1, axes.length);
  if ((given === undefined || given.length === 0) && call.int('noop_with_empty_axes', 0) === 1)
    return [{ axes }];
  const over = given === undefined || given.length === 0 ? axes.map((_, index) => index) : given;
  const tokens = over.filter((index) => tokensOf(axes[index] ?? []) !== undefined);
  if (tokens.length > 0) {
    if (!reducible.has(call.node.op_type)) {
      throw new Refusal('it adds up over the patches, and what follows may count on all of them');
    }
    if (tokens.some((index) => (axes[index] ?? []).length > 1)) {
      throw new Refusal('it reduces patches and another axis together');
    }
    call.mixes = true;
  } else if (over.some((index) => changes(axes[index] ?? []))) {
    throw new Refusal('it adds up over the kept patches');
  }
  const keep = call.int('keepdims', 1) === 1;
  const left = axes.flatMap((axis, index): Axis[] =>
    over.includes(index) ? (keep ? [[]] : []) : [axis],
  );
  const values = call.values(0);
  const product =
    call.node.op_type === 'ReduceProd' && axes.length === 1 && values !== undefined
      ? [
          values.reduce(
            (a, b) => ({
              was: a.was.times(b.was),
              is: a.is.times(b.is),
              counted: a.counted === true || b.counted === true,
            }),
            pair(1),
          ),
        ]
      : undefined;
  return [{ axes: left, values: product }];
}

/** Means and maxima over everything behind batch and channels. */
export function globalPoolRule(call: Call): Known[] {
  const axes = call.axes(0);
  call.mixes ||= axes.slice(2).some((axis) => tokensOf(axis) !== undefined);
  return [{ axes: axes.map((axis, index) => (index < 2 ? axis : [])) }];
}

/** One scale for all, or one for each slice of an axis that counts no patches. */
export function quantiseRule(call: Call): Known[] {
  const axes = call.axes(0);
  const scale = call.axes(1);
  if (!scale.every((axis) => isUnit(axis))) {
    const axis = axes[place(call.int('axis', 1), axes.length)];
    if (scale.length > 1 || axis === undefined || tokensOf(axis) !== undefined) {
      throw new Refusal('it has a scale for each patch');
    }
    return [{ axes: axes.map(varied) }];
  }
  return [{ axes }];
}

/** One scale for the whole tensor: that of a cut graph is the kept tokens' own, as of any graph with fewer tokens. */
export function dynamicQuantiseRule(call: Call): Known[] {
  return [{ axes: call.axes(0) }, { axes: [] }, { axes: [] }];
}
