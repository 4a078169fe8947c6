/**
 * The dynamic loader opens one shared library at a time and blocks a thread that asks for another meanwhile. So sharp, opened on
 * the JavaScript thread, and LibTorch, opened on a thread of the pool, take turns, and the event loop is never blocked.
 */
let last: Promise<unknown> = Promise.resolve();

/** Runs `open` when everything asked for before is open, or has failed. */
export function inTurn<Result>(open: () => Promise<Result>): Promise<Result> {
  const turn = last.then(open);
  last = turn.catch(() => undefined);
  return turn;
}
