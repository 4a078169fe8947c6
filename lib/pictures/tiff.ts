/** The first directory of a TIFF file, for what sharp's metadata does not say. */
import type { Buffer } from 'node:buffer';

/** Fields of the first directory of a TIFF. */
export interface TiffFacts {
  /** The kind of camera RAW, of which the first directory is but a preview. */
  raw: string | undefined;
  /** Rows that are decompressed at a time. */
  rowsAtATime: number;
  /** Offset behind the last byte that the picture takes; more than there are when the file is cut off. */
  end: number;
}

const bytesOf: Readonly<Record<number, number>> = { 1: 1, 2: 1, 3: 2, 4: 4, 16: 8 };

/** Undefined when the directory cannot be read. */
export function readTiff(bytes: Buffer): TiffFacts | undefined {
  try {
    return read(bytes);
  } catch {
    return undefined; // it ends before its directory does
  }
}

function read(bytes: Buffer): TiffFacts {
  const little = bytes[0] === 0x49;
  const big = bytes[little ? 2 : 3] === 0x2b;
  const number = (at: number, size: number): number => {
    if (size === 8) return Number(little ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
    return little ? bytes.readUIntLE(at, size) : bytes.readUIntBE(at, size);
  };
  const wide = big ? 8 : 4;
  const directory = number(big ? 8 : 4, wide);
  const count = number(directory, big ? 8 : 2);
  const tags = new Map<number, { type: number; count: number; at: number }>();
  for (let entry = 0; entry < Math.min(count, 4096); entry++) {
    const at = directory + (big ? 8 + 20 * entry : 2 + 12 * entry);
    tags.set(number(at, 2), {
      type: number(at + 2, 2),
      count: number(at + 4, wide),
      at: at + 4 + wide,
    });
  }
  const values = (tag: number): number[] => {
    const found = tags.get(tag);
    const size = bytesOf[found?.type ?? 0];
    if (found === undefined || size === undefined) return [];
    const at = found.count * size <= wide ? found.at : number(found.at, wide);
    const length = Math.min(found.count, 2 ** 20);
    return Array.from({ length }, (_, index) => number(at + index * size, size));
  };
  const starts = [...values(273), ...values(324)];
  const sizes = [...values(279), ...values(325)];
  const end = starts.reduce((most, start, index) => Math.max(most, start + (sizes[index] ?? 0)), 0);
  const isPreview = ((values(254)[0] ?? 0) & 1) === 1 && tags.has(330);
  const [rows = Infinity] = [...values(323), ...values(278)];
  const make = String.fromCharCode(...values(271).slice(0, 8)).toUpperCase();
  const brand = make.startsWith('NIKON')
    ? 'NEF'
    : make.startsWith('SONY')
      ? 'ARW'
      : 'TIFF with a preview first';
  return { raw: tags.has(50706) ? 'DNG' : isPreview ? brand : undefined, rowsAtATime: rows, end };
}
