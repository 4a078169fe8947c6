/** The objects of --masks. */
import { readInstances, type InstanceFile } from '../data/instances.js';
import { entryOf } from '../data/label-files.js';
import { isMeasured, objectPixels } from '../evaluation/masks.js';
import type { ShownObjects } from '../evaluation/study.js';

/** How pictures are cut into patches: pixels. */
export interface Cut {
  height: number;
  width: number;
  patchSize: number;
}

export class MaskFile {
  private constructor(private readonly file: InstanceFile) {}

  /** @throws {LtrpError} as {@link readInstances}. */
  static async read(path: string): Promise<MaskFile> {
    return new MaskFile(await readInstances(path));
  }

  get categories(): ReadonlySet<string> {
    return this.file.categories;
  }

  /** Whether the file has a picture of that name. */
  has(picture: string): boolean {
    return entryOf(this.file, picture) !== undefined;
  }

  /**
   * Of a picture that is stretched; null where recall is not measured on it.
   *
   * @param unseen - names of the categories that count as such; undefined: nobody says.
   */
  async objectsOf(
    picture: string,
    { height, width, patchSize }: Cut,
    unseen: readonly string[] | undefined,
  ): Promise<ShownObjects | null> {
    const name = entryOf(this.file, picture);
    const outlined = name === undefined ? undefined : this.file.entries.get(name);
    if (outlined === undefined) return null;
    const pixels = await objectPixels(outlined, [width, height], patchSize);
    if (!isMeasured(pixels)) return null;
    const each = pixels.each.map((counts, i) => ({
      counts,
      unseen: unseen?.includes(outlined.categories[pixels.places[i] as number] as string),
    }));
    return { any: pixels.any, each };
  }
}
