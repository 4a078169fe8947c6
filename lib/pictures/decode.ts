/** The one place that decodes pictures: what is ranked, trained on and shown are the same pixels of the same bytes. */
import { Buffer } from 'node:buffer';
import process from 'node:process';
import { LtrpError, undecodable } from '../errors.js';
import { loadSharp, type SharpModule } from '../sharp.js';
import { Slots } from '../slots.js';
import { sourceName, withBytes } from './bytes.js';
import { decodeCost } from './cost.js';
import { kindOf } from './kinds.js';
import { Budget, checkMemory, checkSourceSize, drawingSeconds } from './limits.js';
import { DecodingProcess, ProcessError } from './process.js';
import { decodeError, notRead } from './refusals.js';
import { readHeader, render } from './render.js';
import type { Header, PictureSize, Pixels, Scaling } from './types.js';
import { embeddedPixelBytes, embeddedPixels, unpacked } from './svg.js';

/** A decoded picture: RGB bytes, row by row, `height * width * 3` of them. */
export interface DecodedPicture extends Pixels {
  /** Size of the source in pixels, after its EXIF rotation. */
  original: PictureSize;
}

/** Options of {@link decode}. */
export interface DecodeOptions {
  /** The picture's name in messages. Default: its path. */
  name?: string | undefined;
  signal?: AbortSignal | undefined;
  /** How large it becomes, and whether it is refused, by its own size. Default: as it is, if {@link checkSourceSize} lets it. */
  scaling?: ((original: PictureSize, name: string) => Scaling) | undefined;
  /** Gets the bytes of a file before they are decoded. */
  onBytes?: ((bytes: Uint8Array) => void) | undefined;
}

/** Decodes in flight: their memory, and their threads of libuv's pool, whose queue cannot be left. */
const budget = new Budget();
const here = new Slots(Math.max(1, Number(process.env['UV_THREADPOOL_SIZE'] ?? 4) || 4));

/** Milliseconds of work that may be done in this process. Its end would wait for them. */
const quick = 60;

/** For rasters that are slow or large, several at a time; and for what is best alone: it may not end, or ended the other. */
const together = new DecodingProcess();
const alone = new DecodingProcess();
const oneByOne = new Slots(1);

/**
 * Decodes one picture to 8-bit sRGB: the EXIF rotation is applied; transparency is laid on white; CMYK, grey, palette, Lab and
 * 16-bit pictures become 8-bit RGB; RGB values are taken as stored (see `render`); of an animation or a document the
 * first frame is taken. Memory is bounded: a decode waits while those in flight need more than the budget allows.
 *
 * An abort is answered at once. A running decode is dropped; at most some tens of milliseconds of its work continue.
 *
 * @throws {LtrpError} `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE`, `ERR_LTRP_IMAGE_SIZE`, `ERR_LTRP_OUT_OF_MEMORY`; each
 *   names the source. `ERR_LTRP_SHARP_LOAD`; `signal.reason`.
 */
export async function decode(
  source: string | Uint8Array,
  options: DecodeOptions = {},
): Promise<DecodedPicture> {
  const { name = sourceName(source), signal, scaling = refuseOddSizes, onBytes } = options;
  signal?.throwIfAborted();
  const picture = { name, signal, scaling };
  const decoding =
    typeof source === 'string'
      ? withBytes(source, name, signal, (bytes) => {
          onBytes?.(bytes);
          return decodeBytes(bytes, picture);
        })
      : decodeBytes(asBuffer(source), picture);
  return orAborted(decoding, signal);
}

const refuseOddSizes: NonNullable<DecodeOptions['scaling']> = ({ width, height }, name) => {
  checkSourceSize(name, width, height);
  return {};
};

/** sharp tells buffers by their constructor, which that of another realm does not have. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

interface Picture {
  name: string;
  signal: AbortSignal | undefined;
  scaling: NonNullable<DecodeOptions['scaling']>;
}

async function decodeBytes(bytes: Buffer, picture: Picture): Promise<DecodedPicture> {
  const { name, signal } = picture;
  if (bytes.byteLength === 0) {
    throw undecodable(`The image ${name} is empty (0 bytes).`);
  }
  const kind = kindOf(bytes);
  const { format } = kind;
  if (kind.refused) throw notRead(name, kind);
  const sharp = await loadSharp();
  signal?.throwIfAborted();
  if (format === undefined && !readsMore(sharp)) throw notRead(name, kind);
  let noHevc = false;
  try {
    // What draws, and what only other builds of sharp read, may do anything.
    if (format === undefined || format === 'svg') return await decodeAlone(bytes, picture);
    const header = await here.run(() => readHeader(sharp, bytes));
    noHevc = header.compression === 'hevc' && !readsHeic(sharp);
    signal?.throwIfAborted();
    const scaling = accepted(header, picture);
    const { memory, time } = decodeCost(bytes, format, header, scaling);
    const { width, height } = header;
    checkMemory(`The image ${name} (${kind.name}, ${width} x ${height} pixels)`, memory, 'decoded');
    return await budget.run(memory, async () => {
      signal?.throwIfAborted();
      const pixels = await (time <= quick
        ? here.run(() => render(sharp, bytes, header, scaling))
        : decodeApart(bytes, header, scaling, signal));
      return { ...pixels, original: { width, height } };
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof LtrpError ? error : decodeError(name, bytes, kind, error, noHevc);
  }
}

/** sharp's own binaries read AVIF only of what HEIF is. */
function readsHeic(sharp: SharpModule): boolean {
  const { fileSuffix } = sharp.format.heif.input;
  return fileSuffix?.includes('.heic') ?? false;
}

/** Whether this sharp was built to read more than its own binaries do. */
function readsMore(sharp: SharpModule): boolean {
  const formats = sharp.format as unknown as Record<string, { input?: { buffer?: boolean } }>;
  return ['magick', 'jp2', 'jxl', 'pdf', 'ppm', 'rad', 'fits', 'dcraw', 'openslide'].some(
    (format) => formats[format]?.input?.buffer === true,
  );
}

/** The first of: what `work` comes to, and the signal's reason. */
function orAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal | undefined,
): Promise<Result> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}

/** Checks a picture by its header; returns how large it becomes. */
function accepted({ width, height, depth, space }: Header, { name, scaling }: Picture): Scaling {
  const samples = unusual[depth];
  if (samples !== undefined && !space.startsWith('lab')) {
    throw undecodable(
      `The image ${name} has samples of an unknown range (${samples}); save it with 8 or 16 bits a sample.`,
    );
  }
  return scaling({ width, height }, name);
}

/** Types of samples whose range a file does not tell; libvips would clip them to [0, 255]. */
const unusual: Readonly<Record<string, string>> = {
  char: 'signed 8-bit integers',
  short: 'signed 16-bit integers',
  uint: '32-bit integers',
  int: 'signed 32-bit integers',
  float: '32-bit floating-point numbers',
  double: '64-bit floating-point numbers',
  complex: 'complex numbers',
  dpcomplex: 'complex numbers',
};

/** What comes from another process, or from this one where no other can be started. */
async function elsewhere<Result>(
  asked: Promise<Result>,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ProcessError && error.why === 'not started') return here.run(work);
    throw error;
  }
}

/** Decodes a slow or large picture in a process that is killed when no caller waits for it any more. */
async function decodeApart(
  bytes: Buffer,
  header: Header,
  scaling: Scaling,
  signal: AbortSignal | undefined,
): Promise<Pixels> {
  const asked = together
    .pixels(bytes, header, scaling, { signal })
    .catch(async (error: unknown) => {
      signal?.throwIfAborted();
      // Another picture may have ended it.
      if (!(error instanceof ProcessError && error.why === 'ended')) throw error;
      return oneByOne.run(() => alone.pixels(bytes, header, scaling, { signal }));
    });
  return elsewhere(asked, async () => render(await loadSharp(), bytes, header, scaling));
}

/** What may never end, or need any memory: one at a time, with a limit on both. */
async function decodeAlone(given: Buffer, picture: Picture): Promise<DecodedPicture> {
  const { signal, name } = picture;
  const sharp = await loadSharp();
  return oneByOne.run(async () => {
    signal?.throwIfAborted();
    const limits = { signal, seconds: drawingSeconds };
    const bytes = await unpacked(given);
    const embedded = await embeddedPixels(sharp, bytes);
    const memory = embedded * embeddedPixelBytes;
    checkMemory(`The image ${name} (it embeds pictures of ${embedded} pixels)`, memory, 'decoded');
    const header = await elsewhere(alone.header(bytes, limits), () => readHeader(sharp, bytes));
    const scaling = accepted(header, picture);
    const { width, height } = header;
    return budget.run(memory, async () => ({
      ...(await elsewhere(alone.pixels(bytes, header, scaling, limits), () =>
        render(sharp, bytes, header, scaling),
      )),
      original: { width, height },
    }));
  });
}
