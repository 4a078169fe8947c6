/** Pictures made up for tests. */
import sharp, { type Sharp } from 'sharp';
import { resolveSources, type Source } from '../../lib/data/sources.js';

/** Smooth colours with edges and some noise, different for every seed; the same bytes every time. */
export function picturePixels(width: number, height: number, channels = 3, seed = 1): Buffer {
  const pixels = Buffer.alloc(width * height * channels);
  let state = seed >>> 0 || 1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = (x / width - 0.4) ** 2 + (y / height - 0.55) ** 2 < 0.05 ? 90 : 0;
      for (let channel = 0; channel < channels; channel++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        const wave =
          60 * Math.sin((x * (seed + 1 + channel)) / 23) + 40 * Math.cos((y * seed) / 17);
        const value = 120 + wave + inside + (state >>> 28);
        pixels[(y * width + x) * channels + channel] = Math.max(
          0,
          Math.min(255, Math.round(value)),
        );
      }
    }
  }
  return pixels;
}

export function picture(
  width: number,
  height: number,
  channels: 1 | 2 | 3 | 4 = 3,
  seed = 1,
): Sharp {
  return sharp(picturePixels(width, height, channels, seed), { raw: { width, height, channels } });
}

/** One source of pictures, as `--data` takes it. */
export async function resolveSource(argument: string): Promise<Source> {
  const { sources } = await resolveSources([argument]);
  return sources[0] as Source;
}
