/** Any JavaScript value in a few words, for messages, without running the value's code. */
import { types } from 'node:util';

/** The part of a value from outside that messages quote. */
const longest = 200;

/** Elements of an array that are shown one by one. */
const shownElements = 8;

const kinds: readonly (readonly [(value: unknown) => boolean, string])[] = [
  [types.isProxy, 'a proxy'],
  [types.isPromise, 'a promise (is there an await missing?)'],
  [types.isArrayBuffer, 'an ArrayBuffer'],
  [types.isSharedArrayBuffer, 'a SharedArrayBuffer'],
  [types.isDataView, 'a DataView'],
  [types.isDate, 'a Date'],
  [types.isRegExp, 'a RegExp'],
  [types.isMap, 'a Map'],
  [types.isSet, 'a Set'],
  [types.isNativeError, 'an Error'],
  [types.isBoxedPrimitive, 'a boxed primitive'],
];

/** Whose getters know a typed array itself, whatever properties it has been given. */
const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;

/** Number of values of a typed array; 0 where its buffer is detached, or has become too short. */
export function lengthOf(array: ArrayBufferView): number {
  return Reflect.get(typedArray, 'length', array) as number;
}

/** At most 200 characters of `text`. */
export function cut(text: string): string {
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}

/** `value` in a few words. */
export function described(value: unknown, inArray = false): string {
  switch (typeof value) {
    case 'string':
      return cut(JSON.stringify(value));
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'bigint':
      return cut(`${value}n`);
    case 'symbol':
      return cut(value.toString());
    case 'function':
      return 'a function';
    case 'object':
      return value === null ? 'null' : describedObject(value, inArray);
    default:
      return String(value);
  }
}

function describedObject(value: object, inArray: boolean): string {
  const kind = kinds.find(([is]) => is(value));
  if (kind !== undefined) return kind[1];
  if (types.isTypedArray(value)) {
    return `a ${String(Reflect.get(typedArray, Symbol.toStringTag, value))} of length ${lengthOf(value)}`;
  }
  if (!Array.isArray(value)) return 'an object';
  if (inArray || value.length > shownElements) return `an array of length ${value.length}`;
  const elements = Array.from({ length: value.length }, (_, index) => {
    const property = Object.getOwnPropertyDescriptor(value, index);
    if (property === undefined) return 'nothing';
    if (!('value' in property)) return 'a getter';
    return described(property.value, true);
  });
  return cut(`[${elements.join(', ')}]`);
}

/** Describes a thrown value: an error's message, or the value. */
export function describedError(thrown: unknown): string {
  if (typeof thrown === 'string') return cut(thrown);
  if (!types.isNativeError(thrown) || types.isProxy(thrown)) return described(thrown);
  const message: unknown = Object.getOwnPropertyDescriptor(thrown, 'message')?.value;
  return typeof message === 'string' && message !== '' ? cut(message) : 'an Error';
}
