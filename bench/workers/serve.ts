/** The contender's side of bench/PROTOCOL.md, for contenders that are Node processes. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export type Request = Record<string, unknown> & { op: string };
export type Handlers = Record<string, (request: Request) => Promise<Record<string, unknown>>>;

/** Thrown for what this machine or library cannot do, as opposed to failures. */
export class UnsupportedError extends Error {
  readonly code = 'ERR_LTRP_UNSUPPORTED';
}

/** Answers requests until standard input is closed. */
export async function serve(handlers: Handlers): Promise<void> {
  // Standard output is the protocol's; libraries that greet there are sent to standard error.
  console.log = console.info = console.debug = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request & { id: number };
    process.stdout.write(
      `${JSON.stringify({ id: request.id, ...(await answer(handlers, request)) })}\n`,
    );
  }
  process.exit(0);
}

async function answer(handlers: Handlers, request: Request): Promise<Record<string, unknown>> {
  try {
    const handler = handlers[request.op];
    if (handler === undefined) throw new UnsupportedError(`There is no '${request.op}' here.`);
    return { ok: true, ...(await handler(request)) };
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    return {
      ok: false,
      code: typeof code === 'string' ? code : 'ERR_BENCH_FAILED',
      message: typeof message === 'string' ? (message.split('\n')[0] ?? '') : String(error),
    };
  }
}

/** Timer period of the event loop's monitor in milliseconds; part of every delay it sees. */
const resolution = 1;

/** Runs `work`: how long it took, and how long the event loop did not turn at its worst, both in milliseconds. */
export async function timed<Result>(
  work: () => Promise<Result>,
): Promise<{ result: Result; ms: number; eventLoopWorstMs: number }> {
  const monitor = monitorEventLoopDelay({ resolution });
  monitor.enable();
  monitor.reset(); // forgets its last tick too, so the first one from here on counts for nothing
  await sleep(10);
  const start = performance.now();
  const result = await work();
  const ms = performance.now() - start;
  await sleep(10); // the tick that a blocking call kept waiting
  monitor.disable();
  return { result, ms, eventLoopWorstMs: Math.max(0, monitor.max / 1e6 - resolution) };
}

/** A request's field that must be a whole number. */
export function integer(request: Request, field: string): number {
  const value = request[field];
  if (!Number.isSafeInteger(value)) throw new Error(`'${field}' must be an integer.`);
  return value as number;
}

/** Rows of a matrix, for JSON. */
export function rows(values: ArrayLike<number>, width: number): number[][] {
  return Array.from({ length: values.length / width }, (_, row) =>
    Array.from({ length: width }, (_, column) => values[row * width + column] as number),
  );
}
