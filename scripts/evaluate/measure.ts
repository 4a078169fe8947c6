/** Measures every map on every picture of a set. */
import { judgeFills } from '../../lib/evaluation/covered.js';
import { isMeasured, objectPixels, type ObjectPixels } from '../../lib/evaluation/masks.js';
import { instanceRecall, objectRecall } from '../../lib/evaluation/recall.js';
import { known } from '../../lib/evaluation/teacher-reference.js';
import { agreementOfHalves, agreementWith, type HalvesAgreement } from './agreement.js';
import type { Judge, View } from './judge.js';
import { keptPatches, type Selector } from './kept.js';
import { allMaps, type Maps, type NamedRanker, type NamedTeacher } from './maps.js';
import type { LabelledPicture } from './instances.js';
import { readPicture, type Picture, type PictureFit } from './pictures.js';
import { keeps } from './shares.js';
import { Table } from './table.js';

/** What is measured, and how. */
export interface Plan {
  size: number;
  patch: number;
  /** Of pictures with masks. */
  objectFit: Exclude<PictureFit, 'crop'>;
  rankers: readonly NamedRanker[];
  teachers: readonly NamedTeacher[];
  selectors: readonly Selector[];
  /** Rows that are measured; all where it is undefined. */
  rows?: readonly string[];
  /** Told after every picture. */
  onProgress: (done: number, total: number) => void;
}

export interface MeasuredPicture {
  picture: Picture;
  maps: Maps;
}

/** A set of pictures with what was found. */
export interface MeasuredSet {
  table: Table;
  names: string[];
  /** By teacher, picture by picture. */
  halves: Map<string, HalvesAgreement[][]>;
}

/** Object and instance recall on pictures with masks. The map `best possible` knows the masks. */
export async function measureObjects(
  labelled: readonly LabelledPicture[],
  plan: Plan,
): Promise<MeasuredSet & { pictures: (MeasuredPicture & { objects: ObjectPixels })[] }> {
  const set = emptySet('coco');
  const pictures: (MeasuredPicture & { objects: ObjectPixels })[] = [];
  for (const [done, entry] of labelled.entries()) {
    plan.onProgress(done, labelled.length);
    const picture = await readPicture(entry.path, { ...plan, fit: plan.objectFit });
    const objects = await objectPixels(entry, [picture.width, picture.height], plan.patch);
    if (!isMeasured(objects)) continue;
    const own = await ownMaps(picture, set, plan);
    const maps = new Map([...own, ['best possible', objects.any]]);
    await forEachKept(picture, maps, plan, (row, selector, keep, kept) => {
      const cell = { row, selector, keep };
      set.table.add({ ...cell, measure: 'object recall' }, objectRecall(objects, kept));
      set.table.add({ ...cell, measure: 'instance recall' }, instanceRecall(objects, kept));
    });
    pictures.push({ picture, maps, objects });
  }
  return { ...set, pictures };
}

/** Share of the pictures for which the judge's answer on kept patches is its answer on the whole picture. */
export async function measureJudge(
  name: string,
  { paths, fit }: { paths: readonly string[]; fit: 'crop' | 'stretch' },
  judge: Judge,
  plan: Plan,
): Promise<MeasuredSet> {
  const set = emptySet(name);
  for (const [done, path] of paths.entries()) {
    plan.onProgress(done, paths.length);
    const picture = await readPicture(path, { ...plan, fit });
    const maps = await ownMaps(picture, set, plan);
    const views: View[] = ['whole'];
    const cells: { measure: string; row: string; selector: string; keep: number }[] = [];
    await forEachKept(picture, maps, plan, (row, selector, keep, kept) => {
      for (const fill of judgeFills) {
        views.push({ kept, fill });
        cells.push({ measure: `judge, ${fill}`, row, selector, keep });
      }
    });
    const [whole, ...answers] = await judge.answers(picture, views);
    for (const [i, cell] of cells.entries()) {
      set.table.add(cell, { value: answers[i] === whole ? 1 : 0, weight: 1 });
    }
  }
  return set;
}

function emptySet(name: string): MeasuredSet {
  return { table: new Table(name), names: [], halves: new Map() };
}

/** The picture's maps; what they say about the teachers goes into the set. */
async function ownMaps(picture: Picture, set: MeasuredSet, plan: Plan): Promise<Maps> {
  set.names.push(picture.name);
  const teachers = [];
  for (const { name, teacher } of plan.teachers) {
    teachers.push({ name, maps: await teacher.maps(picture) });
  }
  const maps = await allMaps(picture, plan.rankers, teachers);
  for (const { name, maps: ofTeacher } of teachers) {
    const target = [...ofTeacher.mean.values()].at(-1);
    if (target === undefined) continue;
    for (const { row, tau, ndcg } of await agreementWith(maps, target)) {
      const cell = { row, selector: null, keep: null };
      set.table.add({ ...cell, measure: `tau, ${name}` }, known(tau));
      set.table.add({ ...cell, measure: `NDCG, ${name}` }, known(ndcg));
    }
    const list = set.halves.get(name) ?? [];
    set.halves.set(name, [...list, await agreementOfHalves(ofTeacher)]);
  }
  const { rows } = plan;
  return rows === undefined ? maps : new Map([...maps].filter(([row]) => rows.includes(row)));
}

async function forEachKept(
  picture: Picture,
  maps: Maps,
  { selectors }: Plan,
  visit: (row: string, selector: string, keep: number, kept: readonly number[]) => void,
): Promise<void> {
  for (const [row, map] of maps) {
    for (const selector of selectors) {
      for (const keep of keeps) {
        visit(row, selector.name, keep, await keptPatches(picture, map, keep, selector));
      }
    }
  }
}
