/** COCO's instances as masks on a stretched picture: how many pixels of each patch belong to an object. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';

/** Of `instances.json`, what is read here. */
interface CocoFile {
  images: { id: number; file_name: string; width: number; height: number }[];
  annotations: {
    image_id: number;
    category_id: number;
    iscrowd: number;
    /** Polygons [x, y, x, y, ...] in pixels of the picture; empty for crowds. */
    segmentation: number[][];
  }[];
}

/** Corners [x, y, x, y, ...] in pixels of the picture. */
type Polygon = readonly number[];

/** A picture with objects. */
export interface LabelledPicture {
  name: string;
  path: string;
  /** Of the file, in pixels. */
  width: number;
  height: number;
  /** The polygons of each object. Crowds are left out: they have no outline. */
  objects: readonly (readonly Polygon[])[];
  /** The category of each object. */
  categories: readonly number[];
}

/** The pictures of a folder with `instances.json` and `images/`, ordered by name; none where the file is missing. */
export function readInstances(folder: string): LabelledPicture[] {
  const path = join(folder, 'instances.json');
  if (!existsSync(path)) return [];
  const { images, annotations } = JSON.parse(readFileSync(path, 'utf8')) as CocoFile;
  const byImage = new Map<number, CocoFile['annotations']>(images.map(({ id }) => [id, []]));
  for (const object of annotations) {
    if (object.iscrowd === 0 && object.segmentation.length > 0)
      byImage.get(object.image_id)?.push(object);
  }
  return images
    .map(({ id, file_name, width, height }) => ({
      name: file_name,
      path: join(folder, 'images', file_name),
      width,
      height,
      objects: (byImage.get(id) ?? []).map(({ segmentation }) => segmentation),
      categories: (byImage.get(id) ?? []).map(({ category_id }) => category_id),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What of a picture belongs to objects. */
export interface ObjectPixels {
  /** [L]: pixels that belong to any object. */
  any: Float64Array;
  /** [L] for each object of at least {@link smallestObject} pixels. */
  each: readonly Float64Array[];
  /** Share of the picture's pixels that belong to any object. */
  cover: number;
}

/** Objects of fewer pixels at 224 px, a quarter of a patch, are in `any` but are no instances: half of them is outline. */
const smallestObject = 64;

/** Pictures that objects cover more of say little about which patches to keep. */
const largestCover = 0.6;

/** The objects of a picture that is stretched to `size` pixels a side. */
export async function objectPixels(
  { width, height, objects }: Pick<LabelledPicture, 'width' | 'height' | 'objects'>,
  size: number,
  patch: number,
): Promise<ObjectPixels> {
  const masks: Uint8Array[] = [];
  for (const polygons of objects) masks.push(await fillPolygons(polygons, [width, height], size));
  const each = masks.map((mask) => pixelsPerPatch(mask, size, patch)).filter(isLarge);
  const any = pixelsPerPatch(union(masks, size), size, patch);
  return { any, each, cover: sum(any) / size ** 2 };
}

/** [L] for each category of a picture that has at least {@link smallestObject} pixels: those of all of its objects. */
export async function categoryPixels(
  { width, height, objects, categories }: LabelledPicture,
  size: number,
  patch: number,
): Promise<Float64Array[]> {
  const masks = new Map<number, Uint8Array[]>();
  for (const [i, polygons] of objects.entries()) {
    const mask = await fillPolygons(polygons, [width, height], size);
    const category = categories[i] as number;
    masks.set(category, [...(masks.get(category) ?? []), mask]);
  }
  return [...masks.values()]
    .map((each) => pixelsPerPatch(union(each, size), size, patch))
    .filter(isLarge);
}

const isLarge = (counts: Float64Array): boolean => sum(counts) >= smallestObject;

/** [size, size], 1 where any of the masks is. */
function union(masks: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size * size);
  for (const mask of masks) {
    for (const [i, inside] of mask.entries()) all[i] = (all[i] as number) | inside;
  }
  return all;
}

/** Whether a picture is measured on: it has an instance, and its objects leave room. */
export function isMeasured({ each, cover }: ObjectPixels): boolean {
  return each.length > 0 && cover < largestCover;
}

/**
 * [size, size], 1 where the polygons cover any of the pixel: the picture of `from` pixels stretched to a square. Even-odd
 * within the object. A pixel on the outline counts, as in masks drawn with their outline (Pillow, OpenCV); by pixel centres
 * alone, small objects would lose a fifth of their pixels.
 */
export async function fillPolygons(
  polygons: readonly Polygon[],
  from: readonly [width: number, height: number],
  size: number,
): Promise<Uint8Array> {
  const [scaleX, scaleY] = [size / from[0], size / from[1]];
  const path = polygons
    .map((polygon) => {
      const corners: string[] = [];
      for (let i = 0; i + 1 < polygon.length; i += 2) {
        corners.push(`${(polygon[i] as number) * scaleX},${(polygon[i + 1] as number) * scaleY}`);
      }
      return `M${corners.join(' ')}Z`;
    })
    .join('');
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}">` +
    `<path fill-rule="evenodd" d="${path}"/></svg>`;
  const coverage = await sharp(Buffer.from(svg)).extractChannel(3).raw().toBuffer();
  return Uint8Array.from(coverage, (value) => (value > 0 ? 1 : 0));
}

/** Set pixels of each patch of a square mask, [L] in raster order. */
export function pixelsPerPatch(mask: Uint8Array, size: number, patch: number): Float64Array {
  const grid = size / patch;
  const counts = new Float64Array(grid * grid);
  for (const [i, inside] of mask.entries()) {
    const [x, y] = [i % size, Math.floor(i / size)];
    (counts[Math.floor(y / patch) * grid + Math.floor(x / patch)] as number) += inside;
  }
  return counts;
}

export function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
