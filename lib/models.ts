/** Where models come from: the embedded ones by name, all others by path. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { LtrpError } from './errors.js';
import type { NativeLoadOptions } from './native/binding.js';
import { packageRoot } from './native/paths.js';
import { precisions, type Device, type LoadOptions } from './types.js';
import { checkChoice, checkSource, type OptionKeys } from './validation.js';

/** What a model is for. */
export type ModelKind = 'mae' | 'ranker';

/** Keys of {@link LoadOptions}. */
export const loadKeys: OptionKeys<LoadOptions> = {
  device: true,
  precision: true,
  libtorch: true,
  signal: true,
};

/** Names that `load` takes instead of a path. */
export const embeddedModels: readonly string[] = ['tiny'];

/**
 * The file or folder behind `source`: an embedded model's name, or a path.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND` when it does not exist.
 */
export function resolveModel(source: string, kind: ModelKind, name = 'source'): string {
  checkSource(name, source);
  const embedded = embeddedModels.includes(source);
  const path = embedded
    ? join(packageRoot(), 'models', `${source}-${kind}.safetensors`)
    : resolve(source);
  if (!existsSync(path)) {
    throw new LtrpError(
      'ERR_LTRP_FILE_NOT_FOUND',
      embedded
        ? `The embedded model '${source}' is missing: there is no file ${path}; install the package again.`
        : `There is no model ${path}; give a .safetensors or .pth file, a Hugging Face folder, or ` +
            `${embeddedModels.map((name) => `'${name}'`).join(', ')}.`,
    );
  }
  return path;
}

/** Checks the word for a device; whether it can be used is for the core to say. */
export function deviceWord(device: Device = 'auto'): Device {
  if (typeof device !== 'string' || !/^(auto|cpu|cuda(:\d+)?)$/.test(device)) {
    checkChoice('device', device, ['auto', 'cpu', 'cuda', 'cuda:N']);
  }
  return device;
}

/** Checks the words for a device and a precision. */
export function nativeLoadOptions(options: LoadOptions): NativeLoadOptions {
  const { precision = 'float32' } = options;
  checkChoice('precision', precision, precisions);
  return { device: deviceWord(options.device), precision };
}

/** `config` and everything in it, unchangeable: what is computed depends on it. */
export function frozen<Config extends object>(config: Config): Readonly<Config> {
  for (const value of Object.values(config) as unknown[]) {
    if (typeof value === 'object' && value !== null) frozen(value);
  }
  return Object.freeze(config);
}
