/** What decoding a picture takes, from its header. */
import type { Buffer } from 'node:buffer';
import type { Format } from './kinds.js';
import type { Header, Scaling } from './types.js';
import { readTiff } from './tiff.js';

/** Approximate cost of a decode. */
export interface Cost {
  /** Bytes, at most: what the format's decoder holds at a time, and what must be turned. */
  memory: number;
  /** Milliseconds on one processor of today. */
  time: number;
}

/** Rows that libvips holds between two steps, at most. */
const window = 1024;

/** Nanoseconds per byte of samples. Measured on an AMD EPYC (Zen 3); what counts is their order of magnitude. */
const nanoseconds: Readonly<Record<Format, number>> = {
  jpeg: 5,
  png: 7,
  webp: 8,
  gif: 5,
  tiff: 5,
  heif: 20,
  svg: Infinity,
};

/** @param bytes - of the file. */
export function decodeCost(bytes: Buffer, format: Format, header: Header, scaling: Scaling): Cost {
  const { width, height, channels, progressive, turned } = header;
  const sample = header.depth === 'uchar' ? 1 : header.depth === 'ushort' ? 2 : 4;
  const row = width * channels * sample;
  const whole = row * height;
  const result = scaling.exact ?? (scaling.side === undefined ? header : { width: 0, height: 0 });
  const memory =
    heldByDecoder() +
    (turned ? whole : 0) +
    Math.min(window, height) * row +
    3 * result.width * result.height;
  const time = (whole * nanoseconds[format] * (progressive ? 2 : 1)) / 1e6;
  return { memory, time };

  function heldByDecoder(): number {
    switch (format) {
      case 'jpeg': // coefficients of 2 bytes
        return progressive ? 2 * whole : 0;
      case 'png':
        return progressive ? whole : 0;
      case 'webp': // pixels of 4 bytes, and as many of the decoder's own
      case 'gif':
        return 8 * width * height;
      case 'tiff':
        return 2 * row * Math.min(height, readTiff(bytes)?.rowsAtATime ?? height);
      case 'heif': // planes, reference frames, and pixels of 4 samples
        return 10 * sample * width * height;
      case 'svg': // it is drawn in pieces
        return 0;
    }
  }
}
