/** Pictures embedded in an SVG, which may be much larger than they are shown. */
import { Buffer } from 'node:buffer';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { SharpModule } from '../sharp.js';
import { kindOf } from './kinds.js';

const dataUri = /data:image\/[\w.+-]+(?:;[\w=.+-]+)*,([^"'<>)]+)/gi;

/** Bytes of an SVG's text, at most. */
const mostText = 2 ** 26;

/** The text of an SVG that may be compressed (`.svgz`). */
export async function unpacked(bytes: Buffer): Promise<Buffer> {
  const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (isPacked) return promisify(gunzip)(bytes, { maxOutputLength: mostText });
  if (bytes.length > mostText) throw new Error(`its text is longer than ${mostText} bytes`);
  return bytes;
}

/** Bytes that drawing an embedded picture takes for each of its pixels: as it is decoded, and as it is drawn. */
export const embeddedPixelBytes = 10;

/**
 * Pixels of the pictures that are embedded in an SVG as data: URIs, each time they occur. Without what is hidden behind
 * entities; a limit on the memory of the process that draws is for these.
 */
export async function embeddedPixels(sharp: SharpModule, bytes: Buffer): Promise<number> {
  let pixels = 0;
  for (const [uri, data = ''] of bytes.toString('latin1').matchAll(dataUri)) {
    const plain = data.replace(/(?:\s|&#(?:10|13|9|xA|xD|x9);)+/gi, '');
    const whole = /;base64,/i.test(uri.slice(0, 200))
      ? Buffer.from(plain, 'base64')
      : Buffer.from(percentDecoded(plain), 'latin1');
    if (kindOf(whole).format === 'svg') {
      pixels += await embeddedPixels(sharp, await unpacked(whole));
      continue;
    }
    const size = await sharp(whole, { limitInputPixels: false })
      .metadata()
      .catch(() => undefined); // it will not be drawn either
    pixels += (size?.width ?? 0) * (size?.height ?? 0);
  }
  return pixels;
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
