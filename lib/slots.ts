/** At most `count` calls at a time, in the order in which they were asked for. */
export class Slots {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((start) => this.#queue.push(start));
    try {
      return await work();
    } finally {
      // The slot goes straight to the next in line.
      const next = this.#queue.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
