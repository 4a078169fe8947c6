/** How much a service takes: bytes, pixels, time, and pictures at a time. */
import { Problem, tooLarge } from './problems.js';

export interface Limits {
  /** Bytes of one picture's file, at most. */
  readonly bytes: number;
  /** Pixels of one picture, at most, by its header. */
  readonly pixels: number;
  /** Seconds from the beginning of a request to its answer, at most. */
  readonly seconds: number;
  /** Pictures that are received, waiting or computed at a time, at most. */
  readonly pictures: number;
  /** Milliseconds that a picture may wait for others after its request arrived. */
  readonly maxWait: number;
  /** Pictures computed together, at most. */
  readonly batchSize: number;
  /** Seconds that accepted requests have when the service stops. */
  readonly stopSeconds: number;
}

/** Bytes of JSON in which a picture of so many bytes fits as base64, with options beside it. */
export const jsonBytes = (bytes: number): number => Math.ceil(bytes / 3) * 4 + 65536;

/** Bytes of a multipart body around its picture. */
export const multipartOverhead = 65536;

/** Bytes of bodies and fetched pictures in memory at a time: so many of the largest pictures. */
const largestTogether = 16;

/** What one request takes of what there is. */
export interface Place {
  /** Takes room for so many bytes more. @throws {Problem} 429. */
  readonly add: (bytes: number) => void;
  /** Gives everything back. To be called once, and nothing after it. */
  readonly leave: () => void;
}

/**
 * What is in flight. A request is refused before its body is read: a picture more than the service has places for, or bytes more
 * than it keeps. It is never queued outside.
 */
export class Admission {
  #pictures = 0;
  #bytes = 0;

  constructor(private readonly limits: Limits) {}

  get pictures(): number {
    return this.#pictures;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes a place for a body of `declared` bytes (undefined: it does not say), which may have `most`.
   *
   * @throws {Problem} 413, 429.
   */
  enter(declared: number | undefined, most: number): Place {
    if (declared !== undefined && declared > most) {
      throw tooLarge(`The body has ${declared} bytes; at most ${most} are taken.`);
    }
    if (this.#pictures >= this.limits.pictures) throw this.#busy();
    let taken = 0;
    const add = (bytes: number): void => {
      if (this.#bytes + bytes > largestTogether * jsonBytes(this.limits.bytes)) throw this.#busy();
      this.#bytes += bytes;
      taken += bytes;
    };
    add(declared ?? most);
    this.#pictures++;
    const leave = (): void => {
      this.#pictures--;
      this.#bytes -= taken;
    };
    return { add, leave };
  }

  #busy(): Problem {
    const what = `${this.#pictures} pictures with ${this.#bytes} bytes`;
    return new Problem(429, 'ERR_SERVE_BUSY', `${what} are being worked on; try again later.`, 1);
  }
}
