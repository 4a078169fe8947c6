/** Outlines of objects as masks on a stretched picture: how many pixels of each patch belong to an object. */
import { loadSharp } from '../sharp.js';

/** Corners [x, y, x, y, ...] in pixels of the picture. */
type Polygon = readonly number[];

/** A picture with outlined objects. */
interface Outlined {
  /** Of the file, in pixels. */
  width: number;
  height: number;
  /** The polygons of each object. */
  objects: readonly (readonly Polygon[])[];
}

type Size = readonly [width: number, height: number];

/** What of a picture belongs to objects. */
export interface ObjectPixels {
  /** [L]: pixels that belong to any object. */
  any: Float64Array;
  /** [L] for each object that is not small. */
  each: readonly Float64Array[];
  /** Place of each of these among the picture's objects. */
  places: readonly number[];
  /** Share of the picture's pixels that belong to any object. */
  cover: number;
}

/** Objects of fewer pixels than a quarter of a patch are in `any` but are no instances: half of them is outline. */
const isLarge = (counts: Float64Array, patch: number): boolean => 4 * sum(counts) >= patch ** 2;

/** Pictures that objects cover more of say little about which patches to keep. */
const largestCover = 0.6;

/** The objects of a picture that is stretched to `size`. */
export async function objectPixels(
  { width, height, objects }: Outlined,
  size: Size,
  patch: number,
): Promise<ObjectPixels> {
  const masks: Uint8Array[] = [];
  for (const polygons of objects) masks.push(await fillPolygons(polygons, [width, height], size));
  const all = masks.map((mask) => pixelsPerPatch(mask, size[0], patch));
  const places = [...all.keys()].filter((i) => isLarge(all[i] as Float64Array, patch));
  const any = pixelsPerPatch(union(masks, size), size[0], patch);
  return {
    any,
    each: places.map((i) => all[i] as Float64Array),
    places,
    cover: sum(any) / (size[0] * size[1]),
  };
}

/** [L] for each category of a picture that is not small: the pixels of all of its objects. */
export async function categoryPixels(
  { width, height, objects, categories }: Outlined & { categories: readonly string[] },
  size: Size,
  patch: number,
): Promise<Float64Array[]> {
  const masks = new Map<string, Uint8Array[]>();
  for (const [i, polygons] of objects.entries()) {
    const mask = await fillPolygons(polygons, [width, height], size);
    const category = categories[i] as string;
    masks.set(category, [...(masks.get(category) ?? []), mask]);
  }
  return [...masks.values()]
    .map((each) => pixelsPerPatch(union(each, size), size[0], patch))
    .filter((counts) => isLarge(counts, patch));
}

/** [height, width], 1 where any of the masks is. */
function union(masks: readonly Uint8Array[], [width, height]: Size): Uint8Array {
  const all = new Uint8Array(width * height);
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
 * [height, width], 1 where the polygons cover any of the pixel: the picture of `from` pixels stretched to `size`. Even-odd
 * within the object. A pixel on the outline counts, as in masks drawn with their outline (Pillow, OpenCV); by pixel centres
 * alone, small objects would lose a fifth of their pixels.
 */
export async function fillPolygons(
  polygons: readonly Polygon[],
  from: Size,
  size: Size,
): Promise<Uint8Array> {
  const [scaleX, scaleY] = [size[0] / from[0], size[1] / from[1]];
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
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size[0]}" height="${size[1]}">` +
    `<path fill-rule="evenodd" d="${path}"/></svg>`;
  const sharp = await loadSharp();
  const coverage = await sharp(Buffer.from(svg)).extractChannel(3).raw().toBuffer();
  return Uint8Array.from(coverage, (value) => (value > 0 ? 1 : 0));
}

/** Set pixels of each patch of a mask, [L] in raster order. */
export function pixelsPerPatch(mask: Uint8Array, width: number, patch: number): Float64Array {
  const columns = width / patch;
  const counts = new Float64Array(mask.length / patch ** 2);
  for (const [i, inside] of mask.entries()) {
    const [x, y] = [i % width, Math.floor(i / width)];
    (counts[Math.floor(y / patch) * columns + Math.floor(x / patch)] as number) += inside;
  }
  return counts;
}

export function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
