/**
 * What an axis of a tensor counts. An axis is a product of factors, outermost first (a reshape may join batch and heads, or split
 * heads from width), and each factor keeps its identity through the graph. Axes of size 1 have no factors, or the batch alone.
 */
import { Refusal } from './refusal.js';
import { one, product, Size } from './size.js';

/** A run of tokens: the patches, or a number of others. */
export type Segment = 'patches' | number;

export interface Factor {
  /** Size in the model as it is. */
  was: Size;
  /** Size once it is cut. */
  is: Size;
  /** Of axes of an input, rows and columns of the grid, and what they are split into. */
  id?: string;
  /** The factor counts tokens, in this order. */
  tokens?: readonly Segment[];
  /** All slices along it hold the same values. */
  uniform?: boolean;
}

export type Axis = readonly Factor[];

export const rowsId = 'rows';
export const columnsId = 'columns';

export const plain = (was: Size, is: Size = was): Axis =>
  was.is(1) && is.is(1) ? [] : [{ was, is }];

export const sizeWas = (axis: Axis): Size => product(axis.map(({ was }) => was));
export const sizeIs = (axis: Axis): Size => product(axis.map(({ is }) => is));
export const isUnit = (axis: Axis): boolean => axis.every(({ was, is }) => was.is(1) && is.is(1));
export const tokensOf = (axis: Axis): Factor | undefined =>
  axis.find(({ tokens }) => tokens !== undefined);
export const isUniform = (axis: Axis): boolean => axis.every(({ uniform }) => uniform === true);
export const changes = (axis: Axis): boolean => axis.some(({ was, is }) => !was.is(is));

/** The axis when slices along it may differ. */
export const varied = (axis: Axis): Axis => axis.map((factor) => ({ ...factor, uniform: false }));

/** Tokens in front of the patches, and behind them. */
export function others(tokens: readonly Segment[]): [before: number, after: number] {
  const at = tokens.indexOf('patches');
  const sum = (part: readonly Segment[]): number =>
    part.reduce<number>((total, segment) => total + (segment === 'patches' ? 0 : segment), 0);
  return [sum(tokens.slice(0, at)), sum(tokens.slice(at + 1))];
}

export function sameTokens(a: Factor, b: Factor): boolean {
  return (
    a.was.is(b.was) &&
    a.is.is(b.is) &&
    others(a.tokens ?? []).join() === others(b.tokens ?? []).join()
  );
}

/** Whether two axes count the same things; numbers that lie side by side are one number. */
export function sameAxis(a: Axis, b: Axis): boolean {
  const [left, right] = [joined(a), joined(b)];
  return (
    left.length === right.length &&
    left.every((factor, index) => {
      const other = right[index] as Factor;
      if (factor.tokens !== undefined || other.tokens !== undefined) {
        return (
          factor.tokens !== undefined && other.tokens !== undefined && sameTokens(factor, other)
        );
      }
      return factor.was.is(other.was) && factor.is.is(other.is);
    })
  );
}

function joined(axis: Axis): Factor[] {
  const factors: Factor[] = [];
  for (const factor of axis) {
    if (factor.was.is(1) && factor.is.is(1) && factor.tokens === undefined) continue;
    const last = factors.at(-1);
    if (last === undefined || last.tokens !== undefined || factor.tokens !== undefined) {
      factors.push(factor);
    } else {
      factors[factors.length - 1] = {
        was: last.was.times(factor.was),
        is: last.is.times(factor.is),
      };
    }
  }
  return factors;
}

/** What a reshape asks for: a size of the model as it is, or whatever is left. */
export type Wanted = Size | 'rest';

/**
 * The axes after a reshape: factors keep their order, and each axis takes as many as its size needs.
 *
 * @throws {Refusal} where a size is no product of neighbouring factors, or would divide the patches.
 */
export function regroup(axes: readonly Axis[], wanted: readonly Wanted[]): Axis[] {
  const left = axes.flat();
  const rest = wanted.indexOf('rest');
  const front = rest < 0 ? wanted : wanted.slice(0, rest);
  const result = front.map((size) => take(left, size as Size, 'front'));
  if (rest >= 0) {
    const behind = wanted.slice(rest + 1).reverse();
    const back = behind.map((size) => take(left, size as Size, 'back')).reverse();
    result.push(left.splice(0), ...back);
  }
  // Axes of size 1 may vanish.
  if (left.some(({ was, is }) => !(was.is(1) && is.is(1)))) {
    throw new Refusal('its shape does not take all of its input');
  }
  return result.map(asTokens);
}

function take(left: Factor[], wanted: Size, side: 'front' | 'back'): Factor[] {
  const taken: Factor[] = [];
  const put = (factor: Factor): void => {
    if (side === 'front') taken.push(factor);
    else taken.unshift(factor);
  };
  const next = (): Factor | undefined => (side === 'front' ? left[0] : left.at(-1));
  const drop = (): void => {
    left.splice(side === 'front' ? 0 : -1, 1);
  };
  if (wanted.is(1)) {
    // A batch of one keeps its place.
    const factor = next();
    if (factor?.was.is(1) === true && factor.id !== undefined) {
      put(factor);
      drop();
    }
    return taken;
  }
  for (let size = one; !size.is(wanted);) {
    const factor = next();
    if (factor === undefined) throw new Refusal('its shape does not fit its input');
    const more = size.times(factor.was);
    if (more.is(wanted) || wanted.exactly(more) !== undefined) {
      put(factor);
      drop();
      size = more;
      continue;
    }
    const part = wanted.exactly(size)?.number;
    const whole = factor.was.number;
    if (factor.tokens !== undefined) {
      throw new Refusal('it divides the patches, as a grid or windows do, so it needs all of them');
    }
    if (part === undefined || whole === undefined || whole % part !== 0 || changes([factor])) {
      throw new Refusal('its shape does not fit its input');
    }
    const [outer, inner] = side === 'front' ? [part, whole / part] : [whole / part, part];
    const split = (value: number, place: string): Factor => ({
      was: Size.of(value),
      is: Size.of(value),
      ...(factor.id === undefined ? {} : { id: `${factor.id}|${place}` }),
      ...(factor.uniform === undefined ? {} : { uniform: factor.uniform }),
    });
    const parts = [split(outer, 'outer'), split(inner, 'inner')];
    const [mine, remains] = side === 'front' ? parts : parts.reverse();
    put(mine as Factor);
    drop();
    if (side === 'front') left.unshift(remains as Factor);
    else left.push(remains as Factor);
    return taken;
  }
  return taken;
}

/** Rows and columns of a grid in one axis are its patches in raster order. */
function asTokens(axis: Axis): Axis {
  const [rows, columns] = axis;
  if (axis.length !== 2 || rows?.id === undefined || columns?.id === undefined) return axis;
  const ofConvolution = rows.id === rowsId && columns.id === columnsId;
  if (!ofConvolution && !areCutSides(rows.id, columns.id)) return axis;
  const was = rows.was.times(columns.was);
  return [{ was, is: was, tokens: ['patches'] }];
}

/** Whether these are the outer parts of two neighbouring axes of one input: height and width, cut into patches. */
function areCutSides(rows: string, columns: string): boolean {
  const [first, second] = [rows, columns].map((id) => /^input:(\d+):(.*)\|outer$/s.exec(id));
  return (
    first != null &&
    second != null &&
    first[2] === second[2] &&
    Number(first[1]) + 1 === Number(second[1]) &&
    Number(first[1]) > 0
  );
}

/** What an input of a broadcast operator is joined by: its own axis has the size of all tokens and must be cut with them. */
export interface Join {
  /** Index of the operator's input. */
  input: number;
  /** Axes of the result on which it must be cut. */
  axes: number[];
}

/**
 * The axes of an element-wise result. `joins` lists inputs that have one entry for each token but are no tokens: position tables,
 * relative biases, masks.
 */
export function broadcast(inputs: readonly (readonly Axis[])[]): { axes: Axis[]; joins: Join[] } {
  const rank = Math.max(...inputs.map((axes) => axes.length));
  const joins = new Map<number, Join>();
  const axes = Array.from({ length: rank }, (_, index): Axis => {
    const own = inputs.map((each): Axis => each[index - rank + each.length] ?? []);
    const real = own.filter((axis) => !isUnit(axis));
    const main =
      real.find((axis) => tokensOf(axis) !== undefined) ??
      real.find((axis) => axis.some(({ id }) => id !== undefined)) ??
      real[0] ??
      own.find((axis) => axis.length > 0) ??
      [];
    let known: Size | undefined;
    own.forEach((axis, input) => {
      if (isUnit(axis) || axis === main || sameAxis(axis, main)) return;
      const fixed = sizeWas(axis).number;
      if (
        fixed !== undefined &&
        sizeWas(main).number === undefined &&
        main.length === 1 &&
        !changes(main)
      ) {
        // Sizes that only a run knows must then be this one.
        known = Size.of(fixed);
        return;
      }
      if (!sizeWas(axis).is(sizeWas(main))) {
        throw new Refusal('the sizes of its inputs are not known to be the same');
      }
      if (tokensOf(axis) !== undefined)
        throw new Refusal('its inputs have their tokens in different orders');
      if (!changes(main) && !changes(axis)) return;
      if (isUniform(axis) && sizeIs(axis).is(sizeIs(main))) return;
      if (changes(axis))
        throw new Refusal('it joins the number of kept tokens with something else');
      if (tokensOf(main) === undefined || main.length > 1) {
        throw new Refusal('it joins tokens, batch and a table in one axis');
      }
      const join = joins.get(input) ?? { input, axes: [] };
      join.axes.push(index);
      joins.set(input, join);
    });
    const uniform = own.every((axis) => isUnit(axis) || isUniform(axis));
    const sized = known === undefined ? {} : { was: known, is: known };
    return uniform ? main : varied(main).map((factor) => ({ ...factor, ...sized }));
  });
  return { axes, joins: [...joins.values()] };
}
