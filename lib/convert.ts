import { resolve } from 'node:path';
import { resolveModel, type ModelKind } from './models.js';
import type { NativeMaeConfig, NativeRankerConfig } from './native/binding.js';
import { runJob } from './native/job.js';
import { loadCore } from './native/loader.js';
import type { JobOptions } from './types.js';
import { checkChoice, checkOptions, checkPresent, checkSource, invalid } from './validation.js';

/** Options of {@link convertCheckpoint}. */
export interface ConvertOptions extends JobOptions {
  /** What the checkpoint holds, or which of its models is wanted. */
  kind: ModelKind;
  /** How weights are stored. Default `'float32'`. */
  type?: 'float32' | 'float16' | 'bfloat16' | undefined;
  /** Folder of the LibTorch to use; it counts for the first load in a process. */
  libtorch?: string | undefined;
}

/** What was read and written. */
export interface Conversion {
  /** Names that the input used: `'ltrp'`, `'official'`, `'ltrp-reference'`, `'hf-hub'`, `'hf-v5'` or `'hf-v5-saved'`. */
  naming: string;
  /** Number of tensors. */
  tensors: number;
  /** Geometry, as it stands in the output's header. */
  config: NativeMaeConfig | NativeRankerConfig;
}

/**
 * Reads a checkpoint of any naming and writes it in this project's layout: safetensors whose header carries architecture,
 * eps and normalisation. The output appears whole or not at all.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_CHECKPOINT_FORMAT`, `ERR_LTRP_CHECKPOINT_CONTENT`,
 *   `ERR_LTRP_FILE_WRITE`, `ERR_LTRP_INVALID_ARGUMENT`.
 */
export async function convertCheckpoint(
  input: string,
  output: string,
  options: ConvertOptions,
): Promise<Conversion> {
  const checked = checkOptions(options);
  const { kind, type = 'float32', libtorch } = checked;
  checkPresent('kind', kind);
  checkChoice('kind', kind, ['mae', 'ranker']);
  checkChoice('type', type, ['float32', 'float16', 'bfloat16']);
  checkSource('output', output);
  const from = resolveModel(input, kind);
  const to = resolve(output);
  if (!to.endsWith('.safetensors'))
    throw invalid(`output must end in .safetensors, but it is ${to}.`);
  const core = loadCore({ libtorch });
  return runJob(core, checked, (job) => core.convertCheckpoint(job, from, to, { kind, type }));
}
