/** The labels of a run: the folders that its pictures lie in, or those of --labels. */
import type { Dataset } from '../data/dataset.js';
import { readLabels, readNames } from '../data/label-files.js';
import { foldersAsLabels, labelsOfFile, type Labels } from '../data/labels.js';
import { invalid } from '../validation.js';
import type { TrainingSettings } from './training-options.js';

type LabelSettings = Pick<TrainingSettings, 'labels' | 'valLabels' | 'categories' | 'unseen'>;

/** Of the pictures that are trained on. */
export async function trainingLabels(dataset: Dataset, settings: LabelSettings): Promise<Labels> {
  if (settings.labels === undefined) {
    const { valLabels, categories, unseen } = settings;
    if ((valLabels ?? categories ?? unseen) !== undefined)
      throw invalid('--val-labels, --categories and --unseen are for --labels.');
    return foldersAsLabels(dataset);
  }
  const only = await chosen(settings);
  return labelsOfFile(dataset, await readLabels(settings.labels), { only });
}

/** Of held-out pictures, for a model of `known` classes. */
export async function heldOutLabels(
  dataset: Dataset,
  settings: LabelSettings,
  known: readonly string[],
): Promise<Labels> {
  const path = settings.valLabels ?? settings.labels;
  if (path === undefined) return foldersAsLabels(dataset, known);
  const only = await chosen(settings);
  return labelsOfFile(dataset, await readLabels(path), { only, known });
}

/** The categories of --unseen, as numbers. */
export async function unseenOf(
  { unseen }: LabelSettings,
  classes: readonly string[],
): Promise<number[]> {
  if (unseen === undefined) return [];
  return (await readNames(unseen)).map((name) => {
    const id = classes.indexOf(name);
    if (id < 0) throw invalid(`--unseen names '${name}', which is not a category of the run.`);
    return id;
  });
}

const chosen = async ({ categories }: LabelSettings): Promise<string[] | undefined> =>
  categories === undefined ? undefined : readNames(categories);
