/** sharp, which decodes pictures: loaded by the first call that needs it, so that everything else works without its binary. */
import type { Sharp, default as sharp } from 'sharp';
import { LtrpError } from './errors.js';
import { inTurn } from './native/in-turn.js';

export type { Sharp };

/** The module's function. */
export type SharpModule = typeof sharp;

let loading: Promise<SharpModule> | undefined;

/**
 * sharp, loaded once.
 *
 * @throws {LtrpError} `ERR_LTRP_SHARP_LOAD`: it is not installed, or its binary for this system is missing or does not load.
 */
export function loadSharp(): Promise<SharpModule> {
  loading ??= inTurn(async () => {
    try {
      return (await import('sharp')).default;
    } catch (cause) {
      throw loadError(cause);
    }
  });
  return loading;
}

function loadError(cause: unknown): LtrpError {
  const [first = ''] = String((cause as Partial<Error> | null)?.message ?? cause).split('\n');
  return new LtrpError(
    'ERR_LTRP_SHARP_LOAD',
    `sharp, which decodes pictures, does not load on ${process.platform}-${process.arch}: ${first.replace(/[.:]$/, '')}; ` +
      '`npm install --include=optional sharp` installs it with its binary for this system.',
    { cause },
  );
}
