/** Work on a stream of items, several at a time, its results in the order of the items. */
import { described } from '../described.js';
import { invalid, reading } from '../validation.js';

/** Options of {@link mapOrdered}. */
export interface OrderedOptions {
  /** Items pulled from the source whose results have not been taken yet, at most: an integer of at least 1. */
  ahead: number;
  /** Ends the iteration with its reason. */
  signal?: AbortSignal | undefined;
  /** Runs before the first item is pulled. If it throws, the iteration ends with that error. */
  before?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Runs last, however the iteration ends, if it started. */
  after?: (() => void) | undefined;
}

/** What `work` is given besides the item. */
export interface WorkContext {
  index: number;
  /** Aborted as soon as the result is of no use to anybody: by the caller's signal, or because the consumer stopped. */
  signal: AbortSignal;
}

/**
 * Runs `work` on the items of `source`, at most `ahead` at a time, and yields what it returns in the order of the items.
 *
 * - The source is read one item after the other, only while fewer than `ahead` results are waiting to be taken: it is never
 *   read faster than the consumer takes.
 * - When `work` rejects or the source throws, earlier results are yielded, then the iteration ends with that error.
 * - It ends at once when the signal aborts (with its reason) or the consumer stops. The source is then closed by its
 *   `return()`. Running `work` is told by its signal and always waited for; only a source that does not answer is not.
 */
export function mapOrdered<Item, Result>(
  source: Iterable<Item> | AsyncIterable<Item>,
  options: OrderedOptions,
  work: (item: Awaited<Item>, context: WorkContext) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  const run = new OrderedRun(source, options, work);
  const results = run.results();
  // A generator answers return() only between two results; a consumer that stops must not wait for a slow source.
  const stopFirst =
    <Argument>(answer: (argument: Argument) => Promise<IteratorResult<Result, void>>) =>
    (argument: Argument) => {
      run.stop();
      return answer(argument);
    };
  const end = results.return.bind(results);
  const fail = results.throw.bind(results);
  return Object.assign(results, { return: stopFirst(end), throw: stopFirst(fail) });
}

/** `work` whose failures are results too, so that one item's does not end the iteration. */
export function settled<Item, Result>(
  work: (item: Item, context: WorkContext) => Promise<Result>,
): (item: Item, context: WorkContext) => Promise<PromiseSettledResult<Result>> {
  return async (item, context) => {
    try {
      return { status: 'fulfilled', value: await work(item, context) };
    } catch (reason) {
      return { status: 'rejected', reason };
    }
  };
}

interface Pulled<Result> {
  outcome: PromiseSettledResult<Result> | undefined;
  done: Promise<void>;
}

class OrderedRun<Item, Result> {
  readonly #abort = new AbortController();
  /** In the order of the source, from the one whose result is taken next. */
  readonly #waiting: Pulled<Result>[] = [];
  #iterator: AsyncIterator<Item> | Iterator<Item> | undefined;
  #index = 0;
  #pulling = false;
  /** The source ended, or threw. */
  #ended = false;
  #sourceError: { error: unknown } | undefined;
  #stopped = false;
  #wake: () => void = () => undefined;

  constructor(
    private readonly source: Iterable<Item> | AsyncIterable<Item>,
    private readonly options: OrderedOptions,
    private readonly work: (item: Awaited<Item>, context: WorkContext) => Promise<Result>,
  ) {}

  /** The consumer wants no more. */
  stop(): void {
    this.#stopped = true;
    this.#abort.abort();
    this.#wake();
  }

  async *results(): AsyncGenerator<Result, void, undefined> {
    const { signal, before, after } = this.options;
    if (this.#stopped) return;
    signal?.throwIfAborted();
    const aborted = (): void => {
      this.#abort.abort(signal?.reason);
      this.#wake();
    };
    let failed = false;
    this.#iterator = open(this.source);
    signal?.addEventListener('abort', aborted, { once: true });
    try {
      await this.#prepare(before);
      for (;;) {
        const next = await this.#next();
        if (next === undefined) return;
        yield next.value;
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      signal?.removeEventListener('abort', aborted);
      this.#abort.abort();
      try {
        await this.#close(failed);
      } finally {
        await Promise.all(this.#waiting.map(({ done }) => done));
        after?.();
      }
    }
  }

  async #prepare(before: OrderedOptions['before']): Promise<void> {
    try {
      await before?.(this.#abort.signal);
    } catch (error) {
      if (!this.#stopped) throw error; // else the consumer cut it short
    }
  }

  /** The next result, when it is ready; undefined at the end. */
  async #next(): Promise<{ value: Result } | undefined> {
    for (;;) {
      if (this.#stopped) return undefined;
      // Of the caller's own signal, for its reason; this one is aborted at the end too.
      this.options.signal?.throwIfAborted();
      this.#pull();
      const first = this.#waiting[0];
      if (first?.outcome !== undefined) {
        this.#waiting.shift();
        this.#pull();
        if (first.outcome.status === 'rejected') throw first.outcome.reason;
        return { value: first.outcome.value };
      }
      if (first === undefined && this.#ended) {
        if (this.#sourceError !== undefined) throw this.#sourceError.error;
        return undefined;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Asks the source for the next item, if there is room for it. */
  #pull(): void {
    const full = this.#waiting.length >= this.options.ahead;
    if (this.#pulling || this.#ended || full || this.#abort.signal.aborted) return;
    this.#pulling = true;
    void this.#take();
  }

  async #take(): Promise<void> {
    try {
      const next = object(
        'what its next() answers',
        await (this.#iterator as AsyncIterator<Item> | Iterator<Item>).next(),
      );
      if (next.done === true) this.#ended = true;
      else {
        const value = next.value as unknown;
        reading(
          `Item ${this.#index} of the source`,
          () => (Object(value) as { then?: unknown }).then,
        );
        const item = (await value) as Awaited<Item>;
        // An item that comes after the end is dropped.
        if (!this.#abort.signal.aborted) this.#start(item);
      }
    } catch (error) {
      this.#ended = true;
      this.#sourceError = { error };
    }
    this.#pulling = false;
    this.#wake();
    this.#pull();
  }

  #start(item: Awaited<Item>): void {
    const context = { index: this.#index++, signal: this.#abort.signal };
    const pulled: Pulled<Result> = { outcome: undefined, done: Promise.resolve() };
    pulled.done = settled(this.work)(item, context).then((outcome) => {
      pulled.outcome = outcome;
      this.#wake();
    });
    this.#waiting.push(pulled);
  }

  /** Closes a source that has not ended by itself. Its own error counts only if there is no other. */
  async #close(failed: boolean): Promise<void> {
    if (this.#ended) return;
    const closing = (async () => {
      await this.#iterator?.return?.();
    })();
    // return() of a generator that is busy answers when its next item is there, perhaps never.
    if (this.#pulling) closing.catch(() => undefined);
    else if (failed) await closing.catch(() => undefined);
    else await closing;
  }
}

function open<Item>(
  source: Iterable<Item> | AsyncIterable<Item>,
): AsyncIterator<Item> | Iterator<Item> {
  const { [Symbol.asyncIterator]: later } = source as Partial<AsyncIterable<Item>>;
  const iterator = object(
    'its iterator',
    later === undefined ? (source as Iterable<Item>)[Symbol.iterator]() : later.call(source),
  );
  if (typeof iterator.next === 'function') return iterator;
  throw invalid('source must be an iterable, but its iterator has no next().');
}

/** An object that the language asks of an iterable; what is none is refused. */
function object<Value extends object>(what: string, value: Value): Value {
  if (typeof value === 'object' && (value as Value | null) !== null) return value;
  throw invalid(`source must be an iterable, but ${what} is ${described(value)}.`);
}
