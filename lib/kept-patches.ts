/** Which patches go into a classifier: those that the caller keeps, or those that a selector chooses. */
import { types } from 'node:util';
import { described, lengthOf } from './described.js';
import { MaskedAutoencoder } from './masked-autoencoder.js';
import { nativeOf } from './models.js';
import { copied } from './native/call.js';
import type { CoreBinding, NativeImages, NativeJob, NativeKeep } from './native/binding.js';
import { runJob } from './native/job.js';
import { PatchRanker } from './patch-ranker.js';
import { keepCount } from './selection.js';
import {
  scoresOf,
  selectorNames,
  selectorOf,
  type Selector,
  type SelectorName,
} from './selectors.js';
import type { JobOptions, ModelConfig, ProgressEvent } from './types.js';
import { checkInteger, checkShare, invalid, reading, readList } from './validation.js';
import type { VisionTransformer } from './vision-transformer.js';

/** Options of {@link VisionTransformer.embed}. */
export interface EmbedOptions extends JobOptions {
  /**
   * `[n * K]`, distinct ids for each image, in any order: only these patches go in. Their order changes nothing. For images that
   * keep different numbers: an array with the ids of each; those of one number are computed together.
   * Default: all patches, or as `keepRatio` says.
   */
  keep?: Int32Array | readonly Int32Array[] | undefined;
  /** Share of the patches that go in, in (0, 1], chosen by `selector`; the number is rounded, and at least 1. Not with `keep`. Default: all. */
  keepRatio?: number | undefined;
  /**
   * What chooses them: one of {@link selectors} by name, or a {@link Selector} of your own. Its highest scores go in; of equal ones
   * the lower id. Default `'grid'`: they are spread evenly, whatever the picture shows.
   */
  selector?: SelectorName | Selector | (string & {}) | undefined;
  /**
   * The model that the selector asks, with patches of the classifier's size. Default: the embedded ranker for `ranker` and
   * `ranker-diverse`, the embedded masked autoencoder for `teacher` and `mae-attention`, which are loaded once and stay; for all
   * others the classifier.
   */
  selectorModel?: MaskedAutoencoder | PatchRanker | VisionTransformer | undefined;
  /** Integer in [0, 2^53) that a selector draws from. Default 0. */
  seed?: number | undefined;
}

/** Values of each image under names; `shape` begins with the number of images. */
interface Answer {
  shape: readonly [images: number, values: number];
}

/** A method of the native classifier. */
type Call<Result extends Answer> = (
  job: NativeJob,
  images: NativeImages,
  kept: NativeKeep,
) => Promise<Result>;

type Asked = NonNullable<EmbedOptions['selectorModel']>;

/** Images of our own. */
interface Batch {
  images: NativeImages;
  n: number;
  patches: number;
}

/** Calls the core for the patches that the options keep. What was given is read before this returns. */
export async function callOnKept<Result extends Answer>(
  core: CoreBinding,
  classifier: VisionTransformer,
  images: NativeImages,
  options: EmbedOptions,
  call: Call<Result>,
): Promise<Result> {
  const { keep, keepRatio, selector, selectorModel, seed } = options;
  if (selectorModel !== undefined && (selector === undefined || keepRatio === undefined))
    throw invalid('selectorModel is for a selector; give selector and keepRatio too.');
  const isListed = reading('keep', () => Array.isArray(keep));
  const asks = keepRatio !== undefined && keep === undefined && asksOther(options);
  if (!isListed && !asks) {
    const kept = { keep, keepRatio, selector, seed } as NativeKeep;
    return runJob(core, options, (job) => call(job, images, kept));
  }
  const batch = ownBatch(images, classifier.config.patchSize);
  // The core says why.
  if (batch === undefined) return runJob(core, options, (job) => call(job, images, {}));
  if (isListed) return callByNumber(core, batch, options, call);
  const kept = { keep: await chosenIds(core, classifier, batch, options) };
  return runJob(core, options, (job) => call(job, batch.images, kept));
}

/** A copy of a batch, which may be changed after the call; undefined where the core refuses it. */
function ownBatch({ data, shape }: NativeImages, patchSize: number): Batch | undefined {
  const sizes: readonly unknown[] = Array.isArray(shape) ? shape : [];
  const isWhole = sizes.length === 4 && sizes.every((size) => Number.isSafeInteger(size));
  if (!isWhole || !(types.isUint8Array(data) || types.isFloat32Array(data))) return undefined;
  const [n, ...rest] = sizes as [number, number, number, number];
  const [height, width, channels] = types.isUint8Array(data) ? rest : [rest[1], rest[2], rest[0]];
  const patches = (height / patchSize) * (width / patchSize);
  const isCut = height % patchSize === 0 && width % patchSize === 0 && patches > 0 && n > 0;
  if (!isCut || channels !== 3 || lengthOf(data) !== n * 3 * height * width) return undefined;
  return { images: { ...copied({ data }), shape } as NativeImages, n, patches };
}

/** What each selector asks that cannot ask a classifier. */
const embeddedKinds: ReadonlyMap<unknown, 'mae' | 'ranker'> = new Map([
  ['mae-attention', 'mae'],
  ['ranker', 'ranker'],
  ['ranker-diverse', 'ranker'],
  ['teacher', 'mae'],
] as const);

/** Whether the core alone cannot choose: the selector is the caller's, or asks another model. */
function asksOther({ selector = 'grid', selectorModel }: EmbedOptions): boolean {
  const isBuiltIn = selectorNames.includes(selector as SelectorName);
  return !isBuiltIn || selectorModel !== undefined || embeddedKinds.has(selector);
}

const embedded: {
  mae?: Promise<MaskedAutoencoder> | undefined;
  ranker?: Promise<PatchRanker> | undefined;
} = {};

/** The embedded model, loaded at the first call; after a failure the next call tries again. */
async function embeddedModel(kind: 'mae' | 'ranker'): Promise<Asked> {
  try {
    if (kind === 'mae') return await (embedded.mae ??= MaskedAutoencoder.load('tiny'));
    return await (embedded.ranker ??= PatchRanker.load('tiny'));
  } catch (error) {
    embedded[kind] = undefined;
    throw error;
  }
}

/** What the selector chooses: [n, K] in raster order; undefined for all patches. */
async function chosenIds(
  core: CoreBinding,
  classifier: VisionTransformer,
  { images, n, patches }: Batch,
  { keepRatio, selector: given = 'grid', selectorModel, seed, signal }: EmbedOptions,
): Promise<Int32Array | undefined> {
  checkShare('keepRatio', keepRatio, '(0, 1]');
  checkInteger('seed', seed, 0);
  const selector = selectorOf(given);
  if (selectorModel !== undefined && nativeOf(selectorModel) === undefined) {
    throw invalid(
      `selectorModel must be a loaded MaskedAutoencoder, PatchRanker or VisionTransformer; got ${described(selectorModel)}.`,
    );
  }
  const keep = keepCount(patches, keepRatio as number);
  if (keep === patches) return undefined;
  const kind = embeddedKinds.get(given);
  const model = selectorModel ?? (kind === undefined ? classifier : await embeddedModel(kind));
  const isDefault = selectorModel === undefined;
  const name = isDefault ? `selectorModel (here the embedded ${String(kind)})` : 'selectorModel';
  checkAlike(name, model.config, classifier.config, types.isFloat32Array(images.data));
  signal?.throwIfAborted();
  try {
    const asked = { model, keep, seed, signal };
    const scores = await scoresOf(selector, images, asked, [n, patches]);
    const { patchSize, mean, std } = classifier.config;
    const settings = { keep, scoreShare: 1, patchSize, mean, std };
    const { indices } = await runJob(core, { signal }, (job) =>
      core.selectPatches(job, images, scores, settings),
    );
    return indices;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Refuses a model whose patches are others, or that would see floats that were normalised for another one. */
function checkAlike(
  name: string,
  asked: ModelConfig,
  classifier: ModelConfig,
  isNormalized: boolean,
): void {
  if (asked.patchSize !== classifier.patchSize) {
    throw invalid(
      `${name} must have the classifier's patches of ${classifier.patchSize} pixels; got patches of ${asked.patchSize}.`,
    );
  }
  const isAlike = (['mean', 'std'] as const).every((key) =>
    asked[key].every((value, i) => Math.abs(value - (classifier[key][i] as number)) < 1e-6),
  );
  if (isNormalized && !isAlike) {
    throw invalid(
      `${name} must have the classifier's mean and std, with which these images are normalised; or give bytes, which each model normalises.`,
    );
  }
}

/** Images that keep the same number of patches are computed together; the answers come in the order of the images. */
async function callByNumber<Result extends Answer>(
  core: CoreBinding,
  { images, n, patches }: Batch,
  { keep, keepRatio, selector, seed, signal, onProgress }: EmbedOptions,
  call: Call<Result>,
): Promise<Result> {
  const rows = readRows(keep, n, patches);
  const groups = new Map<number, number[]>();
  for (const [place, { length }] of rows.entries()) {
    const places = groups.get(length) ?? [];
    groups.set(length, places);
    places.push(place);
  }
  const parts: Part<Result>[] = [];
  let done = 0;
  for (const [length, places] of groups) {
    const ids = new Int32Array(length * places.length);
    for (const [i, place] of places.entries()) ids.set(rows[place] as Int32Array, i * length);
    // The core refuses what does not go with keep.
    const kept = { keep: ids, keepRatio, selector, seed } as NativeKeep;
    const before = done;
    const progress =
      onProgress && ((event: ProgressEvent) => onProgress({ done: before + event.done, total: n }));
    const some = groups.size === 1 ? images : imagesAt(images, n, places);
    const answer = await runJob(core, { signal, onProgress: progress }, (job) =>
      call(job, some, kept),
    );
    parts.push({ places, answer });
    done += places.length;
  }
  return groups.size === 1 ? (parts[0] as Part<Result>).answer : inOrder(parts, n);
}

/** Ids of each image, copied. */
function readRows(keep: unknown, n: number, patches: number): Int32Array[] {
  const list = readList('keep', keep, n);
  if (list === undefined)
    throw invalid(`keep must hold an Int32Array for each of ${n} images; got ${described(keep)}.`);
  return list.map((row, image) => {
    if (!types.isInt32Array(row)) {
      throw invalid(
        `keep must be an Int32Array, or an array with one for each image; got ${described(row)} for image ${image}.`,
      );
    }
    const ids = reading(`keep[${image}]`, () => new Int32Array(row)).sort();
    const outside = ids.find((id) => id < 0 || id >= patches);
    const twice = ids.find((id, i) => i > 0 && id === ids[i - 1]);
    let wrong = outside?.toString();
    if (ids.length === 0) wrong = 'none';
    else if (twice !== undefined) wrong ??= `${twice} twice`;
    if (wrong !== undefined) {
      throw invalid(
        `keep must hold distinct patch ids from 0 to ${patches - 1}, at least 1, for each image; got ${wrong} for image ${image}.`,
      );
    }
    return ids;
  });
}

/** Some of `n` images. */
function imagesAt({ data, shape }: NativeImages, n: number, places: readonly number[]) {
  const size = data.length / n;
  const length = places.length * size;
  const some = types.isUint8Array(data) ? new Uint8Array(length) : new Float32Array(length);
  for (const [i, place] of places.entries())
    some.set(data.subarray(place * size, (place + 1) * size), i * size);
  return { data: some, shape: [places.length, ...shape.slice(1)] } as unknown as NativeImages;
}

interface Part<Result extends Answer> {
  places: readonly number[];
  answer: Result;
}

function inOrder<Result extends Answer>(parts: readonly Part<Result>[], n: number): Result {
  const [{ answer: first, places: firsts }] = parts as [Part<Result>];
  const { shape, ...arrays } = first;
  const whole = Object.entries(arrays as Record<string, Float32Array | Int32Array>).map(
    ([name, values]) => {
      const size = values.length / firsts.length;
      const all = types.isInt32Array(values)
        ? new Int32Array(n * size)
        : new Float32Array(n * size);
      for (const { places, answer } of parts) {
        const own = (answer as unknown as Record<string, typeof values>)[name] as typeof values;
        for (const [i, place] of places.entries())
          all.set(own.subarray(i * size, (i + 1) * size), place * size);
      }
      return [name, all] as const;
    },
  );
  return { ...Object.fromEntries(whole), shape: [n, shape[1]] } as unknown as Result;
}
