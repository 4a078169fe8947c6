import { types } from 'node:util';
import { describedError } from './described.js';

/**
 * Every code that an {@link LtrpError} can have; docs/troubleshooting.md explains each. The union is closed, so that a `switch`
 * can be checked for completeness; a new minor version may add codes.
 */
export type LtrpErrorCode =
  | 'ERR_LTRP_LIBTORCH_NOT_FOUND'
  | 'ERR_LTRP_LIBTORCH_INVALID'
  | 'ERR_LTRP_LIBTORCH_UNSUPPORTED'
  | 'ERR_LTRP_LIBTORCH_CONFLICT'
  | 'ERR_LTRP_LIBTORCH_ARCHIVE'
  | 'ERR_LTRP_LIBTORCH_CHECKSUM'
  | 'ERR_LTRP_LIBTORCH_LOAD'
  | 'ERR_LTRP_DOWNLOAD'
  | 'ERR_LTRP_NOT_BUILT'
  | 'ERR_LTRP_CORE_LOAD'
  | 'ERR_LTRP_SYSTEM_TOO_OLD'
  | 'ERR_LTRP_SHARP_LOAD'
  | 'ERR_LTRP_UNSUPPORTED'
  | 'ERR_LTRP_OUT_OF_MEMORY'
  | 'ERR_LTRP_INTERNAL'
  | 'ERR_LTRP_IMAGE_NOT_FOUND'
  | 'ERR_LTRP_IMAGE_DECODE'
  | 'ERR_LTRP_IMAGE_SIZE'
  | 'ERR_LTRP_FILE_NOT_FOUND'
  | 'ERR_LTRP_FILE_EXISTS'
  | 'ERR_LTRP_FILE_READ'
  | 'ERR_LTRP_FILE_WRITE'
  | 'ERR_LTRP_CHECKPOINT_FORMAT'
  | 'ERR_LTRP_CHECKPOINT_CONTENT'
  | 'ERR_LTRP_INVALID_ARGUMENT'
  | 'ERR_LTRP_NOT_FINITE'
  | 'ERR_LTRP_DISPOSED'
  | 'ERR_LTRP_CANCELLED'
  | 'ERR_LTRP_DATA_EMPTY'
  | 'ERR_LTRP_DATA_UNREADABLE'
  | 'ERR_LTRP_RUN_EXISTS'
  | 'ERR_LTRP_RUN_CONFLICT'
  | 'ERR_LTRP_RUN_DAMAGED'
  | 'ERR_LTRP_DIVERGED'
  | 'ERR_LTRP_RENDEZVOUS'
  | 'ERR_LTRP_RANK_LOST';

/** The one error class of the package. `code` is stable and for programs; `message` says what is wrong and what to do. */
export class LtrpError extends Error {
  /** What kind of error it is, for programs. */
  readonly code: LtrpErrorCode;

  /** For the package itself: code, sentence, and what it was caused by. */
  constructor(code: LtrpErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : options);
    this.name = 'LtrpError';
    this.code = code;
  }
}

const ofCode =
  (code: LtrpErrorCode) =>
  (message: string, cause?: unknown): LtrpError =>
    new LtrpError(code, message, { cause });

// Makers of the errors that many files throw.
export const conflict = ofCode('ERR_LTRP_RUN_CONFLICT');
export const dataUnreadable = ofCode('ERR_LTRP_DATA_UNREADABLE');
export const downloadFailed = ofCode('ERR_LTRP_DOWNLOAD');
export const libtorchInvalid = ofCode('ERR_LTRP_LIBTORCH_INVALID');
export const notFound = ofCode('ERR_LTRP_FILE_NOT_FOUND');
export const runDamaged = ofCode('ERR_LTRP_RUN_DAMAGED');
export const undecodable = ofCode('ERR_LTRP_IMAGE_DECODE');
export const unreadable = ofCode('ERR_LTRP_FILE_READ');
export const unsupported = ofCode('ERR_LTRP_UNSUPPORTED');
export const unwritable = ofCode('ERR_LTRP_FILE_WRITE');

/** The message of whatever was thrown. */
export const messageOf = (thrown: unknown): string =>
  thrown instanceof Error ? thrown.message : String(thrown);

/** The system's message when `path` could not be read. */
export const readError = (path: string, cause: unknown): LtrpError =>
  unreadable(`${path} cannot be read: ${messageOf(cause)}.`, cause);

/** Whether it is an {@link LtrpError} of this copy of the package. Safe with any value. */
export function isLtrpError(error: unknown): error is LtrpError {
  return !types.isProxy(error) && error instanceof LtrpError;
}

/**
 * Wraps whatever was thrown: an LtrpError as it is, anything else with `code: 'ERR_LTRP_…'` and a message (an error of the core,
 * of another realm, of another copy of the package) under its code, the rest as ERR_LTRP_INTERNAL.
 */
export function toLtrpError(error: unknown): LtrpError {
  if (isLtrpError(error)) return error;
  // By its members: an `Error` of another realm is not an instance of ours.
  const code = ownValue(error, 'code');
  const message = ownValue(error, 'message');
  const known = typeof code === 'string' && code.startsWith('ERR_LTRP_');
  // The core's codes are the union's: test/troubleshooting.test.ts compares them.
  return new LtrpError(
    known ? (code as LtrpErrorCode) : 'ERR_LTRP_INTERNAL',
    typeof message === 'string' ? message : describedError(error),
    { cause: error },
  );
}

/** An object's own property, read without running the object's code. */
function ownValue(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return undefined;
  return Object.getOwnPropertyDescriptor(value, key)?.value as unknown;
}
