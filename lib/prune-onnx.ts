import { basename, dirname, join, resolve } from 'node:path';
import { stat } from 'node:fs/promises';
import { cut } from './described.js';
import { notFound } from './errors.js';
import { outputTarget, refuseExisting } from './output-files.js';
import { writeTogether } from './onnx/partial-file.js';
import type { CutModel } from './prune/index.js';
import { dataFileNames, StoredModel } from './prune/model.js';
import { words } from './types.js';
import { checkBoolean, checkChoice, checkOptions, checkPath, invalid } from './validation.js';

/** Options of {@link pruneOnnx}. */
export interface PruneOptions {
  /** Name of the new input. Default `'keep'`. */
  idsName?: string | undefined;
  /**
   * What the names of files with weights end in, behind the model's name: `'.data'` as PyTorch writes it, `'_data'` as transformers.js looks
   * for it. Further files get `_1`, `_2`. Default: as at the input.
   */
  dataSuffix?: DataSuffix | undefined;
  /** Replace files that are there. Default false: that is refused. */
  overwrite?: boolean | undefined;
  /** Cancels the call, which then rejects with the signal's reason; nothing is written. Default: none. */
  signal?: AbortSignal | undefined;
}

export const dataSuffixes = ['.data', '_data'] as const;
type DataSuffix = (typeof dataSuffixes)[number];

const pruneKeys = words<keyof PruneOptions>()('idsName dataSuffix overwrite signal');

/** What {@link pruneOnnx} found and wrote. */
export interface PrunedOnnx {
  /** Name of the input that takes the ids. */
  idsName: string;
  /** Patches of one picture; null if the model takes pictures of any size. */
  patches: number | null;
  /** Tokens in front of the patches where these are taken (class, register, distillation), and behind them. All of them stay. */
  otherTokens: readonly [before: number, after: number];
  /** The tensor that holds only the kept tokens from there on, by its name in the graph. */
  cutAt: string;
  /** What else changed, in sentences. */
  notes: string[];
  /** Absolute paths of what was written: the model, then files of its weights. */
  files: string[];
}

/**
 * Rewrites a vision transformer in ONNX so that it computes with some of its patches only. The new model has one more input, int64
 * `[images, K]`. It holds for each picture the ids of the patches to keep, 0 to L - 1 in raster order of the patch grid. K is at
 * least 1, and each run chooses it. The patches are taken once positions are added; class, register and distillation tokens stay. The order of the
 * ids is the order of the tokens that come out. Ids below 0 or beyond the grid, and another number of rows than there are pictures, are
 * errors of the run. An id that comes twice is computed twice.
 *
 * Tables that join later (rotary positions, relative biases) are cut with the same ids, and sizes that count tokens follow K. Means over
 * patches are means over the kept ones. A graph that needs all patches, or that has an operator on them that is not known here, is
 * refused with the name of the node. Nothing is run, and weights are not read: files outside the model (ONNX external data) are copied
 * beside the output, under names that follow its name.
 *
 * @param input - path of the model; operator set 11 or newer.
 * @param output - path of the new model, ending in `.onnx`.
 * @throws {LtrpError} `ERR_LTRP_UNSUPPORTED` (refused; the message names the node), `ERR_LTRP_CHECKPOINT_FORMAT` (no ONNX model),
 *   `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_FILE_READ`, `ERR_LTRP_FILE_EXISTS`, `ERR_LTRP_FILE_WRITE`, `ERR_LTRP_INVALID_ARGUMENT`; or
 *   the signal's reason.
 *
 * @example
 * ```ts
 * const { patches } = await pruneOnnx('model.onnx', 'model-keep.onnx');
 * ```
 */
export async function pruneOnnx(
  input: string,
  output: string,
  options?: PruneOptions,
): Promise<PrunedOnnx> {
  const checked = checkOptions(options, pruneKeys);
  const { idsName = 'keep', dataSuffix, overwrite = false, signal } = checked;
  checkPath('input', input, 'a path');
  checkPath('output', output, 'a path');
  checkBoolean('overwrite', overwrite);
  checkChoice('dataSuffix', dataSuffix, dataSuffixes);
  // A name is stored as UTF-8, which has no halves of surrogate pairs.
  if (typeof idsName !== 'string' || idsName === '' || /\p{Surrogate}/u.test(idsName))
    throw invalid('idsName must be a name.');
  if (!output.endsWith('.onnx'))
    throw invalid(`output must end in .onnx, but it is ${cut(output)}.`);
  const [from, to] = [resolve(input), outputTarget(output)];
  signal?.throwIfAborted();
  const model = await StoredModel.read(from);
  // Only those who prune wait for the rules to load.
  const { cutModel } = await import('./prune/index.js');
  const graph = cutModel(model, idsName);
  const files = await write(model, graph, { from, to, idsName, dataSuffix, overwrite, signal });
  const { patches = null, others, tensor, notes } = graph;
  return { idsName, patches, otherTokens: others, cutAt: tensor, notes, files };
}

interface Writing {
  from: string;
  to: string;
  idsName: string;
  dataSuffix: DataSuffix | undefined;
  overwrite: boolean;
  signal: AbortSignal | undefined;
}

/** Writes the model and copies its weights. */
async function write(model: StoredModel, cut: CutModel, writing: Writing): Promise<string[]> {
  const { from, to, overwrite, signal } = writing;
  const located = dataFileNames(from, to, model.dataFiles, writing.dataSuffix);
  const data = model.dataFiles.map(({ location, path }) => ({
    path,
    to: join(dirname(to), located.get(location) ?? basename(location)),
  }));
  const files = [to, ...data.map((each) => each.to)];
  if (!overwrite) files.forEach(refuseExisting);
  for (const each of [from, ...data.map(({ path }) => path)]) {
    if (files.includes(each))
      throw invalid('The output must be another file than the input and its weights.');
  }
  const targets = [...data.map((each) => outputTarget(each.to)), to];
  await writeTogether(to, targets, { overwrite, signal }, async (parts) => {
    for (const [index, { path }] of data.entries()) {
      signal?.throwIfAborted();
      await parts[index]?.copy(await existing(path, from));
    }
    const part = parts.at(-1);
    await part?.open();
    const metadata = [
      { key: 'ltrp.prune', value: JSON.stringify({ ids: writing.idsName, patches: cut.patches }) },
    ];
    for (const piece of model.bytes(cut.constants, cut.reads, located, metadata))
      await part?.write(piece, signal);
  });
  return files;
}

async function existing(path: string, model: string): Promise<string> {
  if (
    await stat(path).then(
      (info) => info.isFile(),
      () => false,
    )
  )
    return path;
  throw notFound(`${model} keeps weights in ${path}, which is not there.`);
}
