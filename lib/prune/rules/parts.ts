/** Operators that join tensors or take parts of them. */
import {
  broadcast,
  changes,
  isUniform,
  isUnit,
  others,
  plain,
  sameAxis,
  sizeIs,
  sizeWas,
  tokensOf,
  varied,
  type Axis,
  type Factor,
  type Segment,
} from '../axes.js';
import { pair, place, type Call, type Known, type Pair } from '../call.js';
import { Refusal } from '../refusal.js';
import { Size } from '../size.js';

export function concatRule(call: Call): Known[] {
  const count = call.node.input.length;
  const inputs = call.node.input.map((_, index) => call.axes(index));
  const rank = inputs[0]?.length ?? 0;
  const at = place(call.int('axis', 0), rank);
  const { axes, joins } = broadcast(
    inputs.map((axes) => axes.map((axis, index): Axis => (index === at ? [] : axis))),
  );
  // An axis of size 1 is no table here: nothing is broadcast.
  for (const own of inputs) {
    own.forEach((axis, index) => {
      if (index !== at && isUnit(axis) && !isUnit(axes[index] ?? []))
        throw new Refusal('its inputs differ in size');
    });
  }
  for (const join of joins) {
    const { editor } = call;
    if (editor === undefined) continue;
    const name = call.node.input[join.input] as string;
    const own = inputs[join.input] as readonly Axis[];
    const cut = editor.cutTable(name, own, join, axes);
    // Of slices that are all the same, one is left; this operator does not broadcast it.
    const single = own.map((axis) => !isUnit(axis) && isUniform(axis));
    const sizes = axes.map((axis, index) =>
      single[index] === true && index !== at ? sizeIs(axis) : 1,
    );
    editor.setInput(join.input, single.includes(true) ? editor.expand(cut, sizes) : cut);
  }
  const result = [...axes];
  result[at] = joined(inputs.map((axes) => axes[at] ?? []));
  const values = inputs.map((_, index) => call.values(index));
  const all = values.every((each) => each !== undefined) && rank === 1;
  return [
    {
      axes: result,
      values: all && count > 0 ? values.flatMap((each) => each as Pair[]) : undefined,
    },
  ];
}

function joined(parts: readonly Axis[]): Axis {
  const only = parts.length === 1 ? parts[0] : undefined;
  if (only !== undefined) return only;
  const was = parts.map(sizeWas).reduce((sum, size) => sum.plus(size), Size.of(0));
  const is = parts.map(sizeIs).reduce((sum, size) => sum.plus(size), Size.of(0));
  if (parts.every((axis) => tokensOf(axis) === undefined)) {
    if (parts.some(changes))
      throw new Refusal('it joins as many rows as there are kept patches with others');
    return plain(was, is);
  }
  const tokens = parts.flatMap((axis): Segment[] => {
    const factor = tokensOf(axis);
    if (factor !== undefined) {
      if (axis.length > 1)
        throw new Refusal('it joins patches of an axis that counts something else too');
      return [...(factor.tokens ?? [])];
    }
    const size = sizeWas(axis).number;
    if (size === undefined || changes(axis))
      throw new Refusal('it joins a number of tokens that is not known');
    return [size];
  });
  if (tokens.filter((segment) => segment === 'patches').length > 1)
    throw new Refusal('it joins the patches twice');
  return [{ was, is, tokens }];
}

/** A place among tokens: so many from the start, or so many from the end. */
interface Place {
  from: 'start' | 'end';
  tokens: number;
}

function placeOf(factor: Factor, { was }: Pair): Place {
  const [before, after] = others(factor.tokens ?? []);
  const size = factor.was.number;
  let { number } = was;
  if (number === undefined) {
    const behind = factor.was.minus(was).number;
    if (behind === undefined) throw new Refusal('where it cuts the tokens is not known');
    number = -behind;
    if (behind === 0) return { from: 'end', tokens: 0 };
  }
  if (number >= 2 ** 31 - 1) return { from: 'end', tokens: 0 };
  if (number <= -(2 ** 31) + 1) return { from: 'start', tokens: 0 };
  if (number >= 0 && number <= before) return { from: 'start', tokens: number };
  if (number < 0 && -number <= after) return { from: 'end', tokens: -number };
  if (size !== undefined) {
    const fromEnd = number < 0 ? -number : size - number;
    if (fromEnd <= 0) return { from: 'end', tokens: 0 };
    if (fromEnd <= after) return { from: 'end', tokens: fromEnd };
    if (fromEnd >= size) return { from: 'start', tokens: 0 };
    if (size - fromEnd <= before) return { from: 'start', tokens: size - fromEnd };
  }
  throw new Refusal('it takes some of the patches by their place in the grid');
}

/** The tokens between two places. */
function between(factor: Factor, start: Place, end: Place): Axis {
  const [before, after] = others(factor.tokens ?? []);
  if (start.from === end.from) {
    const size = start.from === 'start' ? end.tokens - start.tokens : start.tokens - end.tokens;
    return plain(Size.of(Math.max(size, 0)));
  }
  if (start.from === 'end') throw new Refusal('it takes no tokens');
  const kept: Segment[] = [before - start.tokens, 'patches', after - end.tokens];
  const less = start.tokens + end.tokens;
  return [
    {
      was: factor.was.minus(less),
      is: factor.is.minus(less),
      tokens: kept.filter((segment) => segment !== 0),
    },
  ];
}

/** As numbers of a slice: none of them depends on how many patches are kept. */
const farAway = 2 ** 53;
const asStart = ({ from, tokens }: Place): number =>
  from === 'start' ? tokens : tokens === 0 ? farAway : -tokens;

export function sliceRule(call: Call): Known[] {
  const axes = call.axes(0);
  const old = call.ints('starts');
  const starts = old?.map(pair) ?? call.values(1);
  const ends = old === undefined ? call.values(2) : call.ints('ends')?.map(pair);
  const given = call.ints('axes') ?? (call.has(3) ? call.numbers(3) : undefined);
  const steps = call.has(4) ? call.numbers(4) : undefined;
  if (
    starts === undefined ||
    ends === undefined ||
    (call.has(3) && given === undefined) ||
    (call.has(4) && steps === undefined)
  ) {
    return unknownPart(call);
  }
  const result = [...axes];
  const [newStarts, newEnds] = [[...starts], [...ends]];
  let values = call.values(0);
  const moved = new Set<number>();
  (given ?? starts.map((_, index) => index)).forEach((axisGiven, index) => {
    const at = place(axisGiven, axes.length);
    const axis = axes[at] ?? [];
    const [start, end, step] = [starts[index] as Pair, ends[index] as Pair, steps?.[index] ?? 1];
    const factor = tokensOf(axis);
    if (factor !== undefined) {
      if (isWhole(start, end, step, axis)) return;
      if (step !== 1 || axis.length > 1)
        throw new Refusal('it takes some of the patches by their place in the grid');
      const [from, to] = [placeOf(factor, start), placeOf(factor, end)];
      result[at] = between(factor, from, to);
      newStarts[index] = pair(asStart(from));
      newEnds[index] = pair(asStart(to));
      if (!placeIs(factor, start, from) || !placeIs(factor, end, to)) moved.add(index);
      return;
    }
    if (!start.was.is(start.is) || !end.was.is(end.is)) {
      if (isWhole(start, end, step, axis)) return;
      throw new Refusal('it takes as much of a table as there are kept patches');
    }
    if (changes(axis) && !isWhole(start, end, step, axis))
      throw new Refusal('it takes a part of the kept patches');
    const parts = sliced(axis, start.was, end.was, step);
    if (values !== undefined && axes.length === 1) {
      const [first, last, by] = [start.was.number, end.was.number, step];
      values =
        first === undefined || last === undefined ? undefined : sliceOf(values, first, last, by);
    }
    result[at] = parts;
  });
  if (moved.size > 0 && call.editor !== undefined) {
    if (old !== undefined) throw new Refusal('its limits are attributes');
    call.editor.setInput(1, call.editor.shape(newStarts.map(({ is }) => is)));
    call.editor.setInput(2, call.editor.shape(newEnds.map(({ is }) => is)));
    // All of them are of one type.
    if (given !== undefined) call.editor.setInput(3, call.editor.shape(given));
    if (steps !== undefined) call.editor.setInput(4, call.editor.shape(steps));
  }
  return [{ axes: result, values: axes.length === 1 ? values : undefined }];
}

/** Whether a limit, as it stands, means the same place once patches are gone. */
function placeIs(factor: Factor, given: Pair, wanted: Place): boolean {
  const value = given.is.number;
  if (value === undefined)
    return wanted.from === 'end' && factor.is.minus(given.is).is(wanted.tokens);
  if (wanted.from === 'start') return value === wanted.tokens;
  return wanted.tokens === 0
    ? value >= 2 ** 31 - 1 || factor.was.is(value)
    : value === -wanted.tokens;
}

function isWhole(start: Pair, end: Pair, step: number, axis: Axis): boolean {
  const far = (end.was.number ?? 0) >= 2 ** 31 - 1 && (end.is.number ?? 0) >= 2 ** 31 - 1;
  return (
    step === 1 &&
    start.was.is(0) &&
    start.is.is(0) &&
    (far || (end.was.is(sizeWas(axis)) && end.is.is(sizeIs(axis))))
  );
}

function sliced(axis: Axis, start: Size, end: Size, step: number): Axis {
  const size = sizeWas(axis);
  if (step === 1 && start.is(0) && ((end.number ?? 0) >= 2 ** 31 - 1 || end.is(size))) return axis;
  const limit = (value: Size): Size | undefined => {
    const { number: given } = value;
    if (given === undefined) return value;
    if (size.number !== undefined)
      return Size.of(Math.min(Math.max(given < 0 ? given + size.number : given, 0), size.number));
    if (given >= 2 ** 31 - 1) return size;
    return given < 0 ? size.plus(given) : value;
  };
  const [from, to] = [limit(start), limit(end)];
  if (from === undefined || to === undefined) return plain(Size.unknown('slice', size, start, end));
  const length = to.minus(from);
  if (step === 1)
    return plain(length.number === undefined ? length : Size.of(Math.max(length.number, 0)));
  const { number: count } = length;
  return plain(
    count === undefined || step < 1
      ? Size.unknown('slice', size, start, end, Size.of(step))
      : Size.of(Math.ceil(count / step)),
  );
}

function sliceOf<Item>(
  items: readonly Item[],
  start: number,
  end: number,
  step: number,
): Item[] | undefined {
  if (step < 1) return undefined;
  const limit = (value: number): number =>
    Math.max(Math.min(value < 0 ? value + items.length : value, items.length), 0);
  return items.slice(limit(start), limit(end)).filter((_, index) => index % step === 0);
}

function unknownPart(call: Call): Known[] {
  if (call.touched) throw new Refusal('where it cuts is not known');
  return [{}];
}

export function splitRule(call: Call): Known[] {
  const axes = call.axes(0);
  const at = place(call.int('axis', 0), axes.length);
  const axis = axes[at] ?? [];
  const count = call.node.output.length;
  const given = call.ints('split')?.map(pair) ?? (call.has(1) ? call.values(1) : undefined);
  const size = sizeWas(axis).number;
  const factor = tokensOf(axis);
  if (call.has(1) && given === undefined) return unknownPart(call);
  const sizes = given ?? (size === undefined ? undefined : equalParts(size, count).map(pair));
  if (sizes === undefined) return unknownPart(call);
  const part = (each: Axis): Known => ({
    axes: axes.map((own, index) => (index === at ? each : own)),
  });
  if (factor === undefined) {
    if (sizes.some(({ was, is }) => !was.is(is)) || changes(axis))
      throw new Refusal('it splits a table by the number of kept patches');
    const values = axes.length === 1 ? call.values(0) : undefined;
    let from = 0;
    return sizes.map(({ was }) => {
      const length = was.number ?? 0;
      const own = values?.slice(from, from + length);
      from += length;
      return { ...part(plain(was)), values: own };
    });
  }
  if (axis.length > 1)
    throw new Refusal('it splits an axis that counts patches and something else');
  const places: Place[] = [{ from: 'start', tokens: 0 }];
  let end = Size.of(0);
  for (const { was } of sizes) {
    end = end.plus(was);
    places.push(placeOf(factor, { was: end, is: end }));
  }
  if (changes(axis) && call.editor !== undefined) {
    // As slices, which no number of patches is written into.
    const editor = call.editor;
    editor.replace(
      call.node.output.flatMap((output, index) =>
        output === ''
          ? []
          : [
              {
                op_type: 'Slice',
                input: [
                  call.node.input[0] as string,
                  editor.shape([asStart(places[index] as Place)]),
                  editor.shape([asStart(places[index + 1] as Place)]),
                  editor.shape([at]),
                ],
                output: [output],
              },
            ],
      ),
    );
  }
  return sizes.map((_, index) =>
    part(between(factor, places[index] as Place, places[index + 1] as Place)),
  );
}

function equalParts(size: number, count: number): number[] {
  const each = Math.ceil(size / count);
  return Array.from({ length: count }, (_, index) => Math.min(each, size - each * index));
}

export function gatherRule(call: Call): Known[] {
  const axes = call.axes(0);
  const at = place(call.int('axis', 0), axes.length);
  const axis = axes[at] ?? [];
  const indices = call.numbers(1);
  const factor = tokensOf(axis);
  if (call.values(1)?.some(({ was, is }) => !was.is(is)) === true) {
    throw new Refusal('it looks a table up by the number of kept patches');
  }
  if (factor !== undefined) {
    const [before, after] = others(factor.tokens ?? []);
    if (
      indices?.every((index) => (index >= 0 ? index < before : -index <= after)) !== true ||
      axis.length > 1
    ) {
      throw new Refusal('it takes single patches by their place in the grid');
    }
  } else if (changes(axis)) {
    throw new Refusal('it takes single rows of the kept patches');
  }
  const inserted = call.axes(1).map((each): Axis =>
    tokensOf(each) !== undefined
      ? each
      : plain(sizeWas(each), sizeIs(each)).map((factor) => ({
          ...factor,
          uniform: isUniform(each),
        })),
  );
  const values = axes.length === 1 ? call.values(0) : undefined;
  const picked =
    values === undefined ? undefined : indices?.map((index) => values[place(index, values.length)]);
  return [
    {
      axes: [...axes.slice(0, at), ...inserted, ...axes.slice(at + 1)],
      values: picked?.includes(undefined) === true ? undefined : (picked as Pair[] | undefined),
    },
  ];
}

/** Tokens that the model draws for itself: each picture's own, by an index that no picture has part in. */
export function gatherElementsRule(call: Call): Known[] {
  const axes = call.axes(0);
  const at = place(call.int('axis', 0), axes.length);
  const factor = tokensOf(axes[at] ?? []);
  if (factor === undefined) {
    if (call.touched) throw new Refusal('it takes elements by an index that is not understood');
    return [{ axes: call.inputs[1]?.axes?.map(varied) }];
  }
  const alone = others(factor.tokens ?? []).every((count) => count === 0) && axes[at]?.length === 1;
  const index = call.axes(1);
  if (
    !alone ||
    at !== 1 ||
    axes.length !== 3 ||
    index.length !== 3 ||
    tokensOf(index[1] ?? []) !== undefined ||
    changes(axes[at] ?? [])
  ) {
    throw new Refusal('it takes patches by an index that is not understood');
  }
  if (call.findings.draw !== undefined) throw new Refusal('it draws patches a second time');
  const [source, indices] = call.node.input as [string, string];
  call.findings.draw = { output: call.node.output[0] as string, source, indices };
  call.mixes = true;
  const was = sizeWas(index[1] as Axis);
  return [{ axes: [axes[0] as Axis, [{ was, is: was, tokens: ['patches'] }], axes[2] as Axis] }];
}

/** Used by callers that compare whole shapes. */
export const sameShape = (a: readonly Axis[], b: readonly Axis[]): boolean =>
  a.length === b.length && a.every((axis, index) => sameAxis(axis, b[index] ?? []));
