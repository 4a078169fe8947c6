/** An independent classifier, which sees pictures instead of patches: does its answer stay when dropped patches are covered? */
import { Buffer } from 'node:buffer';
import type { PixelBatch } from '../types.js';
import type { VisionTransformer } from '../vision-transformer.js';
import { background, keepOnly, type JudgeFill } from './covered.js';

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
    const length = height * width * 3;
    const pictures = Array.from({ length: n }, (_, i) => ({
      ...{ height, width, patch: this.patchSize },
      pixels: images.data.subarray(i * length, (i + 1) * length),
    }));
    const behind = await Promise.all(pictures.map((each) => background(each, this.fill)));
    const answers = await this.answers(
      pictures.map(({ pixels }) => pixels),
      images,
    );
    return {
      stays: async (kept) => {
        // With all patches the picture is itself.
        if (kept.every((ids) => ids.length * this.patchSize ** 2 === height * width))
          return answers.map(() => true);
        const covered = pictures.map((picture, i) =>
          keepOnly(picture, kept[i] ?? [], behind[i] as Uint8Array),
        );
        const others = await this.answers(covered, images);
        return others.map((answer, i) => answer === answers[i]);
      },
    };
  }

  private async answers(pictures: readonly Uint8Array[], { shape }: PixelBatch): Promise<number[]> {
    const { signal } = this;
    const images = { data: Buffer.concat(pictures), shape };
    const { top } = await this.model.classify(images, { topK: 1, signal });
    return [...(top ?? [])];
  }
}

export interface SeenPictures {
  /** For each picture whether the answer stays when only these patches, ids in raster order, are left of it. */
  stays(kept: readonly (readonly number[])[]): Promise<boolean[]>;
}
