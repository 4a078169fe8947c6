/** Why a picture cannot be decoded, in one sentence. */
import type { Buffer } from 'node:buffer';
import { LtrpError, undecodable } from '../errors.js';
import { isCutOff, type Kind } from './kinds.js';
import { drawingSeconds } from './limits.js';
import { ProcessError } from './process.js';

/** Errors for files that are not pictures, or that this build of sharp does not read. */
export function notRead(
  name: string,
  { name: kind, remedy, picture }: Kind,
  cause?: unknown,
): LtrpError {
  const what = picture ? `${kind} is not read by this build of sharp` : `it is ${kind}`;
  return undecodable(
    `The image ${name} cannot be decoded: ${what}${remedy === undefined ? '' : `; ${remedy}`}.`,
    cause,
  );
}

/**
 * What sharp, or the process that it ran in, could not decode.
 *
 * @param noHevc - its header says HEVC, which this sharp does not read.
 */
export function decodeError(
  name: string,
  bytes: Buffer,
  kind: Kind,
  cause: unknown,
  noHevc: boolean,
): LtrpError {
  const because = (
    why: string,
    code: 'ERR_LTRP_IMAGE_DECODE' | 'ERR_LTRP_OUT_OF_MEMORY' = 'ERR_LTRP_IMAGE_DECODE',
  ) => new LtrpError(code, `The image ${name} cannot be decoded: ${why}.`, { cause });
  if (cause instanceof ProcessError) {
    return cause.why === 'too long'
      ? because(`drawing it takes more than ${drawingSeconds} s; convert it to PNG`)
      : because(
          `it ended the process that decoded it (${cause.message}), which happens when memory runs out; ` +
            'convert it to PNG or JPEG, or allow more with the environment variable LTRP_DECODE_MEMORY',
          'ERR_LTRP_OUT_OF_MEMORY',
        );
  }
  const why = reason(cause);
  if (kind.format === undefined) return notRead(name, kind, cause);
  const codec = kind.format === 'heif' ? missingCodec(why, noHevc) : undefined;
  if (codec !== undefined) {
    return because(`${codec} is not read by this build of sharp; convert it to JPEG or AVIF`);
  }
  if (/out of memory|cannot allocate|bad_alloc/i.test(why)) {
    return because(
      `${why}; allow more with the environment variable LTRP_DECODE_MEMORY, or save it smaller`,
      'ERR_LTRP_OUT_OF_MEMORY',
    );
  }
  if (isCutOff(bytes, kind.format)) {
    return because(
      `this ${kind.name} file is cut off after ${bytes.byteLength} bytes; fetch or copy it again`,
    );
  }
  return because(
    `this ${kind.name} file is damaged, or of a variant that sharp does not read (${why})`,
  );
}

/** The coding of a HEIF, if this sharp cannot read it. */
function missingCodec(why: string, noHevc: boolean): string | undefined {
  // Not by what libvips says: decodes that fail at the same time mix their complaints.
  if (noHevc) return 'HEIC (HEVC)';
  const [, codec] = /compression format has not been built in: ([\w -]+)/i.exec(why) ?? [];
  return codec === undefined ? undefined : `HEIF (${codec.trim()})`;
}

/**
 * libvips's text: the last line, because what is tried first complains first. Without its full stop, and without what is
 * said of the reading of every picture that ends early.
 */
function reason(cause: unknown): string {
  const { message } = (cause ?? {}) as { message?: unknown };
  const text = typeof message === 'string' ? message : String(cause);
  const lines = text.split('\n').filter((line) => !/^\s*$|bad seek/.test(line));
  return (lines.at(-1) ?? text).slice(0, 200).replace(/\.$/, '');
}
