import { Buffer } from 'node:buffer';
import { LtrpError, unsupported } from './errors.js';
import type { PatchRanker } from './patch-ranker.js';
import { pathOrBytes, sourceName, withBytes, type PictureSource } from './pictures/bytes.js';
import { kindOf } from './pictures/kinds.js';
import { decodeToSoften, encodePicture, soften } from './pictures/soften.js';
import { loadSharp } from './sharp.js';
import { rankFiles } from './stream/rank-files.js';
import {
  words,
  squeezeFills,
  squeezeFormats,
  type SqueezeFill,
  type SqueezeFormat,
} from './types.js';
import { checkChoice, checkInteger, checkOptions, checkShare, reading } from './validation.js';

/** Options of {@link squeezePicture}. */
export interface SqueezeOptions {
  /** Share of the patches that stay as they are, in (0, 1]. Default 0.5. */
  keepRatio?: number | undefined;
  /** What the others become: `'flat'`: their smoothed mean colours; `'blur'`: a blur of a quarter of a patch. Default `'flat'`. */
  fill?: SqueezeFill | undefined;
  /** Default: the source's, or `'jpeg'` if it has another. */
  format?: SqueezeFormat | undefined;
  /** Of the encoder, an integer in [1, 100]. Numbers of two formats cannot be compared. Default 75. */
  quality?: number | undefined;
  /** As of {@link rankFiles}. Default `'tiny'`. */
  ranker?: PatchRanker | string | undefined;
  /** About this many patches, an integer in [2, 65536]. Default: as many as the ranker was made for. */
  patches?: number | undefined;
  /** Cancels the call, which then rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined;
}

const squeezeKeys = words<keyof SqueezeOptions>()(
  'keepRatio fill format quality ranker patches signal',
);

/** What {@link squeezePicture} made. */
export interface SqueezedPicture {
  /** The file. Never more bytes than the source: if it would have as many, these are the source's. */
  bytes: Uint8Array;
  /** Whether they are new ones. */
  squeezed: boolean;
  /** Bytes of the source. */
  sourceBytes: number;
  /** Of `bytes`; null where they are the source's and it is of another kind. */
  format: SqueezeFormat | null;
  /** Pixels, after the EXIF rotation. */
  width: number;
  /** Pixels, after the EXIF rotation. */
  height: number;
  /** Share of the patches that stay as they are. */
  keepRatio: number;
}

/**
 * Encodes a picture with its lower-ranked patches smoothed away, so that they take fewer bytes. Any decoder shows the file. It is upright,
 * in sRGB, without metadata; transparency is laid on white; of an animation it is the first frame. Smoothing follows the encoder's blocks.
 *
 * Whether that is better than a lower quality for the whole picture depends on what the picture is for: docs/squeeze.md has measurements.
 *
 * @param source - a path, a `file:` URL, or the bytes of an image file.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`, and what {@link rankFiles} reports for a picture and for itself; or the signal's reason.
 *
 * @example
 * ```ts
 * const { bytes } = await squeezePicture('photo.jpg', { keepRatio: 0.5, quality: 60 });
 * ```
 */
export async function squeezePicture(
  source: PictureSource,
  options?: SqueezeOptions,
): Promise<SqueezedPicture> {
  const checked = checkOptions(options, squeezeKeys);
  const { keepRatio = 0.5, fill = 'flat', quality = 75, ranker, patches, signal } = checked;
  const given = reading('source', () => pathOrBytes(source, 'source'));
  checkShare('keepRatio', keepRatio, '(0, 1]');
  checkChoice('fill', fill, squeezeFills);
  checkChoice('format', checked.format, squeezeFormats);
  checkInteger('quality', quality, 1, 100);
  signal?.throwIfAborted();
  const name = sourceName(given);
  const settings = { keepRatio, fill, quality, format: checked.format, ranker, patches, signal };
  const work = (bytes: Uint8Array): Promise<SqueezedPicture> => squeeze(name, bytes, settings);
  return typeof given === 'string' ? withBytes(given, name, signal, work) : work(given);
}

interface Settings {
  keepRatio: number;
  fill: SqueezeFill;
  quality: number;
  format: SqueezeFormat | undefined;
  ranker: PatchRanker | string | undefined;
  patches: number | undefined;
  signal: AbortSignal | undefined;
}

async function squeeze(
  name: string,
  bytes: Uint8Array,
  { keepRatio, fill, quality, signal, ...settings }: Settings,
): Promise<SqueezedPicture> {
  const { ranker, patches } = settings;
  const own = formatOf(bytes);
  const format = settings.format ?? own ?? 'jpeg';
  for await (const ranked of rankFiles([{ picture: bytes, name }], {
    ranker,
    patches,
    keepRatio,
    signal,
  })) {
    if (!ranked.ok) throw ranked.error;
    const { grid, kept, width, height } = ranked;
    const sharp = await loadSharp();
    const picture = await decodeToSoften(bytes, name, signal);
    const softened = await soften(sharp, picture, { grid, kept, fill });
    signal?.throwIfAborted();
    const made = await encodePicture(sharp, softened, format, quality).catch((cause: unknown) => {
      const [why = ''] = (cause as Error).message.split('\n');
      throw unsupported(
        `The image ${name} cannot be stored as ${format}: ${why.replace(/\.$/, '')}.`,
        cause,
      );
    });
    signal?.throwIfAborted();
    const squeezed = made.length < bytes.length;
    return {
      bytes: new Uint8Array(squeezed ? made : bytes),
      squeezed,
      sourceBytes: bytes.length,
      format: squeezed ? format : own,
      width,
      height,
      keepRatio,
    };
  }
  throw new LtrpError('ERR_LTRP_INTERNAL', `The image ${name} was not ranked.`);
}

function formatOf(bytes: Uint8Array): SqueezeFormat | null {
  const { format, name } = kindOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  if (format === 'jpeg' || format === 'webp') return format;
  return name === 'AVIF' ? 'avif' : null;
}
