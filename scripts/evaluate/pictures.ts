/** Photographs as the models, the heuristics and the judge see them: one size, RGB bytes. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { decodePicture, type Fit } from '../../lib/images.js';
import type { PixelBatch } from '../../lib/index.js';

export interface Picture {
  /** Of the file, without its folder. */
  name: string;
  /** RGB bytes, row by row. */
  pixels: Uint8Array;
  /** Pixels a side. */
  size: number;
  /** Pixels a side. */
  patch: number;
  /** In a picture. */
  patches: number;
  /** Of the pixels and their size: what caches know the picture by. */
  digest: string;
  /** A batch of one. */
  images: PixelBatch;
}

/** Decodes a file. `'stretch'` shows all of it, `'crop'` its centre; both give a square. */
export async function readPicture(
  path: string,
  { size, patch, fit }: { size: number; patch: number; fit: Fit },
): Promise<Picture> {
  const { pixels } = await decodePicture(path, { size: [size, size], fit });
  return pictureOf(basename(path), pixels, size, patch);
}

/** A picture of these bytes. */
export function pictureOf(name: string, pixels: Uint8Array, size: number, patch: number): Picture {
  const digest = createHash('sha256').update(`${size} ${patch} `).update(pixels).digest('hex');
  return {
    name,
    pixels,
    size,
    patch,
    patches: (size / patch) ** 2,
    digest: digest.slice(0, 24),
    images: { data: pixels, shape: [1, size, size, 3] },
  };
}
