/** A picture file's bytes to RGB bytes, with sharp: the part of decoding that another process can do as well. */
import type { Buffer } from 'node:buffer';
import type { Sharp, SharpModule } from '../sharp.js';
import type { Header, Pixels, Scaling } from './types.js';

/** Reads a picture's header. An SVG's is drawn for, where it does not say its size. */
export async function readHeader(sharp: SharpModule, bytes: Buffer): Promise<Header> {
  // The size is checked afterwards, before anything is decoded.
  const metadata = await sharp(bytes, { limitInputPixels: false }).metadata();
  const { autoOrient, space, depth, channels, compression, isProgressive, orientation } = metadata;
  return {
    height: autoOrient.height,
    width: autoOrient.width,
    space,
    depth,
    channels,
    compression,
    progressive: isProgressive,
    turned: (orientation ?? 1) > 1,
  };
}

/**
 * A picture as models and people are to see it: upright, transparency on white, 8-bit RGB, of animations the first frame. RGB
 * values are taken as stored, unless `profile` is set: profiles are ignored, as Pillow and the published models' training ignore
 * them. CMYK means nothing without its profile (or libvips's own, where it has none).
 */
export async function render(
  sharp: SharpModule,
  bytes: Buffer,
  { space }: Pick<Header, 'space'>,
  { exact, side, profile }: Scaling,
): Promise<Pixels> {
  const pipeline: Sharp = sharp(bytes, {
    // 'error' refuses damaged and truncated files but lets harmless warnings (odd metadata) pass.
    failOn: 'error',
    limitInputPixels: false,
    ignoreIcc: profile !== true && space !== 'cmyk',
  })
    .autoOrient()
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb');
  if (exact !== undefined) {
    const { cut, ...size } = exact;
    // JPEG's own scaling uses another filter.
    pipeline.resize({ ...size, fit: 'fill', kernel: 'cubic', fastShrinkOnLoad: false });
    if (cut !== undefined) pipeline.extract(cut);
  } else if (side !== undefined) {
    const { pixels, ...how } = side;
    pipeline.resize({ width: pixels, height: pixels, withoutEnlargement: true, ...how });
  }
  const { data, info } = await pipeline.raw().toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new Error(`${info.channels} channels instead of 3`);
  return { pixels: data, height: info.height, width: info.width };
}
