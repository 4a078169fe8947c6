/** `Symbol.asyncDispose`, which Node.js has only from 20.4 on; older runtimes get the name that TypeScript's helpers look up. */
export const asyncDispose: typeof Symbol.asyncDispose =
  (Symbol as { asyncDispose?: typeof Symbol.asyncDispose }).asyncDispose ??
  ((Symbol as unknown as Record<string, symbol>)['asyncDispose'] = Symbol.for(
    'nodejs.asyncDispose',
  ) as typeof Symbol.asyncDispose);
