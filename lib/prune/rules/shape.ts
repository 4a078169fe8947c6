/** Operators that make shapes of tensors, or tensors of shapes. */
import {
  changes,
  isUnit,
  plain,
  regroup,
  sizeIs,
  sizeWas,
  tokensOf,
  varied,
  type Axis,
  type Wanted,
} from '../axes.js';
import {
  pair,
  pairOf,
  place,
  samePair,
  vector,
  type Call,
  type Known,
  type Pair,
} from '../call.js';
import { attribute, constantOf } from '../graph.js';
import { Refusal } from '../refusal.js';
import { product, Size } from '../size.js';

export function shapeRule(call: Call): Known[] {
  const axes = call.axes(0);
  const start = place(call.int('start', 0), axes.length);
  const end = place(call.int('end', axes.length), axes.length);
  return [vector(axes.slice(Math.max(start, 0), end).map(pairOf))];
}

export function sizeRule(call: Call): Known[] {
  const axes = call.axes(0);
  const counted = axes.some((axis) => tokensOf(axis) !== undefined);
  const value = { was: product(axes.map(sizeWas)), is: product(axes.map(sizeIs)), counted };
  return [{ axes: [], values: [value] }];
}

/** A reshape's target, in full, must be what its factors are; one that was for all patches is replaced. */
export function reshapeRule(call: Call): Known[] {
  const axes = call.axes(0);
  const attribute = call.ints('shape');
  const target = attribute === undefined ? call.values(1) : attribute.map(pair);
  if (target === undefined) {
    if (!call.touched) return [{}];
    throw new Refusal('its target shape is not known');
  }
  const copies = call.int('allowzero', 0) === 0;
  const wanted = target.map(({ was }, index): Wanted => {
    if (was.is(-1)) return 'rest';
    if (copies && was.is(0)) return sizeWas(axes[index] ?? []);
    return was;
  });
  const result = withoutRest(axes, wanted, () => regroup(axes, wanted));
  const right = result.map(sizeIs);
  const stands = target.every(({ is }, index) => {
    if (is.is(-1)) return true;
    const means = copies && is.is(0) ? sizeIs(axes[index] ?? []) : is;
    return means.is(right[index] as Size);
  });
  if (!stands && call.editor !== undefined) {
    if (attribute !== undefined) throw new Refusal('its shape is an attribute');
    // Of two sizes that only a run knows, the runtime may find one.
    const sizes = right.map((size, index) => ((target[index] as Pair).was.is(-1) ? -1 : size));
    call.editor.setInput(1, call.editor.shape(sizes));
  }
  return [{ axes: result, values: call.values(0) }];
}

/** Numbers without a name that is tracked may be regrouped at will; a tensor that is plain throughout may not fit by factors. */
function withoutRest(
  axes: readonly Axis[],
  wanted: readonly Wanted[],
  otherwise: () => Axis[],
): Axis[] {
  const numbers = axes.map((axis) =>
    changes(axis) || axis.some(({ id, tokens }) => id !== undefined || tokens !== undefined)
      ? undefined
      : sizeWas(axis).number,
  );
  if (
    numbers.includes(undefined) ||
    wanted.some((size) => size !== 'rest' && size.number === undefined)
  ) {
    return otherwise();
  }
  const all = numbers.reduce<number>((a, b) => a * (b ?? 0), 1);
  const known = wanted.reduce<number>((a, b) => (b === 'rest' ? a : a * (b.number ?? 0)), 1);
  if (axes.some((axis) => axis.some(({ uniform }) => uniform === true))) return otherwise();
  return wanted.map((size) => plain(size === 'rest' ? Size.of(all / known) : size));
}

export function flattenRule(call: Call): Known[] {
  const axes = call.axes(0);
  const at = place(call.int('axis', 1), axes.length);
  return [{ axes: [axes.slice(0, at).flat(), axes.slice(at).flat()] }];
}

export function transposeRule(call: Call): Known[] {
  const axes = call.axes(0);
  const order = call.ints('perm') ?? axes.map((_, index) => axes.length - 1 - index);
  return [{ axes: order.map((index) => axes[index] ?? []) }];
}

export function squeezeRule(call: Call): Known[] {
  const axes = call.axes(0);
  const given = call.axesArgument(1, axes.length);
  const gone = given ?? axes.flatMap((axis, index) => (isUnit(axis) ? [index] : []));
  if (
    given === undefined &&
    axes.some((axis) => !isUnit(axis) && sizeWas(axis).number === undefined)
  ) {
    throw new Refusal('which axes it drops depends on the run');
  }
  for (const index of gone) {
    if (!isUnit(axes[index] ?? []))
      throw new Refusal('it drops an axis that is not known to have size 1');
  }
  return [{ axes: axes.filter((_, index) => !gone.includes(index)), values: call.values(0) }];
}

export function unsqueezeRule(call: Call): Known[] {
  const axes = [...call.axes(0)];
  const given = call.ints('axes') ?? call.numbers(1);
  if (given === undefined) throw new Refusal('its axes are not constant');
  const rank = axes.length + given.length;
  for (const index of given.map((axis) => place(axis, rank)).sort((a, b) => a - b))
    axes.splice(index, 0, []);
  return [{ axes, values: call.values(0) }];
}

export function expandRule(call: Call): Known[] {
  const target = call.values(1);
  const axes = call.axes(0);
  if (target === undefined) {
    if (!call.touched) return [{}];
    throw new Refusal('its target shape is not known');
  }
  const rank = Math.max(target.length, axes.length);
  const wanted: Pair[] = [];
  const result = Array.from({ length: rank }, (_, index): Axis => {
    const own = axes[index - rank + axes.length] ?? [];
    const to = target[index - rank + target.length] ?? pair(1);
    if (isUnit(own)) {
      wanted.push(to);
      if (to.was.is(1) && to.is.is(1)) return own;
      return [{ was: to.was, is: to.is, uniform: true }];
    }
    if (!to.was.is(1) && !to.was.is(sizeWas(own)))
      throw new Refusal('its target shape does not fit its input');
    // A target of 1 leaves an axis as it is.
    wanted.push(changes(own) ? pair(1) : to);
    if (!changes(own) && !samePair(to, pair(1)) && !to.is.is(sizeWas(own))) {
      throw new Refusal('it gives a table the number of kept patches');
    }
    return own;
  });
  const stands = wanted.every((each, index) => {
    const given = target[index - rank + target.length];
    if (given === undefined || samePair(given, each)) return true;
    return given.is.is(sizeIs(result[index] ?? []));
  });
  if (!stands) call.editor?.setInput(1, call.editor.shape(wanted.map(({ is }) => is)));
  return [{ axes: result, values: isUnit(result.flat()) ? call.values(0) : undefined }];
}

export function constantOfShapeRule(call: Call): Known[] {
  const target = call.values(0);
  if (target === undefined) return [{}];
  const value = constantValue(call);
  const count = target.length === 1 ? target[0]?.was.number : undefined;
  return [
    {
      axes: target.map(({ was, is }) =>
        was.is(1) && is.is(1) ? [] : [{ was, is, uniform: true }],
      ),
      values:
        value === undefined || count === undefined || count > 64
          ? undefined
          : Array.from({ length: count }, () => pair(value)),
    },
  ];
}

function constantValue({ node }: Call): number | undefined {
  const tensor = attribute(node, 'value')?.t;
  return tensor == null ? 0 : constantOf(tensor, () => undefined).values?.[0];
}

export function rangeRule(call: Call): Known[] {
  const [start, limit, step] = [0, 1, 2].map((index) => call.values(index)?.[0]);
  if ([start, limit, step].some((each) => each !== undefined && !each.was.is(each.is))) {
    throw new Refusal('it numbers the tokens that are left, not the patches that they are');
  }
  if (start === undefined || limit === undefined || step === undefined) return [{}];
  const length = limit.was.minus(start.was);
  const [count, by] = [length.number, step.was.number];
  if (count !== undefined && by !== undefined) {
    return [{ axes: [plain(Size.of(Math.max(Math.ceil(count / by), 0)))] }];
  }
  return step.was.is(1) && start.was.is(0) ? [{ axes: [plain(length)] }] : [{}];
}

/** Rows of a table by constant places. */
export function gatherNdRule(call: Call): Known[] {
  if (call.touched) throw new Refusal('it takes patches by an index that is not understood');
  const [data, indices] = [call.axes(0), call.axes(1)];
  const depth = sizeWas(indices.at(-1) ?? []).number;
  if (depth === undefined) return [{}];
  const left = data.slice(call.int('batch_dims', 0) + depth);
  return [{ axes: [...indices.slice(0, -1), ...left].map((axis) => plain(sizeWas(axis))) }];
}

/** Overwrites some elements. */
export function scatterRule(call: Call): Known[] {
  if (call.touched) throw new Refusal('it overwrites some of the patches');
  const axes = call.inputs[0]?.axes;
  return [{ axes: axes?.map(varied) }];
}

export function tileRule(call: Call): Known[] {
  const axes = call.axes(0);
  const repeats = call.values(1);
  if (repeats === undefined) return untouched(call, 'how often it repeats its input is not known');
  return [
    {
      axes: axes.map((axis, index): Axis => {
        const times = repeats[index] ?? pair(1);
        if (samePair(times, pair(1))) return axis;
        if (isUnit(axis)) return [{ ...times, uniform: true }];
        if (tokensOf(axis) !== undefined || changes(axis) || !times.was.is(times.is)) {
          throw new Refusal('it repeats the patches');
        }
        return plain(sizeWas(axis).times(times.was));
      }),
    },
  ];
}

/** Numbers drawn at random, as many as the input has. */
export function randomRule(call: Call): Known[] {
  const axes = call.axes(0);
  if (axes.some(changes)) throw new Refusal('it draws a number for each kept patch');
  return [{ axes: axes.map((axis) => plain(sizeWas(axis))) }];
}

export function topRule(call: Call): Known[] {
  const axes = call.axes(0);
  const at = place(call.int('axis', -1), axes.length);
  const count = call.values(1)?.[0];
  if (call.touched || count === undefined) return untouched(call, 'it sorts the patches');
  const result = axes.map((axis, index) => (index === at ? plain(count.was) : axis));
  return [{ axes: result }, { axes: result }];
}

export function padRule(call: Call): Known[] {
  const axes = call.axes(0);
  const pads = call.ints('pads') ?? call.numbers(1);
  if (pads === undefined || call.has(3)) return untouched(call, 'what it pads is not known');
  return [
    {
      axes: axes.map((axis, index): Axis => {
        const [before = 0, after = 0] = [pads[index], pads[index + axes.length]];
        if (before === 0 && after === 0) return axis;
        if (tokensOf(axis) !== undefined || changes(axis)) throw new Refusal('it pads the patches');
        return plain(sizeWas(axis).plus(before + after));
      }),
    },
  ];
}

export function resizeRule(call: Call): Known[] {
  const axes = call.axes(0);
  if (axes.some((axis) => tokensOf(axis) !== undefined || changes(axis))) {
    throw new Refusal('it resizes a grid of patches');
  }
  const sizes = call.values(3);
  const scales = call.numbers(2);
  if (call.ints('axes') !== undefined) return [{}];
  if (sizes !== undefined) {
    if (sizes.some(({ was, is }) => !was.is(is)))
      throw new Refusal('it resizes a table to the kept patches');
    return [{ axes: sizes.map(({ was }) => plain(was)) }];
  }
  if (scales?.length !== axes.length) return untouched(call, 'the size it resizes to is not known');
  return [
    {
      axes: axes.map((axis, index): Axis => {
        const size = sizeWas(axis).number;
        const scale = scales[index] as number;
        return scale === 1
          ? axis
          : size === undefined
            ? plain(Size.unknown('scaled', sizeWas(axis)))
            : plain(Size.of(Math.floor(size * scale)));
      }),
    },
  ];
}

/** What an operator that is not understood yields, where no patch is concerned. */
export function untouched(call: Call, reason: string): Known[] {
  if (call.touched) throw new Refusal(reason);
  return call.node.output.map(() => ({}));
}
