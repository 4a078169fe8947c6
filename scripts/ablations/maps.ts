/** The teacher's maps with one thing changed. */
import { agreementOfHalves, type HalvesAgreement } from '../evaluate/agreement.js';
import { Table } from '../evaluate/table.js';
import type { MapRow } from './rows.js';
import { addRecall, digestOf, type About, type Found, type Study } from './study.js';
import { TimedTeacher } from './timed-teacher.js';

/** The pictures that a row is measured on. */
export const ownPictures = (row: MapRow, { labelled }: Study): Study['labelled'] =>
  labelled.slice(0, row.pictures);

export function aboutMaps(row: MapRow, study: Study): About {
  const pictures = ownPictures(row, study);
  return {
    part: study.part,
    teacher: study.teacher.digest,
    pictures: pictures.length,
    picturesDigest: digestOf(...pictures.map(({ picture }) => picture.digest)),
  };
}

export async function measureMaps(
  row: MapRow,
  study: Study,
  onProgress: (done: number, total: number) => void,
): Promise<Omit<Found, 'row' | 'about'>> {
  await using teacher = await TimedTeacher.open(row.settings, study);
  const table = new Table('coco');
  const halves: HalvesAgreement[] = [];
  const pictures = ownPictures(row, study);
  for (const [done, labelled] of pictures.entries()) {
    onProgress(done, pictures.length);
    const { map, maps } = await teacher.maps(labelled.picture);
    await addRecall(table, row.name, labelled, map);
    if (row.settings.rounds > 1) halves.push(...(await agreementOfHalves(maps)));
  }
  const cost = { secondsPerPicture: teacher.secondsPerPicture };
  return { samples: table.samples(), judged: [], halves, cost };
}
