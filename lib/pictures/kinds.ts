/** The type of a file, by its first bytes: only possible pictures are decoded, and other files are named by their type. */
import { Buffer } from 'node:buffer';
import { constants, gunzipSync } from 'node:zlib';
import { readTiff } from './tiff.js';

/** Formats that sharp's own binaries read. */
export type Format = 'jpeg' | 'png' | 'webp' | 'gif' | 'tiff' | 'heif' | 'svg';

/** Facts about a file before anything is decoded. */
export interface Kind {
  /** Undefined: sharp reads it only where it was built to. */
  format?: Format;
  /** Its name, as in "a PDF document". */
  name: string;
  /** What helps, as a clause. */
  remedy?: string | undefined;
  /** A format of pictures, though not one that every sharp reads. */
  picture?: boolean;
  /** It has a picture in it that sharp would take for the whole. */
  refused?: true;
}

const gzip = 'data compressed with gzip';
const convert = 'convert it to JPEG or PNG';
const develop = 'develop it to JPEG or TIFF';
const frame = 'take pictures out of it first';
const unpack = 'unpack it first';
const again = 'fetch it again';

/** Name, beginning (text, or bytes in hexadecimal behind 0x), what helps, place of the beginning. */
const signatures: readonly (readonly [
  name: string,
  begins: string,
  remedy?: string | undefined,
  at?: number,
])[] = [
  ['JPEG XL', '0xff0a', convert],
  ['JPEG XL', '0x0000000c4a584c20', convert],
  ['JPEG 2000', '0x0000000c6a502020', convert],
  ['JPEG 2000', '0xff4fff51', convert],
  ['PSD (Photoshop)', '8BPS', convert],
  ['ICO', '0x00000100', convert],
  ['CUR', '0x00000200', convert],
  ['PDF', '%PDF', convert],
  ['PostScript (EPS)', '%!PS', convert],
  ['PostScript (EPS)', '0xc5d0d3c6', convert],
  ['OpenEXR', '0x762f3101', convert],
  ['Radiance HDR', '#?R', convert],
  ['DDS', 'DDS ', convert],
  ['QOI', 'qoif', convert],
  ['JPEG XR', '0x4949bc', convert],
  ['XCF (GIMP)', 'gimp xcf', convert],
  ['FITS', 'SIMPLE  =', convert],
  ['DICOM', 'DICM', convert, 128],
  ['Camera RAW (RAF)', 'FUJIFILMCCD-RAW', develop],
  ['Camera RAW (ORF)', 'IIRO', develop],
  ['Camera RAW (ORF)', 'IIRS', develop],
  ['Camera RAW (RW2)', '0x49495500', develop],
  ['Camera RAW (X3F)', 'FOVb', develop],
  ['a video (AVI)', 'AVI ', frame, 8],
  ['sound (WAV)', 'WAVE', undefined, 8],
  ['a video (Matroska or WebM)', '0x1a45dfa3', frame],
  ['a video (MPEG)', '0x000001ba', frame],
  ['a video (MPEG)', '0x000001b3', frame],
  ['Ogg', 'OggS'],
  ['sound (MP3)', 'ID3'],
  ['a zip archive', '0x504b0304', unpack],
  [gzip, '0x1f8b', unpack],
  ['data compressed with bzip2', 'BZh', unpack],
  ['data compressed with xz', '0xfd377a585a00', unpack],
  ['data compressed with zstd', '0x28b52ffd', unpack],
  ['a 7z archive', '0x377abcaf271c', unpack],
  ['a RAR archive', 'Rar!', unpack],
  ['a tar archive', 'ustar', unpack, 257],
  ['an array of NumPy', '0x934e554d5059'],
  ['HDF5', '0x894844460d0a1a0a'],
  ['a Git LFS pointer', 'version https://git-lfs', '`git lfs pull` fetches the picture'],
];

/** By the brand of an ISO media file (`ftyp`). */
function ofBrand(brand: string): Kind {
  if (/^(avif|avis)$/.test(brand)) return { format: 'heif', name: 'AVIF' };
  if (/^(mif1|msf1|miaf|he[ivs][cmsx]|j2ki|jpeg)$/.test(brand))
    return { format: 'heif', name: 'HEIF' };
  if (brand === 'crx ') return { name: 'Camera RAW (CR3)', picture: true, remedy: develop };
  if (/^jp[2xm] $/.test(brand)) return { name: 'JPEG 2000', picture: true, remedy: convert };
  return { name: brand === 'qt  ' ? 'a video (QuickTime)' : 'a video (MP4)', remedy: frame };
}

/** The type of a file's bytes. */
export function kindOf(bytes: Buffer): Kind {
  const text = (from: number, to: number) => bytes.toString('latin1', from, to);
  if (text(0, 3) === '\xff\xd8\xff') return { format: 'jpeg', name: 'JPEG' };
  if (text(0, 8) === '\x89PNG\r\n\x1a\n') return { format: 'png', name: 'PNG' };
  if (text(0, 4) === 'RIFF' && text(8, 12) === 'WEBP') return { format: 'webp', name: 'WebP' };
  if (/^GIF8[79]a/.test(text(0, 6))) return { format: 'gif', name: 'GIF' };
  if (/^(II[*+]\0|MM\0[*+])/.test(text(0, 4))) {
    const raw = text(8, 10) === 'CR' ? 'CR2' : readTiff(bytes)?.raw;
    if (raw === undefined) return { format: 'tiff', name: 'TIFF' };
    return { name: `Camera RAW (${raw})`, picture: true, remedy: develop, refused: true };
  }
  if (text(4, 8) === 'ftyp') return ofBrand(text(8, 12));
  for (const [name, begins, remedy, at = 0] of signatures) {
    const expected = begins.startsWith('0x')
      ? Buffer.from(begins.slice(2), 'hex').toString('latin1')
      : begins;
    if (text(at, at + expected.length) === expected) {
      if (name === gzip && isPackedSvg(bytes)) return { format: 'svg', name: 'SVG' };
      return { name, picture: remedy === convert || remedy === develop, remedy };
    }
  }
  if (text(0, 2) === 'BM' && bytes.length > 26 && bytes.readUInt32LE(14) < 256) {
    return { name: 'BMP', picture: true, remedy: convert };
  }
  if (/^P[1-7]\s/.test(text(0, 3)))
    return { name: 'PNM (PBM, PGM, PPM)', picture: true, remedy: convert };
  return ofText(bytes);
}

/** By what the first bytes unpack to. */
function isPackedSvg(bytes: Buffer): boolean {
  try {
    const options = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 2 ** 22 };
    return ofText(gunzipSync(bytes.subarray(0, 2048), options)).format === 'svg';
  } catch {
    return false;
  }
}

function ofText(bytes: Buffer): Kind {
  const head = bytes.subarray(0, 4096);
  if (head.every((byte) => byte === 0)) {
    return { name: 'nothing but zeros', remedy: again };
  }
  const wide = head[0] === 0xff && head[1] === 0xfe;
  const text = head.toString(wide ? 'utf16le' : 'utf8').replace(/^\ufeff/, '');
  if (/^\s*(<!--[^]*?-->\s*)*<(!doctype\s+html|html|head|body)/i.test(text)) {
    return { name: 'a web page (HTML)', remedy: `${again}; this may be an error page` };
  }
  if (/<svg[\s>]|<(\w+):svg[\s>]/i.test(text)) return { format: 'svg', name: 'SVG' };
  // A character cut off at the end of the head does not mean binary data.
  if (!/[\p{Cc}\ufffd]/u.test(text.slice(0, -1).replace(/[\t-\r]/g, ''))) {
    const begin = text.trim().replace(/\s+/g, ' ').slice(0, 60);
    return { name: begin.startsWith('<?xml') ? 'XML without an <svg>' : `text ("${begin}")` };
  }
  const first = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0'));
  return { name: `of an unknown kind (its first bytes are ${first.join(' ')})` };
}

/**
 * Whether a picture file ends before what it says of itself, as downloads and copies that were interrupted do.
 */
export function isCutOff(bytes: Buffer, format: Format): boolean {
  const { length } = bytes;
  switch (format) {
    case 'jpeg':
      // After the last scan; a thumbnail in the header has its own end.
      return (
        bytes.lastIndexOf('\xff\xd9', undefined, 'latin1') <
        bytes.lastIndexOf('\xff\xda', undefined, 'latin1')
      );
    case 'png':
      return bytes.lastIndexOf('IEND', undefined, 'latin1') < 0;
    case 'gif':
      return bytes.lastIndexOf(0x3b) < length - 16;
    case 'webp':
      return length < 12 || bytes.readUInt32LE(4) + 8 > length;
    case 'svg':
      return !/<\/(\w+:)?svg\s*>|<svg[^>]*\/>/i.test(bytes.toString('latin1'));
    case 'tiff':
      return (readTiff(bytes)?.end ?? Infinity) > length;
    case 'heif':
      return lastBoxEnd(bytes) > length;
  }
}

/** Where the last box of an ISO media file ends. */
function lastBoxEnd(bytes: Buffer): number {
  let at = 0;
  while (at + 8 <= bytes.length) {
    let size = bytes.readUInt32BE(at);
    if (size === 0) return bytes.length; // to the end of the file
    if (size === 1 && at + 16 <= bytes.length) size = Number(bytes.readBigUInt64BE(at + 8));
    if (size < 8) return bytes.length; // not a box: damaged otherwise
    at += size;
  }
  return at;
}
