/** Photographs as the models, the heuristics and the judge see them: RGB bytes, cut into patches. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { decodePicture } from '../../lib/images.js';
import type { PixelBatch } from '../../lib/index.js';
import { decodeWholePicture } from '../../lib/whole-picture.js';

/** Of a picture and its patches, in pixels. */
export interface Cut {
  height: number;
  width: number;
  patch: number;
}

export interface Picture extends Cut {
  /** Of the file, without its folder. */
  name: string;
  /** RGB bytes, row by row. */
  pixels: Uint8Array;
  /** In a picture. */
  patches: number;
  /** Of the pixels and their size: what caches know the picture by. */
  digest: string;
  /** A batch of one. */
  images: PixelBatch;
}

/** `'stretch'` shows all of a file and `'crop'` its centre, as a square; `'whole'` shows all of it, as `rankFiles` does. */
export type PictureFit = 'stretch' | 'crop' | 'whole';

/**
 * Decodes a file.
 *
 * @param size - pixels a side; of `'whole'`, whose patches are about as many, of a square of the same area.
 */
export async function readPicture(
  path: string,
  { size, patch, fit }: { size: number; patch: number; fit: PictureFit },
): Promise<Picture> {
  const side = size / patch;
  const decoded =
    fit === 'whole'
      ? await decodeWholePicture(path, { grid: [side, side], patchSize: patch }, {}, never)
      : {
          ...(await decodePicture(path, { size: [size, size], fit })),
          size: [size, size] as const,
        };
  const [height, width] = decoded.size;
  return pictureOf(basename(path), decoded.pixels, { height, width, patch });
}

const never = new AbortController().signal;

/** A picture of these bytes. */
export function pictureOf(
  name: string,
  pixels: Uint8Array,
  { height, width, patch }: Cut,
): Picture {
  const sides = [...new Set([height, width])].join('x');
  const digest = createHash('sha256').update(`${sides} ${patch} `).update(pixels).digest('hex');
  return {
    ...{ name, pixels, height, width, patch },
    patches: (height / patch) * (width / patch),
    digest: digest.slice(0, 24),
    images: { data: pixels, shape: [1, height, width, 3] },
  };
}
