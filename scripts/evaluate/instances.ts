/** The photographs with masks: those of a folder with `instances.json` and `images/`, ordered by name. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readInstances, type OutlinedPicture } from '../../lib/data/instances.js';

export interface LabelledPicture extends OutlinedPicture {
  name: string;
  path: string;
}

/** None where the file is missing. */
export async function labelledPictures(folder: string): Promise<LabelledPicture[]> {
  const path = join(folder, 'instances.json');
  if (!existsSync(path)) return [];
  const { entries } = await readInstances(path);
  return [...entries]
    .map(([name, picture]) => ({ name, path: join(folder, 'images', name), ...picture }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
