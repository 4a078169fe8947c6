/** What the pictures of an evaluation show, as numbers of the model's classes. */
import type { Dataset } from '../data/dataset.js';
import { readNames } from '../data/label-files.js';
import type { Labels } from '../data/labels.js';
import { LtrpError } from '../errors.js';
import { invalid } from '../validation.js';
import { classesBeside } from './fine-tuned.js';
import type { MaskFile } from './shown-objects.js';
import { heldOutLabels, trainingLabels } from './training-labels.js';

/** Of the command line. */
export interface LabelSettings {
  model: string;
  labels?: string;
  categories?: string;
  unseen?: string;
  classes?: string;
}

/** The labels, as numbers of the model's classes. */
export async function labelsOf(
  settings: LabelSettings,
  dataset: Dataset,
  outputs: number,
): Promise<Labels> {
  // --unseen is for --masks as well, which folders of classes have, too.
  const { model, classes: given } = settings;
  const forLabels = { ...settings };
  delete forLabels.unseen;
  if (outputs === 0) {
    throw new LtrpError(
      'ERR_LTRP_CHECKPOINT_CONTENT',
      `'${model}' has no head for classes and cannot be evaluated; fine-tune it first.`,
    );
  }
  const file = given ?? classesBeside(model);
  const labels =
    file === undefined
      ? await trainingLabels(dataset, forLabels)
      : await heldOutLabels(dataset, settings, await readNames(file));
  if (labels.classes.length !== outputs) {
    throw invalid(
      `The model has ${outputs} classes, but there are ${labels.classes.length} names${file === undefined ? ' in --data' : ` in ${file}`}; name the model's with --classes.`,
    );
  }
  return labels;
}

/** Of --unseen: classes of the model, or categories of --masks that nobody trained it on. */
export async function unseenNames(
  { unseen, labels }: LabelSettings,
  classes: readonly string[],
  masks: MaskFile | undefined,
): Promise<string[] | undefined> {
  if (unseen === undefined) return undefined;
  if (labels === undefined && masks === undefined)
    throw invalid('--unseen is for --labels and --masks.');
  const names = await readNames(unseen);
  const other = names.find((name) => !classes.includes(name) && !masks?.categories.has(name));
  if (other !== undefined)
    throw invalid(`--unseen names '${other}', which is not a category of the run.`);
  return names;
}
