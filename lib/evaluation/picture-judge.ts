/** An independent classifier, which sees pictures instead of patches: does its answer stay when dropped patches are covered? */
import { Buffer } from 'node:buffer';
import { loadSharp } from '../sharp.js';
import type { PixelBatch } from '../types.js';
import type { VisionTransformer } from '../vision-transformer.js';

/** What covers a dropped patch: the picture's mean colour, or a copy of the picture blurred by as much as a patch. */
export const judgeFills = ['mean', 'blur'] as const;
export type JudgeFill = (typeof judgeFills)[number];

interface Raw {
  width: number;
  height: number;
  channels: 3;
}

export class PictureJudge {
  /** @param patchSize - pixels a side of the patches that are dropped; the judge's own may be others. */
  constructor(
    private readonly model: VisionTransformer,
    private readonly fill: JudgeFill,
    private readonly patchSize: number,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** What it says of pictures of one size, all of each, and what would cover them. */
  async see(images: PixelBatch): Promise<SeenPictures> {
    const [n, height, width] = images.shape;
    const raw: Raw = { width, height, channels: 3 };
    const length = height * width * 3;
    const pictures = Array.from({ length: n }, (_, i) =>
      Buffer.from(images.data.subarray(i * length, (i + 1) * length)),
    );
    const covers = await Promise.all(
      pictures.map((each) => coverOf(each, raw, this.fill, this.patchSize)),
    );
    const answers = await this.answers(pictures, raw);
    return {
      stays: async (kept) => {
        const covered = pictures.map((picture, i) =>
          withPatches(covers[i] as Buffer, picture, kept[i] ?? [], raw, this.patchSize),
        );
        const others = await this.answers(covered, raw);
        return others.map((answer, i) => answer === answers[i]);
      },
    };
  }

  private async answers(pictures: readonly Buffer[], { height, width }: Raw): Promise<number[]> {
    const { signal } = this;
    const images = {
      data: Buffer.concat(pictures),
      shape: [pictures.length, height, width, 3] as const,
    };
    const { top } = await this.model.classify(images, { topK: 1, signal });
    return [...(top ?? [])];
  }
}

export interface SeenPictures {
  /** For each picture whether the answer stays when only these patches, ids in raster order, are left of it. */
  stays(kept: readonly (readonly number[])[]): Promise<boolean[]>;
}

async function coverOf(
  pixels: Buffer,
  raw: Raw,
  fill: JudgeFill,
  patchSize: number,
): Promise<Buffer> {
  const sharp = await loadSharp();
  const picture = sharp(pixels, { raw });
  if (fill === 'blur') return picture.blur(patchSize).raw().toBuffer();
  const { channels } = await picture.stats();
  const colour = Buffer.from(channels.map(({ mean }) => Math.round(mean)));
  return Buffer.alloc(pixels.length, colour);
}

/** The cover, with a picture's own pixels where patches are kept. */
function withPatches(
  cover: Buffer,
  picture: Buffer,
  kept: readonly number[],
  { width }: Raw,
  patch: number,
): Buffer {
  const seen = Buffer.from(cover);
  const columns = Math.floor(width / patch);
  for (const id of kept) {
    const [top, left] = [Math.floor(id / columns) * patch, (id % columns) * patch];
    for (let row = top; row < top + patch; row++) {
      const start = 3 * (row * width + left);
      picture.copy(seen, start, start, start + 3 * patch);
    }
  }
  return seen;
}
