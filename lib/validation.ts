/**
 * Reads arguments from JavaScript and refuses unknown keys. The binding refuses wrong types and the core wrong values; arguments
 * that do not reach the core are checked here. Each refusal is one sentence: the argument, what must hold, what came.
 *
 * Reading an argument may run the caller's code: getters, proxies, iterators. So it is read once, here, at the call.
 */
import { types } from 'node:util';
import { described, describedError, lengthOf } from './described.js';
import { isLtrpError, LtrpError } from './errors.js';
import { words, type ImageBatch, type JobOptions, type PixelBatch } from './types.js';

export function invalid(message: string, cause?: unknown): LtrpError {
  return new LtrpError('ERR_LTRP_INVALID_ARGUMENT', message, { cause });
}

/** Runs code that may be the caller's. If it throws, the argument `name` is refused. */
export function reading<Value>(name: string, read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    if (isLtrpError(cause)) throw cause;
    throw invalid(`${name} cannot be read: that threw ${describedError(cause)}.`, cause);
  }
}

export function checkInteger(
  name: string,
  value: unknown,
  minimum: number,
  maximum = Number.MAX_SAFE_INTEGER,
): void {
  if (value === undefined) return;
  if (!Number.isSafeInteger(value) || (value as number) < minimum || (value as number) > maximum) {
    const range =
      maximum === Number.MAX_SAFE_INTEGER
        ? `of at least ${minimum}`
        : `in [${minimum}, ${maximum}]`;
    throw invalid(`${name} must be an integer ${range}; got ${described(value)}.`);
  }
}

export function checkBoolean(name: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return;
  throw invalid(`${name} must be true or false; got ${described(value)}.`);
}

/** Refuses an argument that was left out; the other checks let `undefined` pass. */
export function checkPresent(name: string, value: unknown): void {
  if (value === undefined || value === null) throw invalid(`${name} is missing.`);
}

/** A number in the open interval (0, 1), or in (0, 1] with `closed`, or [0, 1] with `whole`. */
export function checkShare(
  name: string,
  value: unknown,
  interval: '(0, 1)' | '(0, 1]' | '[0, 1)' | '[0, 1]',
): void {
  if (value === undefined) return;
  const inside =
    typeof value === 'number' &&
    (interval.startsWith('[') ? value >= 0 : value > 0) &&
    (interval.endsWith(']') ? value <= 1 : value < 1);
  if (!inside) throw invalid(`${name} must be in ${interval}; got ${described(value)}.`);
}

export function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value as string)) return;
  const list = choices.map((choice) => `'${choice}'`).join(', ');
  throw invalid(`${name} must be one of ${list}; got ${described(value)}.`);
}

/** Refuses an array whose memory is gone. */
export function checkAttached(name: string, array: ArrayBufferView): void {
  if (lengthOf(array) > 0) return;
  try {
    new Uint8Array(array.buffer);
  } catch {
    throw invalid(`${name} has no data: its buffer is detached, because it was transferred.`);
  }
}

/** Signals of our own for those of another realm or of a polyfill. */
const counterparts = new WeakMap<object, AbortSignal>();

/** The signal to go by: `value` itself, or one that is aborted with it. */
function readSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  if (!types.isProxy(value) && value instanceof AbortSignal) return value;
  const signal = reading('signal', () => counterpartOf(value));
  if (signal === undefined)
    throw invalid(`signal must be an AbortSignal; got ${described(value)}.`);
  return signal;
}

/** By the members that are relied on; undefined where these are missing. */
function counterpartOf(value: unknown): AbortSignal | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const known = counterparts.get(value);
  if (known !== undefined) return known;
  const given = value as Partial<AbortSignal>;
  const methods = [given.addEventListener, given.removeEventListener];
  if (typeof given.aborted !== 'boolean' || methods.some((it) => typeof it !== 'function')) {
    return undefined;
  }
  const controller = new AbortController();
  const abort = (): void => controller.abort(given.reason);
  if (given.aborted) abort();
  else given.addEventListener?.('abort', abort, { once: true });
  counterparts.set(value, controller.signal);
  return controller.signal;
}

/** Keys of {@link JobOptions}. */
export const jobKeys = words<keyof JobOptions>()('signal onProgress');

/**
 * Copies a caller's options; `undefined` counts as empty. A key that is not in `known` is refused, because a misspelled option
 * would silently be the default. `signal` and `onProgress` are checked here too.
 */
export function checkOptions<T extends object>(
  value: T | undefined,
  known: readonly (keyof T & string)[],
  name = 'options',
): T {
  if (value === undefined) return {} as T;
  if (typeof value !== 'object' || (value as T | null) === null || types.isPromise(value)) {
    throw invalid(`${name} must be an object; got ${described(value)}.`);
  }
  const unknown = reading(name, () => Object.keys(value)).find(
    (key) => !known.includes(key as never),
  );
  if (unknown !== undefined) {
    throw invalid(`${name} has no ${described(unknown)}; what there is: ${known.join(', ')}.`);
  }
  const options = readFields(value, known) as Partial<T>;
  const { signal, onProgress } = options as { signal?: unknown; onProgress?: unknown };
  if (signal !== undefined) (options as { signal?: unknown }).signal = readSignal(signal);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw invalid(`onProgress must be a function; got ${described(onProgress)}.`);
  }
  return options as T;
}

/** The fields `keys` of any object, each read once. `of` is the object's name in messages, if it has one. */
export function readFields<Key extends string>(
  value: object,
  keys: readonly Key[],
  of?: string,
): Partial<Record<Key, unknown>> {
  const fields: Partial<Record<Key, unknown>> = {};
  for (const key of keys) {
    const field = reading(of === undefined ? key : `${of}.${key}`, () => {
      return (value as Partial<Record<Key, unknown>>)[key];
    });
    if (field !== undefined) fields[key] = field;
  }
  return fields;
}

/** No system takes a longer one. */
const longestPath = 4096;

/** A string without NUL characters, at which the operating system would cut it. */
export function checkPath(name: string, value: unknown, what: string): asserts value is string {
  if (typeof value !== 'string' || value === '') {
    throw invalid(`${name} must be ${what}; got ${described(value)}.`);
  }
  if (value.length > longestPath) {
    throw invalid(`${name} must have at most ${longestPath} characters; got ${value.length}.`);
  }
  if (value.includes('\0')) throw invalid(`${name} must not contain a NUL character.`);
}

export function checkSource(name: string, value: unknown): asserts value is string {
  checkPath(name, value, 'a path or the name of an embedded model');
}

/** The elements of an array or of a typed array of `length`; undefined for anything else. */
export function readList(name: string, value: unknown, length: number): unknown[] | undefined {
  return reading(name, () => {
    if (!Array.isArray(value) && !types.isTypedArray(value)) return undefined;
    const list = value as ArrayLike<unknown>;
    if (list.length !== length) return undefined;
    return Array.from({ length }, (_, index) => list[index]);
  });
}

/** A short array, such as a shape, read once; anything else as it is. */
export function readShort(name: string, value: unknown): unknown {
  return reading(name, () => {
    if (!Array.isArray(value) && !types.isTypedArray(value)) return value;
    const list = value as ArrayLike<unknown>;
    return Array.from({ length: Math.min(list.length, 9) }, (_, index) => list[index]);
  });
}

/** A batch as given, read once; the core checks it. */
export function readImageBatch(images: unknown): ImageBatch | PixelBatch {
  if (typeof images !== 'object' || images === null || types.isPromise(images)) {
    throw invalid(
      `images must be an ImageBatch { data, shape } as readImages returns it; got ${described(images)}.`,
    );
  }
  const { data, shape } = readFields(images, ['data', 'shape'], 'images');
  return { data, shape: readShort('images.shape', shape) } as ImageBatch | PixelBatch;
}
