/** Checks of arguments that come from JavaScript, before anything is queued. Each refusal is one sentence. */
import { types } from 'node:util';
import { LtrpError } from './errors.js';
import { isAbortSignal } from './native/job.js';
import type { ImageBatch, JobOptions, PixelBatch } from './types.js';

export function invalid(message: string): LtrpError {
  return new LtrpError('ERR_LTRP_INVALID_ARGUMENT', message);
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value === null || typeof value !== 'object') return String(value);
  if (isThenable(value)) return 'a promise (is there an await missing?)';
  return `a value of type ${Object.prototype.toString.call(value).slice(8, -1)}`;
}

function isThenable(value: object): boolean {
  return 'then' in value && typeof value.then === 'function';
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
        : `from ${minimum} to ${maximum}`;
    throw invalid(`${name} must be an integer ${range}, not ${shown(value)}.`);
  }
}

export function checkBoolean(name: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return;
  throw invalid(`${name} must be true or false, not ${shown(value)}.`);
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
  if (!inside) throw invalid(`${name} must be a number in ${interval}, not ${shown(value)}.`);
}

export function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value as string)) return;
  const list = choices.map((choice) => `'${choice}'`).join(', ');
  throw invalid(`${name} must be one of ${list}, not ${shown(value)}.`);
}

export function checkFloats(name: string, value: unknown, length?: number): void {
  if (value === undefined) return;
  // Not instanceof: arrays of another realm (node:vm, Jest) serve too.
  if (!types.isFloat32Array(value)) {
    throw invalid(`${name} must be a Float32Array, not ${shown(value)}.`);
  }
  if (length !== undefined && value.length !== length) {
    throw invalid(`${name} must have ${length} values, not ${value.length}.`);
  }
}

export function checkIndices(name: string, value: unknown): void {
  if (value === undefined) return;
  if (!types.isInt32Array(value)) {
    throw invalid(`${name} must be an Int32Array, not ${shown(value)}.`);
  }
}

export function checkSignal(value: unknown): void {
  if (value === undefined || isAbortSignal(value)) return;
  throw invalid('signal must be an AbortSignal.');
}

/** All the keys of an options type, which the compiler compares with it. */
export type OptionKeys<Options> = { readonly [Key in keyof Required<Options>]: true };

/** Keys of {@link JobOptions}. */
export const jobKeys: OptionKeys<JobOptions> = { signal: true, onProgress: true };

/**
 * An options object as callers pass it; `undefined` counts as empty. A key that is none of `known` is refused, because a
 * misspelled option would silently be the default; `signal` and `onProgress` are checked here too.
 */
export function checkOptions<T extends object>(
  value: T | undefined,
  known: OptionKeys<T>,
  name = 'options',
): T {
  if (value === undefined) return {} as T;
  if (typeof value !== 'object' || (value as T | null) === null || isThenable(value)) {
    throw invalid(`${name} must be an object, not ${shown(value)}.`);
  }
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(known, key));
  if (unknown !== undefined) {
    throw invalid(
      `${name} has no ${shown(unknown)}; what there is: ${Object.keys(known).join(', ')}.`,
    );
  }
  const { signal, onProgress } = value as { signal?: unknown; onProgress?: unknown };
  checkSignal(signal);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw invalid('onProgress must be a function.');
  }
  return value;
}

export function checkSource(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string' || value === '') {
    throw invalid(`${name} must be a path or the name of an embedded model, not ${shown(value)}.`);
  }
  if (value.includes('\0')) throw invalid(`${name} must not contain a NUL character.`);
}

/** `shape` of given rank with positive sizes. */
export function checkShape(name: string, shape: unknown, rank: number): asserts shape is number[] {
  const good =
    Array.isArray(shape) &&
    shape.length === rank &&
    shape.every((size) => Number.isSafeInteger(size) && size > 0);
  if (!good) throw invalid(`${name} must be an array of ${rank} positive integers.`);
}

/**
 * Checks a batch and, given a patch size, that its sides are multiples of it. Pixels that are not finite are found by the
 * core, off the JavaScript thread.
 */
export function checkImages(images: unknown, patchSize?: number): asserts images is ImageBatch {
  if (typeof images !== 'object' || images === null || isThenable(images)) {
    throw invalid(
      `images must be an ImageBatch { data, shape } as readImages returns it, not ${shown(images)}.`,
    );
  }
  const { data, shape } = images as Partial<ImageBatch>;
  if (!types.isFloat32Array(data)) {
    throw invalid(`images.data must be a Float32Array, not ${shown(data)}.`);
  }
  checkShape('images.shape', shape, 4);
  const [count, channels, height, width] = shape as unknown as [number, number, number, number];
  if (channels !== 3) {
    throw invalid(
      `images.shape must be [images, 3, height, width], but it has ${channels} channels.`,
    );
  }
  checkPixels(data, [count, channels, height, width], { height, width }, patchSize);
}

/** {@link checkImages} for an ImageBatch or a PixelBatch. */
export function checkBatch(
  images: unknown,
  patchSize?: number,
): asserts images is ImageBatch | PixelBatch {
  const { data, shape } = (images ?? {}) as Partial<PixelBatch>;
  if (!types.isUint8Array(data)) {
    checkImages(images, patchSize);
    return;
  }
  checkShape('images.shape', shape, 4);
  const [count, height, width, channels] = shape as unknown as [number, number, number, number];
  if (channels !== 3) {
    throw invalid(
      `images.shape of bytes must be [images, height, width, 3], but it has ${channels} channels.`,
    );
  }
  checkPixels(data, [count, height, width, channels], { height, width }, patchSize);
}

function checkPixels(
  data: Float32Array | Uint8Array,
  shape: readonly number[],
  { height, width }: { height: number; width: number },
  patchSize: number | undefined,
): void {
  const length = shape.reduce((product, size) => product * size, 1);
  if (data.length !== length) {
    throw invalid(
      `images.data must have ${length} values for the shape [${shape.join(', ')}], not ${data.length}.`,
    );
  }
  if (patchSize !== undefined && (height % patchSize !== 0 || width % patchSize !== 0)) {
    throw invalid(
      `The images are ${width} x ${height} pixels, but both sides must be multiples of the patch size ${patchSize}.`,
    );
  }
}

/** Number and size of the images of either kind of batch. */
export function imageGeometry(images: ImageBatch | PixelBatch): {
  count: number;
  height: number;
  width: number;
} {
  const [count, first, second, third] = images.shape;
  return types.isUint8Array(images.data)
    ? { count, height: first, width: second }
    : { count, height: second, width: third };
}
