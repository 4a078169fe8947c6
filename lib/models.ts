/** Loading models: the embedded ones and those of the hub by name, all others by path. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cut } from './described.js';
import { notFound } from './errors.js';
import { isHubSource, readHubSource } from './hub/source.js';
import type { CoreBinding, ModelKind, NativeModelConfig, NativeModels } from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import { packageRoot } from './native/paths.js';
import {
  words,
  type JobOptions,
  type LoadOptions,
  type ModelConfig,
  type TeacherLoadOptions,
} from './types.js';
import { checkOptions, checkSource, invalid } from './validation.js';

export type { ModelKind };

/** Keys of {@link LoadOptions}. */
const loadKeys = words<keyof LoadOptions>()('device precision libtorch weights signal onProgress');

/** Keys of {@link TeacherLoadOptions}. */
export const teacherLoadKeys = words<keyof TeacherLoadOptions>()(
  'device precision libtorch weights signal onProgress normalizedTarget',
);

/** Names that `load` takes instead of a path. */
export const embeddedModels: readonly string[] = ['tiny'];

/** What there is of each of them. */
const embeddedKinds: readonly ModelKind[] = ['mae', 'ranker'];

/**
 * The file or folder behind `source`: an embedded model's name, or a path.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND` when it does not exist.
 */
export function resolveModel(source: string, kind: ModelKind, name = 'source'): string {
  checkSource(name, source);
  const embedded = embeddedModels.includes(source) && embeddedKinds.includes(kind);
  const path = embedded
    ? join(packageRoot(), 'models', `${source}-${kind}.safetensors`)
    : resolve(source);
  if (!existsSync(path)) {
    throw notFound(
      embedded
        ? `The embedded model '${source}' is missing: there is no file ${path}; install the package again.`
        : `There is no model ${cut(path)}; ${advice(source, kind)}`,
    );
  }
  return path;
}

/** Advice for a missing model. */
function advice(source: string, kind: ModelKind): string {
  if (isHubSource(source)) {
    return `only load takes a name of the hub: \`npx ltrp models fetch ${source}\` fetches it and prints the path to give.`;
  }
  if (/^(https?|s3|gs|hf):\/\//i.test(source)) {
    return 'this is an address, and models are not downloaded from one: fetch the file and give its path.';
  }
  if (/^[\w-][\w.-]*\/[\w.-]*\w$/.test(source) && !/\.\w+$/.test(source)) {
    return (
      'this looks like the name of a model on the Hugging Face hub, which is asked only by the prefix hf: load ' +
      `'hf:${source}', or run \`npx ltrp models fetch hf:${source}\`.`
    );
  }
  if (!embeddedKinds.includes(kind))
    return 'give a .safetensors or .pth file, or a folder with one (Hugging Face, a training run).';
  const names = embeddedModels.map((name) => `'${name}'`).join(', ');
  return `give a .safetensors or .pth file, a folder with one (Hugging Face, a training run), or ${names}.`;
}

/** {@link resolveModel}; a model of the hub is fetched if it is not in the cache. */
export async function locateModel(
  source: string,
  kind: ModelKind,
  { signal, onProgress }: JobOptions,
): Promise<string> {
  if (typeof source !== 'string' || !isHubSource(source)) return resolveModel(source, kind);
  const wanted = readHubSource(source);
  // What a listener throws ends the fetch, and is not one more reason to try again.
  const refused = new AbortController();
  const signals = [refused.signal, ...(signal === undefined ? [] : [signal])];
  const report = (_file: string, done: number, total: number | null): void => {
    try {
      if (total !== null) onProgress?.({ done, total });
    } catch (error) {
      refused.abort(error);
    }
  };
  const { fetchModel } = await import('./hub/fetch.js');
  const { weights } = await fetchModel(wanted, {
    signal: AbortSignal.any(signals),
    onProgress: report,
  });
  return weights;
}

/** The core and a model of that kind in it. `keys`: those of the options. */
export async function loadModel<Kind extends ModelKind>(
  kind: Kind,
  source: string,
  options: TeacherLoadOptions | undefined,
  keys: readonly (keyof TeacherLoadOptions)[] = loadKeys,
): Promise<{ core: CoreBinding; native: NativeModels[Kind] }> {
  const checked = checkOptions(options, keys);
  const { device, precision, weights, normalizedTarget, libtorch, signal } = checked;
  signal?.throwIfAborted();
  const path = await locateModel(source, kind, checked);
  const core = await loadCore({ libtorch });
  const known = { device, precision, weights, normalizedTarget };
  const native = await runJob(core, { signal }, (job) => core.loadModel(job, kind, path, known));
  return { core, native };
}

/** What only this package can give to the constructors of its classes. */
export const made = Symbol('made');

export function checkMade(key: unknown, name: string, use = `${name}.load`): void {
  if (key !== made) throw invalid(`${name} has no public constructor; use ${use}.`);
}

/** The native objects behind models of this copy of the package. */
const natives = new WeakMap<object, NativeModels[ModelKind]>();

/** Remembers the native object behind a model. */
export function keepNative(model: object, native: NativeModels[ModelKind]): void {
  natives.set(model, native);
}

/** The native object behind a model; undefined for anything else. */
export function nativeOf(model: unknown): NativeModels[ModelKind] | undefined {
  return typeof model === 'object' && model !== null ? natives.get(model) : undefined;
}

/** A model's public configuration: that of its file, with the sizes that follow from it. */
export function publicConfig<Config extends NativeModelConfig>(
  native: Config,
): Readonly<Config & ModelConfig> {
  const { imageHeight, imageWidth, patchSize } = native;
  const grid = [imageHeight / patchSize, imageWidth / patchSize] as const;
  return frozen({ imageSize: imageHeight, grid, ...native });
}

/** `config` and everything in it, unchangeable: what is computed depends on it. */
export function frozen<Config extends object>(config: Config): Readonly<Config> {
  for (const value of Object.values(config) as unknown[]) {
    if (typeof value === 'object' && value !== null) frozen(value);
  }
  return Object.freeze(config);
}
