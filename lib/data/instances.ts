/** Outlines of objects, from COCO's JSON of instances. */
import { invalid } from '../validation.js';
import { categoryName } from './category-names.js';
import { pictureName, readCoco } from './label-files.js';

/** A picture's objects. Crowds are left out: they have no outline. */
export interface OutlinedPicture {
  /** Of the picture that was outlined, in pixels. */
  width: number;
  height: number;
  /** The polygons of each object: corners [x, y, x, y, ...] in pixels of the picture. */
  objects: number[][][];
  /** The name of each object's category, or its number where the file does not name it. */
  categories: string[];
}

/** What such a file says. */
export interface InstanceFile {
  path: string;
  /** Names of those that have objects. */
  categories: ReadonlySet<string>;
  /** By the name of the picture, in NFC, with `/` between folders. */
  entries: ReadonlyMap<string, OutlinedPicture>;
}

interface Coco {
  categories?: { id: number; name: string }[];
  images: { id: number; file_name: string; width: number; height: number }[];
  annotations: {
    image_id: number;
    category_id?: number;
    iscrowd?: number;
    segmentation?: unknown;
  }[];
}

const fields = {
  images: { id: 'number', file_name: 'string', width: 'number', height: 'number' },
  annotations: { image_id: 'number' },
};

/**
 * Reads the outlines.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_FILE_READ`; `ERR_LTRP_INVALID_ARGUMENT` for what is no such file, and
 *   objects that have no polygons.
 */
export async function readInstances(path: string): Promise<InstanceFile> {
  const { categories = [], images, annotations } = await readCoco<Coco>(path, fields);
  const names = new Map(categories.map(({ id, name }) => [id, categoryName(name, path)]));
  const byId = new Map<number, OutlinedPicture>();
  const entries = new Map<string, OutlinedPicture>();
  for (const { id, file_name, width, height } of images) {
    const picture = { width, height, objects: [], categories: [] };
    byId.set(id, picture);
    entries.set(pictureName(file_name), picture);
  }
  for (const [i, { image_id, category_id, iscrowd, segmentation }] of annotations.entries()) {
    if (iscrowd === 1) continue;
    if (!isPolygons(segmentation))
      throw invalid(
        `${path} has no polygons in annotations[${i}].segmentation; only crowds may go without.`,
      );
    if (segmentation.length === 0) continue;
    const picture = byId.get(image_id);
    if (picture === undefined)
      throw invalid(`${path} has an annotation of the image ${image_id}, which it does not list.`);
    picture.objects.push(segmentation);
    picture.categories.push(names.get(category_id ?? NaN) ?? String(category_id));
  }
  const used = [...entries.values()].flatMap((each) => each.categories);
  return { path, categories: new Set(used), entries };
}

const isPolygons = (value: unknown): value is number[][] =>
  Array.isArray(value) &&
  value.every((each) => Array.isArray(each) && each.every((corner) => Number.isFinite(corner)));
