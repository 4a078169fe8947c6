import { extname, resolve } from 'node:path';
import { cut } from './described.js';
import { resolveModel, type ModelKind } from './models.js';
import { modelKinds, type NativeFileConfig } from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import type { MaePart } from './onnx/convert.js';
import { outputTarget, refuseExisting } from './output-files.js';
import { words, storedTypes, type JobOptions, type StoredType } from './types.js';
import {
  checkBoolean,
  checkChoice,
  checkInteger,
  checkOptions,
  checkPresent,
  checkPath,
  invalid,
} from './validation.js';

export type { ModelKind } from './models.js';
export type { MaePart } from './onnx/convert.js';

/** Formats that {@link convertCheckpoint} writes. */
export type ConversionFormat = 'safetensors' | 'onnx';

/** Options of {@link convertCheckpoint}. */
export interface ConvertOptions extends JobOptions {
  /** The kind of model in the checkpoint, or the one wanted of several. A `'classifier'` is written as safetensors only. */
  kind: ModelKind;
  /** Default: by the output's extension, `.safetensors` or `.onnx`. */
  to?: ConversionFormat | undefined;
  /** How weights are stored in safetensors. Default `'float32'`; ONNX models are float32. */
  type?: StoredType | undefined;
  /** Which part of an autoencoder the ONNX model is. Default `'reconstruct'`. */
  part?: MaePart | undefined;
  /**
   * ONNX only: weights of more bytes than this in total go to `OUTPUT.data` beside the model (ONNX external data), fewer are
   * inside it. Default 1 GiB, at most 2 000 000 000: no reader takes a model file of 2 GiB.
   */
  externalDataAbove?: number | undefined;
  /** Which weights to take from a file with several models, as for {@link LoadOptions}. Default: those that are not an average. */
  weights?: string | undefined;
  /** Whether an autoencoder predicts pixels normalised per patch, as for {@link TeacherLoadOptions}. Default: what the file says. */
  normalizedTarget?: boolean | undefined;
  /**
   * Replace existing files. Default false: an existing file is refused, even if it appears while this call runs. Of two calls at
   * once to one safetensors file the second is refused.
   */
  overwrite?: boolean | undefined;
  /** Folder of the LibTorch to use; it counts for the first load in a process. Default: see `ltrp doctor`. */
  libtorch?: string | undefined;
}

const convertKeys = words<keyof ConvertOptions>()(
  'signal onProgress kind to type part externalDataAbove weights normalizedTarget overwrite libtorch',
);

/** The model read and the files written. */
export interface Conversion {
  /** Names that the input used: `'ltrp'`, `'official'`, `'ltrp-reference'`, `'hf-hub'`, `'hf-v5'` or `'hf-v5-saved'`. */
  naming: string;
  /** Number of the checkpoint's tensors that were written; in safetensors, position tables that are the fixed ones count too. */
  tensors: number;
  /** Geometry, as it stands in the output's header. */
  config: NativeFileConfig;
  /**
   * Sentences on how the input was read where it left something open: assumed defaults, parts left out, which of
   * several models it is.
   */
  notes: string[];
  /** Absolute paths of what was written: the output and, for a large ONNX model, its data. */
  files: string[];
}

const defaultExternalDataAbove = 2 ** 30;

/**
 * Reads a checkpoint of any naming and writes it
 *
 * - as safetensors in this project's layout, whose header carries architecture, eps and normalisation; or
 * - as an ONNX model (operator set 17, float32) for the model's own image size, any batch size. Shapes: n images, L patches,
 *   V visible, p the side of a patch, D and E the widths of encoder and decoder.
 *
 *   | model | inputs | output |
 *   | --- | --- | --- |
 *   | ranker | `images` float32 [n, 3, H, W] | `logits` [n, L] |
 *   | mae, `'reconstruct'` | `images`, `visible` int64 [n, V] | `predictions` [n, L, p * p * 3] |
 *   | mae, `'encoder'` | `images`, `visible` | `latent` [n, V + 1, D], CLS first |
 *   | mae, `'decoder'` | `tokens` float32 [m, T, E], positions added, CLS first | `predictions` [m, T - 1, p * p * 3] |
 *
 *   Images are normalised as for the model's other uses; ids of visible patches are distinct and ascending.
 *
 * The output appears whole or not at all.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS`, `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT`,
 *   `ERR_LTRP_CHECKPOINT_CONTENT`, `ERR_LTRP_FILE_WRITE`, `ERR_LTRP_INVALID_ARGUMENT`, `ERR_LTRP_UNSUPPORTED`,
 *   `ERR_LTRP_OUT_OF_MEMORY`.
 */
export async function convertCheckpoint(
  input: string,
  output: string,
  options: ConvertOptions,
): Promise<Conversion> {
  const checked = checkOptions(options, convertKeys);
  const { kind, libtorch } = checked;
  checkPresent('kind', kind);
  checkChoice('kind', kind, modelKinds);
  checkPath('output', output, 'a path');
  const to = resolve(output);
  const format = checkedFormat(to, checked);
  const { weights, normalizedTarget } = checked;
  const known = { weights, normalizedTarget };
  if (normalizedTarget !== undefined && kind !== 'mae') {
    throw invalid(`normalizedTarget is for kind 'mae'; a ${kind} predicts no pixels.`);
  }
  const from = resolveModel(input, kind, 'input');
  const { overwrite = false } = checked;
  if (!overwrite) refuseExisting(to);
  outputTarget(to);
  const core = await loadCore({ libtorch });
  if (format === 'safetensors') {
    const { type = 'float32' } = checked;
    const conversion = await runJob(core, checked, (job) =>
      core.convertCheckpoint(job, from, to, { kind, type, overwrite, ...known }),
    );
    return { ...conversion, files: [to] };
  }
  const read = await runJob(core, checked, (job) =>
    core.readWeights(job, from, { kind, ...known }),
  );
  // Only those who ask for ONNX wait for protobuf to load.
  const { writeOnnx } = await import('./onnx/convert.js');
  const { part = 'reconstruct', externalDataAbove = defaultExternalDataAbove, signal } = checked;
  const model = kind === 'mae' ? ({ kind, part } as const) : ({ kind: 'ranker' } as const);
  const written = await writeOnnx(to, model, read, { externalDataAbove, overwrite, signal });
  const { naming, config, notes } = read;
  return { naming, config, notes, ...written };
}

/** The format of `output`, with the options that belong to it checked and those that belong to the other refused. */
function checkedFormat(output: string, options: ConvertOptions): ConversionFormat {
  const { to, kind, type, part, externalDataAbove, overwrite } = options;
  checkChoice('to', to, ['safetensors', 'onnx']);
  checkChoice('type', type, storedTypes);
  checkChoice('part', part, ['reconstruct', 'encoder', 'decoder']);
  checkInteger('externalDataAbove', externalDataAbove, 0, 2_000_000_000);
  checkBoolean('overwrite', overwrite);
  const extension = extname(output);
  const named = extension === '.safetensors' || extension === '.onnx';
  if (to === undefined ? !named : extension !== `.${to}`) {
    const wanted = to === undefined ? '.safetensors or .onnx' : `.${to}`;
    throw invalid(`output must end in ${wanted}, but it is ${cut(output)}.`);
  }
  if (extension === '.safetensors') {
    if (part !== undefined || externalDataAbove !== undefined) {
      throw invalid('part and externalDataAbove are for ONNX models; safetensors hold all of it.');
    }
    return 'safetensors';
  }
  if (type !== undefined && type !== 'float32') {
    throw invalid(`ONNX models are written in float32; type '${type}' is for safetensors.`);
  }
  if (part !== undefined && kind !== 'mae') {
    throw invalid("part is for kind 'mae'; a ranker is exported whole.");
  }
  if (kind !== 'mae' && kind !== 'ranker') {
    throw invalid(`ONNX models are written of kind 'mae' and 'ranker'; a ${kind} is not exported.`);
  }
  return 'onnx';
}
