/** Pixels and files of `squeezePicture`; sharp does the pixels. */
import { Buffer } from 'node:buffer';
import type { Sharp, SharpModule } from '../sharp.js';
import type { SqueezeFill, SqueezeFormat } from '../types.js';
import { decode } from './decode.js';
import { checkMemory, checkSourceSize } from './limits.js';
import type { Pixels } from './types.js';

/** Encoders work in blocks of this side; of AVIF's larger ones it is a half. */
const block = 16;

/** Pixels over which kept and dropped areas run into each other, about. */
const feather = 2;

/** Bytes for each pixel that {@link soften} holds at most: the picture, what is behind it, the mask, the layer, the result. */
const softeningBytes = 3 + 3 + 1 + 4 + 3;

/**
 * The picture as its decoder's users see it, in the colours of its profile. (Models see RGB values as stored.)
 *
 * @throws {LtrpError} as {@link decode}; `ERR_LTRP_OUT_OF_MEMORY` where {@link soften} would need too much.
 */
export function decodeToSoften(
  bytes: Uint8Array,
  name: string,
  signal?: AbortSignal,
): Promise<Pixels> {
  return decode(bytes, {
    name,
    signal,
    scaling: ({ width, height }) => {
      checkSourceSize(name, width, height);
      const what = `The image ${name} (${width} x ${height} pixels)`;
      checkMemory(what, softeningBytes * width * height, 'squeezed');
      return { profile: true };
    },
  });
}

interface Grid {
  rows: number;
  columns: number;
}

const ofPixels = (
  sharp: SharpModule,
  { pixels, width, height }: Pixels,
  channels: 1 | 3 = 3,
): Sharp => sharp(pixels, { raw: { width, height, channels } });

const bytesOf = (picture: Sharp): Promise<Buffer> => picture.raw().toBuffer();

/** The picture with dropped patches smoothed away. */
export async function soften(
  sharp: SharpModule,
  picture: Pixels,
  { grid, kept, fill }: { grid: Grid; kept: Iterable<number>; fill: SqueezeFill },
): Promise<Pixels> {
  const { width, height } = picture;
  const whole = { width, height, fit: 'fill' } as const;
  const cells = { width: grid.columns, height: grid.rows, fit: 'fill' } as const;
  const side = Math.min(width / grid.columns, height / grid.rows);
  const given = ofPixels(sharp, picture);
  const behind =
    fill === 'flat'
      ? await bytesOf(
          ofPixels(sharp, {
            pixels: await bytesOf(given.resize({ ...cells, kernel: 'cubic' })),
            ...cells,
          }).resize({ ...whole, kernel: 'cubic' }),
        )
      : await bytesOf(given.blur(Math.max(0.5, Math.min(side / 4, 500))));
  const mask = await maskOf(sharp, { width, height }, grid, kept);
  const layer = await bytesOf(
    ofPixels(sharp, picture).joinChannel(mask, { raw: { width, height, channels: 1 } }),
  );
  const softened = ofPixels(sharp, { pixels: behind, width, height })
    .composite([{ input: layer, raw: { width, height, channels: 4 } }])
    .removeAlpha();
  return { pixels: await bytesOf(softened), width, height };
}

/** [height * width] 255 where a block's centre is kept, with soft edges. Along blocks, because an edge within one costs all of it. */
async function maskOf(
  sharp: SharpModule,
  { width, height }: { width: number; height: number },
  { rows, columns }: Grid,
  kept: Iterable<number>,
): Promise<Buffer> {
  const [across, down] = [Math.ceil(width / block), Math.ceil(height / block)];
  const wanted = new Set(kept);
  const blocks = Uint8Array.from({ length: across * down }, (_, i) => {
    const x = Math.min(((i % across) + 0.5) * block, width - 1);
    const y = Math.min((Math.floor(i / across) + 0.5) * block, height - 1);
    const patch = Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
    return wanted.has(patch) ? 255 : 0;
  });
  const pixels = await bytesOf(enlarged(sharp, blocks, across, down, block));
  const soft = ofPixels(sharp, { pixels, width: across * block, height: down * block }, 1)
    .blur(feather)
    .extract({ left: 0, top: 0, width, height });
  return bytesOf(soft.toColourspace('b-w'));
}

/** A grey picture of so many blocks of this side, each of one colour. */
const enlarged = (
  sharp: SharpModule,
  blocks: Uint8Array,
  across: number,
  down: number,
  side: number,
): Sharp =>
  ofPixels(sharp, { pixels: Buffer.from(blocks), width: across, height: down }, 1)
    .resize({ width: across * side, height: down * side, fit: 'fill', kernel: 'nearest' })
    .toColourspace('b-w');

/**
 * [height * width] the value of each pixel's block: values in [0, 1] as 0 to 255, for display.
 *
 * @throws {LtrpError} `ERR_LTRP_OUT_OF_MEMORY` where decoding would need too much.
 */
export async function blockPixels(
  sharp: SharpModule,
  map: { values: Float64Array; grid: Grid; block: number; width: number; height: number },
): Promise<Uint8Array> {
  const { values, grid, block: side, width, height } = map;
  const [across, down] = [grid.columns, grid.rows];
  checkMemory('The quality map', across * down * side * side + width * height, 'made');
  const blocks = Uint8Array.from(values, (value) => Math.round(255 * value));
  const all = enlarged(sharp, blocks, across, down, side);
  return new Uint8Array(await bytesOf(all.extract({ left: 0, top: 0, width, height })));
}

/** A file of the picture, without metadata. The settings are all named, so that two files differ by their pixels and quality alone. */
export function encodePicture(
  sharp: SharpModule,
  picture: Pixels,
  format: SqueezeFormat,
  quality: number,
): Promise<Buffer> {
  const given = ofPixels(sharp, picture);
  const chromaSubsampling = '4:2:0';
  switch (format) {
    case 'jpeg':
      return given
        .jpeg({
          quality,
          chromaSubsampling,
          progressive: false,
          optimiseCoding: true,
          mozjpeg: false,
        })
        .toBuffer();
    case 'webp':
      return given.webp({ quality, effort: 4, smartSubsample: false }).toBuffer();
    case 'avif':
      return given.avif({ quality, effort: 4, chromaSubsampling }).toBuffer();
  }
}
