/**
 * Runs `work` on every item, at most `limit` at a time, and yields the outcomes in the items' order. A failure is an
 * outcome too, so one item's does not stop the others.
 */
export async function* mapOrdered<Item, Result>(
  items: readonly Item[],
  limit: number,
  work: (item: Item, index: number) => Promise<Result>,
): AsyncGenerator<{ item: Item; index: number } & PromiseSettledResult<Result>> {
  const running: Promise<PromiseSettledResult<Result>>[] = [];
  const start = (index: number): void => {
    const item = items[index] as Item;
    running.push(Promise.allSettled([work(item, index)]).then(([outcome]) => outcome));
  };
  let started = 0;
  for (let index = 0; index < items.length; index++) {
    while (started < items.length && running.length < limit) start(started++);
    const outcome = await (running.shift() as Promise<PromiseSettledResult<Result>>);
    yield { item: items[index] as Item, index, ...outcome };
  }
}
