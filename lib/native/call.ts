/** Calls of the core itself, of no loaded model. */
import { types } from 'node:util';
import type { JobOptions } from '../types.js';
import { reading } from '../validation.js';
import type { CoreBinding, NativeJob } from './binding.js';
import { runJob } from './job.js';
import { currentCore, loadCore } from './loader.js';

type Inputs = Readonly<Record<string, Float32Array | Uint8Array | undefined>>;

/**
 * Runs one call of the core, which is loaded first where it is not. `inputs` are read at the call, so that they may be changed
 * or transferred as soon as this has returned: the core copies them when it is called, and where it has to be loaded they are
 * copied here.
 */
export async function callCore<Given extends Inputs, Result>(
  options: JobOptions,
  inputs: Given,
  start: (core: CoreBinding, job: NativeJob, inputs: Given) => Promise<Result>,
): Promise<Result> {
  const core = currentCore();
  if (core !== null) return runJob(core, options, (job) => start(core, job, inputs));
  const copies = copied(inputs);
  const loaded = await loadCore();
  return runJob(loaded, options, (job) => start(loaded, job, copies));
}

/** Copies of arrays, under the same names; what is none is the core's to refuse. */
export function copied<Given extends Inputs>(inputs: Given): Given {
  // Not slice(), which asks the array's class for a new one.
  const copy = (values: unknown): unknown => {
    if (types.isFloat32Array(values)) return new Float32Array(values);
    return types.isUint8Array(values) ? new Uint8Array(values) : values;
  };
  const entries = Object.entries(inputs).map(([name, values]) => [
    name,
    reading(name, () => copy(values)),
  ]);
  return Object.fromEntries(entries) as Given;
}
