/**
 * An ONNX model on disk. Weights go from the core's memory to the file piece by piece, so that writing needs no memory of
 * its own, whatever the model's size.
 */
import { basename } from 'node:path';
import { outputTarget, refuseExisting } from '../output-files.js';
import type { Graph, Initializer } from './graph.js';
import { writeTogether, type PartialFile } from './partial-file.js';
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
 * Writes a model and, if its weights are large, its data file; returns the paths of both. They appear together, as
 * {@link writeTogether} says.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS`, `ERR_LTRP_FILE_WRITE`; or the signal's reason.
 */
export async function writeModelFile(
  path: string,
  model: ModelMessage,
  graph: Graph,
  { externalDataAbove, overwrite, signal }: ModelFileOptions,
): Promise<string[]> {
  const target = outputTarget(path);
  const external = needsDataFile(graph, externalDataAbove);
  const files = external ? [path, dataPath(path)] : [path];
  if (!overwrite) files.forEach(refuseExisting);
  if (external) outputTarget(dataPath(target));
  const targets = external ? [dataPath(target), target] : [target];
  await writeTogether(path, targets, { overwrite, signal }, async (parts) => {
    const [first, second] = parts as [PartialFile, PartialFile?];
    const tensors =
      second === undefined
        ? graph.initializers.map(embedded)
        : await writeDataFile(first, graph, signal);
    await writeModel(second ?? first, model, graph, tensors, signal);
  });
  return files;
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
    await file.write(bytes, signal);
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
    await file.write(piece, signal);
  }
}
