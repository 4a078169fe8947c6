/** Pictures of which only some patches are left, as a classifier sees them that takes whole pictures. */
import { Buffer } from 'node:buffer';
import { loadSharp } from '../sharp.js';

/** What covers a dropped patch: the picture's mean colour, or a copy of the picture blurred with the side of a patch as σ. */
export const judgeFills = ['mean', 'blur'] as const;
export type JudgeFill = (typeof judgeFills)[number];

/** RGB bytes, row by row; the sides of picture and patch in pixels. */
interface Patched {
  pixels: Uint8Array;
  height: number;
  width: number;
  patch: number;
}

/** [height, width, 3]: the picture that shows through where patches are dropped. */
export async function background(
  { pixels, height, width, patch }: Patched,
  fill: JudgeFill,
): Promise<Uint8Array> {
  const sharp = await loadSharp();
  const picture = sharp(pixels, { raw: { width, height, channels: 3 } });
  if (fill === 'blur') return picture.blur(patch).raw().toBuffer();
  const { channels } = await picture.stats();
  return Buffer.alloc(pixels.length, Buffer.from(channels.map(({ mean }) => Math.round(mean))));
}

/** The picture's own pixels in the kept patches (ids in raster order), the background's elsewhere. */
export function keepOnly(
  { pixels, width, patch }: Patched,
  kept: Iterable<number>,
  behind: Uint8Array,
): Uint8Array {
  const seen = Uint8Array.from(behind); // a copy even of a Buffer, whose slice is none
  const columns = Math.floor(width / patch);
  for (const id of kept) {
    const [top, left] = [Math.floor(id / columns) * patch, (id % columns) * patch];
    for (let row = top; row < top + patch; row++) {
      const start = 3 * (row * width + left);
      seen.set(pixels.subarray(start, start + 3 * patch), start);
    }
  }
  return seen;
}
