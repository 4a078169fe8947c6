/**
 * An ONNX model on disk. Weights go from the core's memory to the file piece by piece, so that writing needs no memory of
 * its own, whatever the model's size.
 */
import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { LtrpError } from '../errors.js';
import { refuseExisting } from '../output-files.js';
import type { Graph, Initializer } from './graph.js';
import {
  dataTypes,
  encodeMessage,
  externalLocation,
  fieldHeader,
  type ModelMessage,
  type TensorMessage,
} from './schema.js';

/** Smaller constants (shapes, biases of heads) stay in the model in any case: runtimes look at them early. */
const smallestExternal = 1024;

/** Tensors in the data file begin at pages, so that runtimes can map them. */
const pageBytes = 4096;

export interface ModelFileOptions {
  /** Weights of more bytes than this in total go to a file of their own, beside the model. */
  externalDataAbove: number;
  /** Whether files that are there may be replaced. */
  overwrite: boolean;
  signal: AbortSignal | undefined;
}

/** Where the weights of the model at `path` go when they are not in it. */
const dataPath = (path: string): string => `${path}.data`;

/** Whether the weights of `graph` need a file of their own. */
function needsDataFile(graph: Graph, externalDataAbove: number): boolean {
  return graph.initializers.reduce((sum, { data }) => sum + data.byteLength, 0) > externalDataAbove;
}

/**
 * Writes a model and, if its weights are large, its data file; returns the paths of both. Each file appears whole or not at
 * all, the data first. Where a pair is replaced, the old model is set aside before and comes back only with its own data: a
 * model never stands beside the data of another.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS`, `ERR_LTRP_FILE_WRITE`; or the signal's reason.
 */
export async function writeModelFile(
  path: string,
  model: ModelMessage,
  graph: Graph,
  { externalDataAbove, overwrite, signal }: ModelFileOptions,
): Promise<string[]> {
  const target = await realpath(path).catch(() => path);
  const external = needsDataFile(graph, externalDataAbove);
  if (!overwrite)
    for (const file of external ? [path, dataPath(path)] : [path]) refuseExisting(file);
  const parts: PartialFile[] = [];
  let aside: string | undefined;
  try {
    let tensors = graph.initializers.map((initializer) => embedded(initializer));
    if (external) {
      const data = new PartialFile(dataPath(target));
      parts.push(data);
      tensors = await writeDataFile(data, graph, signal);
    }
    const file = new PartialFile(target);
    parts.push(file);
    await writeModel(file, model, graph, tensors, signal);
    signal?.throwIfAborted();
    if (external) aside = await setAside(target);
    for (const part of parts) await part.finish();
  } catch (cause) {
    for (const part of parts) await part.discard();
    if (aside !== undefined && parts[0]?.finished === false) await rename(aside, target);
    if (signal?.aborted === true) throw signal.reason;
    if (!(cause instanceof Error && 'errno' in cause)) throw cause;
    throw new LtrpError('ERR_LTRP_FILE_WRITE', `${path} cannot be written: ${cause.message}.`, {
      cause,
    });
  }
  if (aside !== undefined) await rm(aside, { force: true });
  return external ? [path, dataPath(path)] : [path];
}

/** A constant as it stands in the model: its description and, unless they are elsewhere, its bytes. */
interface StoredTensor {
  message: TensorMessage;
  bytes: Uint8Array | undefined;
}

function bytesOf({ data }: Initializer): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function describe({ name, type, dims }: Initializer): TensorMessage {
  return { name, data_type: dataTypes[type], dims: [...dims] };
}

function embedded(initializer: Initializer): StoredTensor {
  return { message: describe(initializer), bytes: bytesOf(initializer) };
}

async function writeDataFile(
  file: PartialFile,
  graph: Graph,
  signal: AbortSignal | undefined,
): Promise<StoredTensor[]> {
  await file.open();
  const stored: StoredTensor[] = [];
  for (const initializer of graph.initializers) {
    signal?.throwIfAborted();
    const bytes = bytesOf(initializer);
    if (bytes.length < smallestExternal) {
      stored.push(embedded(initializer));
      continue;
    }
    await file.write(new Uint8Array((pageBytes - (file.size % pageBytes)) % pageBytes));
    const place = { location: basename(file.path), offset: file.size, length: bytes.length };
    await file.write(bytes);
    stored.push({
      message: {
        ...describe(initializer),
        data_location: externalLocation,
        external_data: Object.entries(place).map(([key, value]) => ({ key, value: String(value) })),
      },
      bytes: undefined,
    });
  }
  return stored;
}

/**
 * ModelProto { …, graph: GraphProto { …, initializer: TensorProto { …, raw_data }, … } }: what is nested carries its length in
 * front, so all lengths are known before the first weight is written.
 */
async function writeModel(
  file: PartialFile,
  model: ModelMessage,
  { name, nodes: node, inputs: input, outputs: output }: Graph,
  tensors: readonly StoredTensor[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const pieces = tensors.flatMap(({ message, bytes }) => {
    const description = encodeMessage('TensorProto', message);
    if (bytes === undefined) {
      return [fieldHeader('GraphProto', 'initializer', description.length), description];
    }
    const header = fieldHeader('TensorProto', 'raw_data', bytes.length);
    const length = description.length + header.length + bytes.length;
    return [fieldHeader('GraphProto', 'initializer', length), description, header, bytes];
  });
  const graph = encodeMessage('GraphProto', { name, node, input, output });
  const graphLength = pieces.reduce((sum, piece) => sum + piece.length, graph.length);
  await file.open();
  await file.write(encodeMessage('ModelProto', model));
  await file.write(fieldHeader('ModelProto', 'graph', graphLength));
  await file.write(graph);
  for (const piece of pieces) {
    signal?.throwIfAborted();
    await file.write(piece);
  }
}

/** Takes the file at `path` out of the way; its new name, or undefined where there is none. */
async function setAside(path: string): Promise<string | undefined> {
  const aside = temporaryName(path);
  try {
    await rename(path, aside);
    return aside;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

function temporaryName(path: string): string {
  return `${path}.${randomBytes(4).toString('hex')}.partial`;
}

/** A file under a temporary name in the folder of the final one. */
class PartialFile {
  readonly path: string;
  readonly #partial: string;
  #handle: FileHandle | undefined;
  size = 0;
  /** Whether the file has its name. */
  finished = false;

  constructor(path: string) {
    this.path = path;
    this.#partial = temporaryName(path);
  }

  async open(): Promise<void> {
    this.#handle = await open(this.#partial, 'wx');
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    await this.#handle?.writeFile(bytes);
    this.size += bytes.length;
  }

  /** Gives the file its name once its content, and then its name, are on the disk. */
  async finish(): Promise<void> {
    await this.#handle?.sync();
    await this.#handle?.close();
    this.#handle = undefined;
    await rename(this.#partial, this.path);
    this.finished = true;
    // File systems that cannot sync a folder are left alone.
    const folder = await open(dirname(this.path)).catch(() => undefined);
    await folder?.sync().catch(() => undefined);
    await folder?.close();
  }

  async discard(): Promise<void> {
    await this.#handle?.close().catch(() => undefined);
    this.#handle = undefined;
    await rm(this.#partial, { force: true }).catch(() => undefined);
  }
}
