/** Picture files put together byte by byte, for what no encoder at hand writes. */
import { Buffer } from 'node:buffer';
import { crc32, deflateSync } from 'node:zlib';

function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(data.length, 0);
  ends.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

/** A PNG that is all zeros, of which only the header costs anything; `rows` of it are there. */
export function zeroPng(
  side: number,
  { depth = 1, colour = 0, interlaced = false, rows = 0 } = {},
): Buffer {
  const channels = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[colour] ?? 1;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([depth, colour, 0, 0, interlaced ? 1 : 0], 8);
  const row = 1 + Math.ceil((side * channels * depth) / 8);
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.alloc(row * rows), { level: 1 })),
    chunk('IEND', new Uint8Array(0)),
  ]);
}

/** A lossless WebP of one colour, 38 bytes whatever its size. */
export function smallWebp(side: number): Buffer {
  const bytes = Buffer.from(
    '524946461e000000574542505650384c110000002f0000000007508f2217a5ff8188e87f0000',
    'hex',
  );
  bytes.writeUInt32LE((side - 1) | ((side - 1) << 14), 21);
  return bytes;
}

/** A GIF whose canvas is `side` squared and whose only frame covers it, though it ends after a pixel. */
export function wideGif(side: number): Buffer {
  const sides = Buffer.alloc(4);
  sides.writeUInt16LE(side, 0);
  sides.writeUInt16LE(side, 2);
  return Buffer.concat([
    Buffer.from('GIF89a'),
    sides,
    Buffer.from('800000000000ffffff2c00000000', 'hex'),
    sides,
    Buffer.from('000202440100', 'hex'),
    Buffer.from(';'),
  ]);
}

type Values = readonly number[];

/** A little-endian TIFF of one strip. Entries: tag, type (3: 16 bits, 4: 32 bits), values. */
export function tiff(
  { width, height, channels, bits, format, photometric }: TiffShape,
  samples: Uint8Array,
  more: readonly (readonly [tag: number, type: 3 | 4, values: Values])[] = [],
): Buffer {
  const repeated = (value: number) => new Array<number>(channels).fill(value);
  const entries: [number, 3 | 4, Values][] = [
    [256, 3, [width]],
    [257, 3, [height]],
    [258, 3, repeated(bits)],
    [259, 3, [1]],
    [262, 3, [photometric ?? (channels >= 3 ? 2 : 1)]],
    [273, 4, [0]],
    [277, 3, [channels]],
    [278, 4, [height]],
    [279, 4, [samples.length]],
    [339, 3, repeated(format)],
    ...more.map((entry) => [...entry] as [number, 3 | 4, Values]),
  ];
  entries.sort(([a], [b]) => a - b);
  const directory = Buffer.alloc(2 + entries.length * 12 + 4);
  directory.writeUInt16LE(entries.length, 0);
  const outside: Buffer[] = [];
  let end = 8 + directory.length;
  let strip = 0;
  for (const [index, [tag, type, values]] of entries.entries()) {
    const at = 2 + index * 12;
    const packed = Buffer.alloc(Math.max(4, values.length * (type === 3 ? 2 : 4)));
    for (const [place, value] of values.entries()) {
      if (type === 3) packed.writeUInt16LE(value, place * 2);
      else packed.writeUInt32LE(value, place * 4);
    }
    directory.writeUInt16LE(tag, at);
    directory.writeUInt16LE(type, at + 2);
    directory.writeUInt32LE(values.length, at + 4);
    if (packed.length === 4) packed.copy(directory, at + 8);
    else {
      directory.writeUInt32LE(end, at + 8);
      outside.push(packed);
      end += packed.length;
    }
    if (tag === 273) strip = at + 8;
  }
  directory.writeUInt32LE(end, strip);
  return Buffer.concat([Buffer.from('49492a0008000000', 'hex'), directory, ...outside, samples]);
}

export interface TiffShape {
  width: number;
  height: number;
  channels: number;
  bits: number;
  /** 1: unsigned, 2: signed, 3: floating point. */
  format: 1 | 2 | 3;
  /** Default: 2 (RGB) of three channels, else 1 (grey, 0 is black). */
  photometric?: number;
}

/** The boxes of a HEIC picture in HEVC, which come before its data, and no data. */
const heicBoxes =
  'AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAT9tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA' +
  'AAAAAAAAAAAA5waXRtAAAAAAABAAAAImlsb2MAAAAAREAAAQABAAAAAAFjAAEAAAAAAABFwQAAACNpaW5mAAAAAAAB' +
  'AAAAFWluZmUCAAAAAAEAAGh2YzEAAAAAv2lwcnAAAAChaXBjbwAAAHVodmNDAQNwAAAAAAAAAAAAPPAA/P34+AAADw' +
  'MgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAPLoCQCEAAQAoQgEBA3AAAAMAkAAAAwAAAwA8oAoIDRZbqSSmubAgAAAD' +
  'ACAAAAMAISIAAQAHRAHBcrBiQAAAABRpc3BlAAAAAAAAAUAAAADQAAAAEHBpeGkAAAAAAwgICAAAABZpcG1hAAAAAA' +
  'AAAAEAAQOBAoMAAEXJbQ==';

/** A HEIC that says it is a picture of this size in HEVC. */
export function heicOf(width: number, height: number): Buffer {
  const bytes = Buffer.concat([Buffer.from(heicBoxes, 'base64'), Buffer.alloc(0x4600, 1)]);
  bytes.writeUInt32BE(width, bytes.indexOf('ispe') + 8);
  bytes.writeUInt32BE(height, bytes.indexOf('ispe') + 12);
  return bytes;
}
