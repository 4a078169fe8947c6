/**
 * The dynamic loader opens one shared library at a time, and who asks for another meanwhile stands still. What is opened on the
 * JavaScript thread (sharp) and what a thread of the pool opens (LibTorch) take turns, so that the event loop never stands still.
 */
let last: Promise<unknown> = Promise.resolve();

/** Runs `open` when everything asked for before is open, or has failed. */
export function inTurn<Result>(open: () => Promise<Result>): Promise<Result> {
  const turn = last.then(open);
  last = turn.catch(() => undefined);
  return turn;
}
