/** The stream behind rankFiles: order, bounds, failures and every way to end it, at random. */
import { getEventListeners } from 'node:events';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { mapOrdered, settled } from '../lib/stream/ordered.js';

interface Plan {
  /** Turns of the event loop that the work on each item takes; negative: it rejects after as many. */
  works: number[];
  /** Turns that the source takes for each item. */
  pulls: number[];
  /** Turns that the consumer takes for each result. */
  takes: number[];
  ahead: number;
}

const plans = fc.record({
  works: fc.array(fc.integer({ min: -6, max: 6 }), { maxLength: 40 }),
  pulls: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 5 }),
  takes: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 5 }),
  ahead: fc.integer({ min: 1, max: 9 }),
});

const runs = { numRuns: 150 };

async function turns(count: number): Promise<void> {
  for (let turned = 0; turned < Math.abs(count); turned++) await turn();
}

const cyclic = (values: readonly number[], at: number): number =>
  values[at % values.length] as number;

/** What can be seen of a stream from outside. */
class Observed {
  pulled = 0;
  taken = 0;
  running = 0;
  mostAhead = 0;
  opened = 0;
  closed = 0;
  readonly plan: Plan;
  /** The source throws instead of giving this item. */
  throwsAt = Infinity;
  /** The source never gives this item. */
  hangsAt = Infinity;

  constructor(plan: Plan) {
    this.plan = plan;
  }

  async *source(): AsyncGenerator<number> {
    this.opened++;
    try {
      for (let item = 0; item < this.plan.works.length; item++) {
        await turns(cyclic(this.plan.pulls, item));
        if (item === this.throwsAt) throw new Error(`no item ${item}`);
        if (item === this.hangsAt) await new Promise(() => undefined);
        this.pulled++;
        this.mostAhead = Math.max(this.mostAhead, this.pulled - this.taken);
        yield item;
      }
    } finally {
      this.closed++;
    }
  }

  readonly work = async (item: number, { index }: { index: number }): Promise<number> => {
    if (item !== index) throw new Error('the index is the place in the source');
    this.running++;
    try {
      const time = this.plan.works[item] as number;
      await turns(time);
      if (time < 0) throw new Error(`item ${item} failed`);
      return item;
    } finally {
      this.running--;
    }
  };

  /** Everything is over: nothing runs, nothing is open. */
  isOver(): boolean {
    return this.running === 0 && this.opened === this.closed;
  }
}

const outcomes = (works: readonly number[]): (number | string)[] =>
  works.map((time, item) => (time < 0 ? `item ${item} failed` : item));

const shown = (outcome: PromiseSettledResult<number>): number | string =>
  outcome.status === 'fulfilled' ? outcome.value : (outcome.reason as Error).message;

// Rejections that nobody handles are a failure of ava's, for this whole file.

test('results come in order, failures in their places, and never more than ahead at a time', async (t) => {
  const property = fc.asyncProperty(plans, async (plan) => {
    const seen = new Observed(plan);
    const got: (number | string)[] = [];
    const { ahead } = plan;
    for await (const outcome of mapOrdered(seen.source(), { ahead }, settled(seen.work))) {
      seen.taken++;
      got.push(shown(outcome));
      await turns(cyclic(plan.takes, got.length));
    }
    // The result that the consumer has just been given makes room for one more.
    return (
      JSON.stringify(got) === JSON.stringify(outcomes(plan.works)) &&
      seen.mostAhead <= ahead + 1 &&
      seen.isOver()
    );
  });
  await t.notThrowsAsync(fc.assert(property, runs));
});

test('as many as allowed are under way', async (t) => {
  const seen = new Observed({ works: Array<number>(40).fill(3), pulls: [0], takes: [0], ahead: 7 });
  let most = 0;
  const work = (item: number, context: { index: number }): Promise<number> => {
    const result = seen.work(item, context);
    most = Math.max(most, seen.running);
    return result;
  };
  const { signal } = new AbortController();
  for await (const item of mapOrdered(seen.source(), { ahead: 7, signal }, work)) {
    t.is(item, seen.taken++);
  }
  t.is(most, 7);
  t.is(getEventListeners(signal, 'abort').length, 0, 'a signal that lives on keeps nothing');
});

test('nothing is pulled before the first result is asked for, and no more than ahead after it', async (t) => {
  const seen = new Observed({ works: Array<number>(40).fill(1), pulls: [0], takes: [0], ahead: 5 });
  const results = mapOrdered(seen.source(), { ahead: 5 }, seen.work);
  await turns(20);
  t.is(seen.pulled, 0);
  await results.next();
  await turns(50);
  t.is(seen.pulled, 6, 'one taken, five ahead');
  await results.next();
  await turns(50);
  t.is(seen.pulled, 7);
  await results.return();
  t.true(seen.isOver());
});

test('an abort at any time ends it with the reason, and nothing goes on', async (t) => {
  const property = fc.asyncProperty(plans, fc.nat(60), async (plan, when) => {
    const seen = new Observed(plan);
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new Error('enough');
    const got: (number | string)[] = [];
    const aborting = turns(when).then(() => {
      controller.abort(reason);
    });
    let ended: unknown;
    try {
      const options = { ahead: plan.ahead, signal };
      for await (const outcome of mapOrdered(seen.source(), options, settled(seen.work))) {
        if (signal.aborted) throw new Error('a result after the abort');
        got.push(shown(outcome));
        await turns(cyclic(plan.takes, got.length));
      }
    } catch (error) {
      ended = error;
    }
    const over = seen.running === 0;
    await aborting;
    await turns(10); // a source that was at its next item closes when it has it
    const all = outcomes(plan.works);
    const expected = ended === undefined ? all : all.slice(0, got.length);
    return (
      (ended === reason || ended === undefined) &&
      JSON.stringify(got) === JSON.stringify(expected) &&
      over &&
      seen.isOver() &&
      getEventListeners(signal, 'abort').length === 0
    );
  });
  await t.notThrowsAsync(fc.assert(property, runs));
});

test('a consumer may stop at any time, by break or by throwing', async (t) => {
  const property = fc.asyncProperty(plans, fc.nat(39), fc.boolean(), async (plan, when, throws) => {
    const seen = new Observed(plan);
    let taken = 0;
    let thrown: unknown;
    const mine = new Error('thrown by the consumer');
    try {
      for await (const outcome of mapOrdered(seen.source(), plan, settled(seen.work))) {
        if (shown(outcome) !== outcomes(plan.works)[taken]) return false;
        if (taken++ < when) continue;
        if (throws) throw mine;
        break;
      }
    } catch (error) {
      thrown = error;
    }
    const over = seen.running === 0;
    await turns(10);
    const stopped = plan.works.length > when;
    return (
      over &&
      seen.isOver() &&
      thrown === (stopped && throws ? mine : undefined) &&
      taken === Math.min(plan.works.length, when + 1)
    );
  });
  await t.notThrowsAsync(fc.assert(property, runs));
});

test('what the source throws comes after everything before it', async (t) => {
  const property = fc.asyncProperty(plans, fc.nat(39), async (plan, at) => {
    const seen = new Observed(plan);
    seen.throwsAt = at;
    const got: (number | string)[] = [];
    let thrown: unknown;
    try {
      for await (const outcome of mapOrdered(seen.source(), plan, settled(seen.work))) {
        got.push(shown(outcome));
      }
    } catch (error) {
      thrown = error;
    }
    const fails = at < plan.works.length;
    return (
      JSON.stringify(got) === JSON.stringify(outcomes(plan.works.slice(0, at))) &&
      (fails ? (thrown as Error).message === `no item ${at}` : thrown === undefined) &&
      seen.isOver()
    );
  });
  await t.notThrowsAsync(fc.assert(property, runs));
});

test('work that rejects ends it with that error in its place', async (t) => {
  const property = fc.asyncProperty(plans, async (plan) => {
    const seen = new Observed(plan);
    const got: number[] = [];
    let thrown: unknown;
    try {
      for await (const item of mapOrdered(seen.source(), plan, seen.work)) got.push(item);
    } catch (error) {
      thrown = error;
    }
    const first = plan.works.findIndex((time) => time < 0);
    const good = first < 0 ? plan.works.length : first;
    const message = first < 0 ? undefined : `item ${first} failed`;
    const over = seen.running === 0;
    await turns(10);
    return (
      over &&
      seen.isOver() &&
      got.length === good &&
      (thrown as Error | undefined)?.message === message
    );
  });
  await t.notThrowsAsync(fc.assert(property, runs));
});

test('a source that never answers holds up neither an abort nor a consumer that stops', async (t) => {
  const plan = { works: Array<number>(10).fill(0), pulls: [0], takes: [0], ahead: 4 };
  const controller = new AbortController();
  const seen = new Observed(plan);
  seen.hangsAt = 2;
  const results = mapOrdered(
    seen.source(),
    { ...plan, signal: controller.signal },
    settled(seen.work),
  );
  t.is((await results.next()).value?.status, 'fulfilled');
  t.is((await results.next()).value?.status, 'fulfilled');
  const third = results.next();
  await turns(5);
  const reason = new Error('enough');
  controller.abort(reason);
  t.is(await third.catch((error: unknown) => error), reason);

  const again = new Observed(plan);
  again.hangsAt = 0;
  const stuck = mapOrdered(again.source(), plan, settled(again.work));
  const first = stuck.next();
  await turns(5);
  t.deepEqual(await stuck.return(), { done: true, value: undefined });
  t.deepEqual(await first, { done: true, value: undefined });
  t.deepEqual(await stuck.next(), { done: true, value: undefined });
});

test('calls of next() that overlap are answered in their order', async (t) => {
  const seen = new Observed({ works: [5, 1, 3, 0, 2], pulls: [1], takes: [0], ahead: 3 });
  const results = mapOrdered(seen.source(), { ahead: 3 }, seen.work);
  const answers = await Promise.all(Array.from({ length: 7 }, () => results.next()));
  t.deepEqual(
    answers.map(({ value }) => value),
    [0, 1, 2, 3, 4, undefined, undefined],
  );
});

test('the signal of the work tells it that nobody wants its result', async (t) => {
  const told: number[] = [];
  const work = async (item: number, { signal }: { signal: AbortSignal }): Promise<number> => {
    if (item === 0) {
      await turns(2); // until the others are under way
      return item;
    }
    const ended = await sleep(10_000, 'slept', { signal }).catch(() => 'told');
    if (ended === 'told') told.push(item);
    return item;
  };
  for await (const item of mapOrdered([0, 1, 2, 3], { ahead: 4 }, work)) {
    t.is(item, 0);
    break;
  }
  t.deepEqual(told.sort(), [1, 2, 3]);
});

test('before and after frame every run that was begun', async (t) => {
  const log: string[] = [];
  const options = {
    ahead: 2,
    before: async () => {
      await turn();
      log.push('before');
    },
    after: () => void log.push('after'),
  };
  const work = async (item: number): Promise<number> => {
    await turn();
    log.push(`work ${item}`);
    return item;
  };
  for await (const item of mapOrdered([1, 2], options, work)) log.push(`take ${item}`);
  t.is(log[0], 'before');
  t.is(log.at(-1), 'after');
  t.is(log.length, 6);

  log.length = 0;
  await mapOrdered([1], options, work).return();
  t.deepEqual(log, [], 'a run that was never begun');

  const broken = { ...options, before: () => Promise.reject(new Error('no ranker')) };
  let closed = false;
  const source = (function* () {
    try {
      yield 1;
    } finally {
      closed = true;
    }
  })();
  await t.throwsAsync(mapOrdered(source, broken, work).next(), { message: 'no ranker' });
  t.deepEqual(log, ['after']);
  t.false(closed, 'a generator that never ran has nothing to close');
  t.deepEqual([...source], [], 'but it is closed');
});

test('an error of return() counts only where there is no other', async (t) => {
  const source = {
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.resolve({ done: false as const, value: 1 }),
      return: () => Promise.reject(new Error('cannot close')),
    }),
  };
  const work = (item: number): Promise<number> => Promise.resolve(item);
  const results = mapOrdered(source, { ahead: 1 }, work);
  await results.next();
  await turns(3);
  await t.throwsAsync(results.return(), { message: 'cannot close' });
  const failing = mapOrdered(source, { ahead: 1 }, () => Promise.reject(new Error('failed')));
  await t.throwsAsync(failing.next(), { message: 'failed' });
});

test('work on an item that comes after the loop was left is never begun', async (t) => {
  const begun: string[] = [];
  let give: (item: string) => void = () => undefined;
  const late = new Promise<string>((resolve) => (give = resolve));
  // A synchronous iterable of a promise: its next() answers at once, the item comes later.
  const source: (string | Promise<string>)[] = ['first', late];
  const work = (item: string): Promise<string> => {
    begun.push(item);
    return Promise.resolve(item);
  };
  for await (const item of mapOrdered(source, { ahead: 2 }, work)) {
    t.is(item, 'first');
    break;
  }
  give('late');
  for (let turned = 0; turned < 5; turned++) await turn();
  t.deepEqual(begun, ['first']);
});
