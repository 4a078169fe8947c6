/** Limits on pictures and on the cost of decoding them. */
import { LtrpError } from '../errors.js';
import { invalid } from '../validation.js';

/** A picture with a side shorter than this is refused: it has nothing to rank. */
export const minimumSide = 16;

/** Pictures are refused when one side is longer than this many times the other. */
export const maximumAspect = 100;

/** Pictures with more pixels than this are refused before they are decoded (16383 x 16383). */
export const maximumPixels = 0x3fff * 0x3fff;

/** Seconds that drawing an SVG may take: filters and repeated elements can make a small one last for ever. */
export const drawingSeconds = 30;

const gib = 2 ** 30;

/**
 * Bytes that the decodes in flight may need together: the environment variable `LTRP_DECODE_MEMORY`, such as `4GB`, or
 * 1 GiB.
 */
export function decodeMemory(text = process.env['LTRP_DECODE_MEMORY']): number {
  if (text === undefined || text === '') return gib;
  const match = /^(\d+(?:\.\d+)?)\s*(MB|GB)$/i.exec(text.trim());
  const bytes = Number(match?.[1]) * (match?.[2]?.toUpperCase() === 'GB' ? gib : 2 ** 20);
  if (!(bytes >= 2 ** 20 && Number.isSafeInteger(Math.ceil(bytes)))) {
    throw invalid(
      `The environment variable LTRP_DECODE_MEMORY must be a size of at least 1MB, such as 512MB or 4GB; got ${text.slice(0, 200)}.`,
    );
  }
  return Math.ceil(bytes);
}

/** @throws {LtrpError} `ERR_LTRP_IMAGE_SIZE` for a picture that is too large, too small or too long. */
export function checkSourceSize(name: string, width: number, height: number): void {
  const says = `The image ${name} is ${width} x ${height} pixels`;
  const refuse = (but: string) => new LtrpError('ERR_LTRP_IMAGE_SIZE', `${says}, but ${but}.`);
  if (width * height > maximumPixels) {
    throw refuse(`at most ${maximumPixels} pixels are decoded`);
  }
  if (Math.min(width, height) < minimumSide) {
    throw refuse(`both sides must have at least ${minimumSide}`);
  }
  if (Math.max(width, height) > maximumAspect * Math.min(width, height)) {
    throw refuse(`its longer side may be at most ${maximumAspect} times the shorter`);
  }
}

/** @throws {LtrpError} `ERR_LTRP_OUT_OF_MEMORY` when `bytes` are more than {@link decodeMemory}. */
export function checkMemory(
  what: string,
  bytes: number,
  to: 'read' | 'decoded' | 'squeezed' | 'made',
): void {
  const most = decodeMemory();
  if (bytes <= most) return;
  throw new LtrpError(
    'ERR_LTRP_OUT_OF_MEMORY',
    `${what} needs ${sizeText(bytes, Math.ceil)} of memory to be ${to}, but only ${sizeText(most, Math.floor)} is allowed; set the ` +
      `environment variable LTRP_DECODE_MEMORY=${sizeText(bytes, Math.ceil).replace(' ', '')} or more, or save it smaller.`,
  );
}

/** `1.5 GB` or `300 MB`, in powers of 1024. */
function sizeText(bytes: number, round: (value: number) => number): string {
  return bytes >= gib
    ? `${round((bytes / gib) * 10) / 10} GB`
    : `${Math.max(1, round(bytes / 2 ** 20))} MB`;
}

/** Runs work in the order of the calls while the bytes that it needs together fit a budget. */
export class Budget {
  #used = 0;
  readonly #waiting: { bytes: number; begin: () => void }[] = [];

  /** Work larger than the budget runs alone. */
  async run<Result>(bytes: number, work: () => Promise<Result>): Promise<Result> {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) {
      await new Promise<void>((begin) => this.#waiting.push({ bytes, begin }));
    } else this.#used += bytes;
    try {
      return await work();
    } finally {
      this.#used -= bytes;
      for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
        this.#waiting.shift();
        this.#used += next.bytes;
        next.begin();
      }
    }
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= decodeMemory();
  }
}
