/** Facts and wishes about a picture. Without sharp's types, which are not part of the package's declarations. */
import type { Buffer } from 'node:buffer';

/** Pixels of a picture, after its EXIF rotation. */
export interface PictureSize {
  height: number;
  width: number;
}

/** What sharp says of a picture before anything is decoded. */
export interface Header extends PictureSize {
  /** Colour space, sample type and compression, as sharp's metadata names them. */
  space: string;
  depth: string;
  channels: number;
  compression?: string | undefined;
  /** Decoded in several passes over the whole picture. */
  progressive: boolean;
  /** Turned or mirrored by its EXIF orientation. */
  turned: boolean;
}

/** How large a picture becomes (neither size: as it is), and in which colours. */
export interface Scaling {
  /** Stretched to this size, from which a part is then cut out. */
  exact?: { height: number; width: number; cut?: Cut | undefined } | undefined;
  /** Neither side is longer (`inside`), or the shorter one is not longer (`outside`); never scaled up. */
  side?: { pixels: number; fit: 'inside' | 'outside'; kernel: 'cubic' | 'lanczos3' } | undefined;
  /** Colours are those of its profile, as people see them. Default: RGB values as they are stored. */
  profile?: true | undefined;
}

/** A rectangle of pixels. */
export interface Cut extends PictureSize {
  top: number;
  left: number;
}

/** RGB bytes, row by row. */
export interface Pixels extends PictureSize {
  pixels: Buffer;
}
