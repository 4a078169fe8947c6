/** Classifiers of their own for selectors and shares: the paper's protocol. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { readNames } from '../data/label-files.js';
import { percentOf } from '../evaluation/report.js';
import type { SelectorName } from '../selectors.js';
import { shareOf, shareProblem } from '../share.js';
import { invalid } from '../validation.js';
import { modelDigest } from '../file-digest.js';
import { locateModel } from '../models.js';
import { VisionTransformer } from '../vision-transformer.js';
import { withNotes } from './notes.js';
import { loadOptions } from './results.js';

/** The model that classifies what a selector keeps at a share. */
export interface FineTuned {
  selector: SelectorName;
  keep: number;
  model: string;
}

/** `ranker@25%=runs/quarter`, in addition to those before. */
export function parseFineTuned(text: string, before: readonly FineTuned[] = []): FineTuned[] {
  const match = /^([^@=]+)@([^@=]+)=(.+)$/.exec(text);
  if (match === null)
    throw new InvalidArgumentError(
      'It must be SELECTOR@SHARE=MODEL, for example ranker@25%=runs/x.',
    );
  const [, name = '', share = '', model = ''] = match;
  const selector = name as SelectorName; // or the caller's own: load tells which are evaluated
  const problem = shareProblem(share, '(0, 1]');
  if (problem !== undefined) throw new InvalidArgumentError(problem);
  const keep = shareOf(share);
  if (before.some((each) => each.selector === selector && each.keep === keep))
    throw new InvalidArgumentError(`${name}@${share} has a model already.`);
  return [...before, { selector, keep, model }];
}

/** A classifier where it lies, and what tells it apart. One of the hub is fetched. */
export async function locatedClassifier(
  source: string,
  signal: AbortSignal,
): Promise<{ source: string; path: string; digest: string }> {
  const path = await locateModel(source, 'classifier', { signal });
  return { source, path, digest: await modelDigest(path) };
}

/** The names of the classes that a training run left beside its model. */
export function classesBeside(model: string): string | undefined {
  const isFolder = statSync(model, { throwIfNoEntry: false })?.isDirectory() === true;
  const file = join(isFolder ? model : dirname(model), 'classes.txt');
  return existsSync(file) ? file : undefined;
}

/** What an evaluation is of, as far as these models have to fit. */
interface Evaluated {
  classifier: VisionTransformer;
  classes: readonly string[];
  selectors: readonly SelectorName[];
  keeps: readonly number[];
}

/** The models, loaded. */
export class FineTunedModels {
  /** With the SHA-256 of each model. */
  readonly list: (FineTuned & { digest: string })[] = [];
  readonly #models = new Map<string, VisionTransformer>();

  /** @throws {LtrpError} of loading; `ERR_LTRP_INVALID_ARGUMENT` for pairs that are not evaluated and models that do not fit. */
  static async load(
    list: readonly FineTuned[],
    evaluated: Evaluated,
    options: Parameters<typeof loadOptions>[0],
    signal: AbortSignal,
  ): Promise<FineTunedModels> {
    const { selectors, keeps } = evaluated;
    for (const { selector, keep } of list) {
      if (selectors.includes(selector) && keeps.includes(keep)) continue;
      throw invalid(
        `--fine-tuned has a model for ${selector} at ${percentOf(keep)}, which is not evaluated; see --selectors and --keep.`,
      );
    }
    const found = new FineTunedModels();
    try {
      for (const { selector, keep, model } of list) {
        const { path, digest } = await locatedClassifier(model, signal);
        const loaded = await withNotes(VisionTransformer.load(path, loadOptions(options)));
        found.#models.set(keyOf(selector, keep), loaded);
        await check({ model, path }, loaded, evaluated);
        found.list.push({ selector, keep, model, digest });
      }
    } catch (error) {
      await found[Symbol.asyncDispose]();
      throw error;
    }
    return found;
  }

  of(selector: SelectorName, keep: number): VisionTransformer | undefined {
    return this.#models.get(keyOf(selector, keep));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const model of this.#models.values()) await model[Symbol.asyncDispose]();
  }
}

const keyOf = (selector: SelectorName, keep: number): string => `${selector} ${keep}`;

async function check(
  { model, path }: { model: string; path: string },
  { config }: VisionTransformer,
  { classifier, classes }: Evaluated,
): Promise<void> {
  const geometry = ({ patchSize, grid, encoder }: typeof config): string =>
    `a ${grid.join('x')} grid of ${patchSize} pixel patches, width ${encoder.dim} and ${encoder.depth} blocks`;
  const [own, other] = [geometry(config), geometry(classifier.config)];
  if (own !== other)
    throw invalid(`'${model}' of --fine-tuned has ${own}, but --model has ${other}.`);
  const file = classesBeside(path);
  const names = file === undefined ? undefined : await readNames(file);
  const sameNames = names === undefined || names.join('\n') === classes.join('\n');
  if (config.classes !== classes.length || !sameNames)
    throw invalid(
      `'${model}' of --fine-tuned has other classes than --model; they must be the same, in the same order.`,
    );
}
