/** Row groups that are in memory, the newest ones, up to a bound. */
import { Slots } from '../slots.js';

export class RowGroupCache {
  /** Bytes of all groups together, at most. */
  limit = 2 ** 30;
  readonly #groups = new Map<string, { bytes: number; pictures: Promise<(Uint8Array | null)[]> }>();
  #bytes = 0;
  /** One is read at a time: two would take the memory of both before either is counted. */
  readonly #reading = new Slots(1);

  get bytes(): number {
    return this.#bytes;
  }

  /** The group, read if it is not there; what went wrong is remembered like a group. */
  get(
    key: string,
    bytes: number,
    read: () => Promise<(Uint8Array | null)[]>,
    isLasting: (error: unknown) => boolean,
  ): Promise<(Uint8Array | null)[]> {
    const there = this.#groups.get(key);
    if (there !== undefined) {
      this.#groups.delete(key); // becomes the newest
      this.#groups.set(key, there);
      return there.pictures;
    }
    const pictures = this.#reading.run(() => {
      this.#makeRoom(key);
      return read();
    });
    this.#groups.set(key, { bytes, pictures });
    this.#bytes += bytes;
    pictures.catch((error: unknown) => {
      if (!isLasting(error)) this.#drop(key);
    });
    return pictures;
  }

  #makeRoom(keep: string): void {
    for (const key of this.#groups.keys()) {
      if (this.#bytes <= this.limit) return;
      if (key !== keep) this.#drop(key);
    }
  }

  #drop(key: string): void {
    this.#bytes -= this.#groups.get(key)?.bytes ?? 0;
    this.#groups.delete(key);
  }
}
