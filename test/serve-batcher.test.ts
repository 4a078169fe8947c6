/** Dynamic batching without a clock: what starts when, who leaves, and what is cancelled. */
import test from 'ava';
import { Batcher } from '../lib/serve/batcher.js';

interface Started {
  items: string[];
  signal: AbortSignal;
  finish: () => void;
}

/** A batcher of strings `key:name`, whose batches end when the test says so. */
function batcher(
  maxWait: number,
  most = 4,
): { queue: Batcher<string, string>; started: Started[] } {
  const started: Started[] = [];
  const queue = new Batcher<string, string>({
    key: (item) => item.split(':', 1)[0]!,
    most: () => most,
    maxWait,
    compute: (items, signal) =>
      new Promise((resolve) => {
        const finish = (): void => {
          resolve(items.map((item) => ({ status: 'fulfilled', value: item.toUpperCase() })));
        };
        started.push({ items: [...items], signal, finish });
      }),
  });
  return { queue, started };
}

const forever = 60_000;
const never = (): AbortSignal => new AbortController().signal;
const now = (item: string) => (): Promise<string> => Promise.resolve(item);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const batches = (started: readonly Started[]): string[] => started.map(({ items }) => items.join());

test('one that is alone starts at once; those that come meanwhile are computed together', async (t) => {
  const { queue, started } = batcher(forever);
  const results = [queue.run(performance.now(), now('a:1'), never())];
  await turn();
  t.deepEqual(batches(started), ['a:1']);
  for (const item of ['a:2', 'b:1', 'a:3'])
    results.push(queue.run(performance.now(), now(item), never()));
  await turn();
  t.is(queue.waiting, 3);
  t.deepEqual(batches(started), ['a:1']);
  started[0]!.finish();
  await turn();
  // Of several keys the oldest, and the other one when it is done.
  t.deepEqual(batches(started), ['a:1', 'a:2,a:3']);
  started[1]!.finish();
  await turn();
  t.deepEqual(batches(started), ['a:1', 'a:2,a:3', 'b:1']);
  started[2]!.finish();
  t.deepEqual(await Promise.all(results), ['A:1', 'A:2', 'B:1', 'A:3']);
});

test('a full batch starts beside the one that is computed, a third waits', async (t) => {
  const { queue, started } = batcher(forever, 2);
  const results = ['a:1', 'a:2', 'a:3', 'a:4', 'a:5', 'a:6'].map((item) =>
    queue.run(performance.now(), now(item), never()),
  );
  await turn();
  t.deepEqual(batches(started), ['a:1,a:2', 'a:3,a:4']);
  t.is(queue.waiting, 2);
  started[0]!.finish();
  await turn();
  t.deepEqual(batches(started), ['a:1,a:2', 'a:3,a:4', 'a:5,a:6']);
  started[1]!.finish();
  started[2]!.finish();
  t.is((await Promise.all(results)).length, 6);
});

test('one key whose batches are always full does not keep the items of another waiting', async (t) => {
  const { queue, started } = batcher(forever, 2);
  const run = (item: string, late = 0): void => {
    void queue.run(performance.now() - late, now(item), never());
  };
  for (const item of ['a:1', 'a:2', 'a:3', 'a:4']) run(item);
  run('b:1', forever);
  for (const item of ['a:5', 'a:6', 'a:7', 'a:8']) run(item);
  await turn();
  t.deepEqual(batches(started), ['a:1,a:2', 'a:3,a:4']);
  started[0]!.finish();
  await turn();
  t.deepEqual(batches(started).slice(2), ['b:1']);
  started[1]!.finish();
  await turn();
  t.deepEqual(batches(started).slice(3), ['a:5,a:6']);
});

test('an item waits for others that are being prepared, but not beyond the bound, which counts from its arrival', async (t) => {
  for (const [late, expected] of [
    [0, []],
    [forever, ['a:1']],
  ] as const) {
    const { queue, started } = batcher(forever);
    let ready: (item: string) => void = () => undefined;
    const coming = new Promise<string>((resolve) => (ready = resolve));
    const other = queue.run(performance.now(), () => coming, never());
    const first = queue.run(performance.now() - late, now('a:1'), never());
    await turn();
    t.deepEqual(batches(started), expected);
    ready('a:2');
    await turn();
    if (late === 0) t.deepEqual(batches(started), ['a:1,a:2']);
    started[0]!.finish();
    await turn();
    started[1]?.finish();
    t.deepEqual(await Promise.all([first, other]), ['A:1', 'A:2']);
  }
});

test('who leaves the queue frees the place, and a batch is cancelled when all have left it', async (t) => {
  const { queue, started } = batcher(forever, 2);
  const callers = ['a:1', 'a:2', 'a:3', 'a:4', 'a:5'].map((item) => {
    const controller = new AbortController();
    const result = queue.run(performance.now(), now(item), controller.signal);
    result.catch(() => undefined);
    return { controller, result };
  });
  await turn();
  t.deepEqual(batches(started), ['a:1,a:2', 'a:3,a:4']);
  t.is(queue.waiting, 1);
  const reason = new Error('gone');
  callers[4]!.controller.abort(reason);
  t.is(queue.waiting, 0);
  t.is(await t.throwsAsync(callers[4]!.result), reason);
  callers[0]!.controller.abort(reason);
  t.is(await t.throwsAsync(callers[0]!.result), reason);
  t.false(started[0]!.signal.aborted, 'one still waits');
  callers[1]!.controller.abort(reason);
  t.true(started[0]!.signal.aborted);
  t.false(started[1]!.signal.aborted);
  started[0]!.finish();
  started[1]!.finish();
  t.is(await callers[2]!.result, 'A:3');
  t.is(started.length, 2);
});

test('what fails is its own failure, and preparing that fails keeps nobody waiting', async (t) => {
  const queue = new Batcher<string, string>({
    key: () => '',
    most: () => 4,
    maxWait: forever,
    compute: (items) =>
      Promise.resolve(
        items.map((item) =>
          item === 'bad'
            ? { status: 'rejected', reason: new Error('bad') }
            : { status: 'fulfilled', value: item },
        ),
      ),
  });
  let fail: (error: Error) => void = () => undefined;
  const failing = queue.run(
    performance.now(),
    () => new Promise((_, reject) => (fail = reject)),
    never(),
  );
  const good = queue.run(performance.now(), now('good'), never());
  const bad = queue.run(performance.now(), now('bad'), never());
  bad.catch(() => undefined);
  await turn();
  t.is(queue.waiting, 2);
  fail(new Error('no picture'));
  t.is((await t.throwsAsync(failing)).message, 'no picture');
  t.is(await good, 'good');
  t.is((await t.throwsAsync(bad)).message, 'bad');
});
