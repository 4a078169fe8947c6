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

/**
 * A picture file as models and people are to see it: upright, transparency on white, 8-bit RGB, of animations the first
 * frame. RGB values are taken as stored: profiles are ignored, as Pillow and the published models' training ignore them.
 * CMYK means nothing without its profile (or libvips's own, where it has none).
 *
 * @param space - colour space as sharp's metadata names it.
 */
export function openUpright(
  sharp: SharpModule,
  source: string | Uint8Array,
  space: string | undefined,
): Sharp {
  // 'error' refuses damaged and truncated files but lets harmless warnings (odd metadata) pass.
  const options = {
    failOn: 'error',
    limitInputPixels: false,
    ignoreIcc: space !== 'cmyk',
  } as const;
  return sharp(source, options)
    .autoOrient()
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb');
}
