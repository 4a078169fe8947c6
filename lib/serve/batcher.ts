/** Dynamic batching: items that arrive at any moment are computed together, and none waits for others beyond a bound. */

export interface BatcherOptions<Item, Result> {
  /** Items with the same key can be computed together. */
  key: (item: Item) => string;
  /** Items of a batch of such items, at most. */
  most: (item: Item) => number;
  /** Milliseconds after its arrival until which an item may wait for others. */
  maxWait: number;
  /** Never rejects: one outcome for each item. `signal`: nobody waits for any of them. */
  compute: (items: readonly Item[], signal: AbortSignal) => Promise<PromiseSettledResult<Result>[]>;
  /** Told how many items each batch has. */
  onBatch?: ((items: number) => void) | undefined;
}

/** Batches given to `compute`: the one it works on, and one more so that it never waits for this thread. */
const computing = 2;

interface Waiting<Item, Result> {
  item: Item;
  /** When it stops waiting for others, on performance.now()'s clock. */
  due: number;
  /** Its caller left. */
  gone: boolean;
  /** Cancels its batch if all have left it. */
  batch: { abort: (reason: unknown) => void } | undefined;
  settle: (outcome: PromiseSettledResult<Result>) => void;
}

/**
 * A batch starts
 *
 * - when it is full;
 * - when nothing is computed and no other item is being prepared: nothing could join it;
 * - when `maxWait` milliseconds have passed since its oldest item arrived, however long the item was prepared.
 *
 * Of several the one with the oldest item starts, so what an item waits beyond that, it waits for the computation of those before it.
 */
export class Batcher<Item, Result> {
  /** By key, each in order of arrival here. */
  readonly #groups = new Map<string, Waiting<Item, Result>[]>();
  /** Items being prepared. */
  #coming = 0;
  #computing = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: BatcherOptions<Item, Result>) {}

  /** Items prepared and not computed yet. */
  get waiting(): number {
    return [...this.#groups.values()].reduce((sum, group) => sum + group.length, 0);
  }

  /**
   * Waits for the item that `prepare` yields, then for its result.
   *
   * @param arrived - when its request did, on performance.now()'s clock.
   * @param signal - Aborted, the promise rejects at once with its reason, and the item leaves the queue. A batch that all have left
   *   is cancelled.
   */
  async run(arrived: number, prepare: () => Promise<Item>, signal: AbortSignal): Promise<Result> {
    let item: Item;
    this.#coming++;
    try {
      signal.throwIfAborted();
      item = await prepare();
      signal.throwIfAborted();
    } catch (error) {
      this.#coming--;
      this.#start();
      throw error;
    }
    this.#coming--;
    return this.#join(item, arrived + this.options.maxWait, signal);
  }

  #join(item: Item, due: number, signal: AbortSignal): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const waiting: Waiting<Item, Result> = {
        item,
        due,
        gone: false,
        batch: undefined,
        settle: (outcome) => {
          signal.removeEventListener('abort', leave);
          if (outcome.status === 'fulfilled') resolve(outcome.value);
          else reject(outcome.reason as Error);
        },
      };
      const key = this.options.key(item);
      const leave = (): void => {
        waiting.gone = true;
        this.#remove(key, waiting);
        waiting.batch?.abort(signal.reason);
        reject(signal.reason as Error);
        this.#start();
      };
      signal.addEventListener('abort', leave, { once: true });
      const group = this.#groups.get(key) ?? [];
      group.push(waiting);
      this.#groups.set(key, group);
      this.#start();
    });
  }

  #remove(key: string, waiting: Waiting<Item, Result>): void {
    const group = this.#groups.get(key) ?? [];
    const index = group.indexOf(waiting);
    if (index >= 0) group.splice(index, 1);
    if (group.length === 0) this.#groups.delete(key);
  }

  #start(): void {
    clearTimeout(this.#timer);
    while (this.#computing < computing) {
      const key = this.#next();
      if (key === undefined) break;
      this.#computing++;
      void this.#compute(this.#take(key)).finally(() => {
        this.#computing--;
        this.#start();
      });
    }
    if (this.#computing < computing && this.#groups.size > 0) {
      const next = Math.min(...[...this.#groups.values()].map(dueOf));
      this.#timer = setTimeout(() => this.#start(), Math.max(1, next - performance.now()));
    }
  }

  /** Of the groups that may start, the one with the oldest item. One size that is always full cannot keep the others waiting. */
  #next(): string | undefined {
    const alone = this.#computing === 0 && this.#coming === 0;
    const now = performance.now();
    let next: string | undefined;
    let oldest = Infinity;
    for (const [key, group] of this.#groups) {
      const due = dueOf(group);
      if (due >= oldest) continue;
      if (!alone && due > now && group.length < this.#most(group)) continue;
      [next, oldest] = [key, due];
    }
    return next;
  }

  #most(group: readonly Waiting<Item, Result>[]): number {
    return this.options.most((group[0] as Waiting<Item, Result>).item);
  }

  #take(key: string): Waiting<Item, Result>[] {
    const group = this.#groups.get(key) as Waiting<Item, Result>[];
    const batch = group.splice(0, this.#most(group));
    if (group.length === 0) this.#groups.delete(key);
    return batch;
  }

  async #compute(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    const controller = new AbortController();
    const whenAllLeft = {
      abort: (reason: unknown): void => {
        if (batch.every(({ gone }) => gone)) controller.abort(reason);
      },
    };
    for (const waiting of batch) waiting.batch = whenAllLeft;
    this.options.onBatch?.(batch.length);
    const outcomes = await this.options.compute(
      batch.map(({ item }) => item),
      controller.signal,
    );
    for (const [index, waiting] of batch.entries()) {
      waiting.settle(outcomes[index] as PromiseSettledResult<Result>);
    }
  }
}

function dueOf(group: readonly { due: number }[]): number {
  return Math.min(...group.map(({ due }) => due));
}
