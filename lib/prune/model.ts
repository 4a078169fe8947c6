/** An ONNX model on disk, read in part: weights stay where they are. */
import { closeSync, openSync, readSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, normalize } from 'node:path';
import { LtrpError, messageOf, notFound, readError } from '../errors.js';
import { encodeMessage, fieldHeader } from '../onnx/schema.js';
import {
  copyOf,
  decodeMessage,
  fieldId,
  fieldsOf,
  toNumber,
  type StoredField,
  type StoredFunction,
  type StoredNode,
  type StoredOperatorSet,
  type StoredTensor,
  type StoredValueInfo,
} from '../onnx/stored.js';
import { writeOut } from './functions.js';
import { constantOf, type Constant, type Entry } from './graph.js';

const modelField = (name: string): number => fieldId('ModelProto', name);
const graphField = (name: string): number => fieldId('GraphProto', name);

/** GraphProto.value_info: shapes that the exporter wrote down, wrong for a graph that is cut. */
const valueInfo = 13;

/** Shapes are small; what is read of them from outside is too. */
const mostRead = 1 << 16;

interface Weight {
  name: string;
  bytes: Uint8Array;
  tensor: StoredTensor;
}

export interface DataFile {
  /** As the model names it. */
  location: string;
  path: string;
}

export class StoredModel {
  readonly opset: number;
  entries: Entry[];
  inputs: StoredValueInfo[];
  outputs: StoredValueInfo[];
  readonly dataFiles: readonly DataFile[];
  readonly #fields: readonly StoredField[];
  readonly #graphFields: readonly StoredField[];
  readonly #weights: readonly Weight[];
  /** Operator sets that only functions name, whose nodes are the model's own now. */
  readonly #addedSets: StoredOperatorSet[] = [];

  private constructor(
    readonly path: string,
    bytes: Uint8Array,
  ) {
    this.#fields = fieldsOf(bytes);
    const graphs = this.#fields.filter(({ id }) => id === modelField('graph'));
    const [graph] = graphs;
    if (graph === undefined || graphs.length > 1) throw new Error('it has no graph');
    this.#graphFields = fieldsOf(graph.content);
    const of = (name: string): StoredField[] =>
      this.#graphFields.filter(({ id }) => id === graphField(name));
    const functions = this.#fields
      .filter(({ id }) => id === modelField('functions'))
      .map(({ content }): StoredFunction => decodeMessage('FunctionProto', content));
    const entries = of('node').map(({ content }): Entry => ({
      node: decodeMessage('NodeProto', content),
      raw: content,
    }));
    this.entries = functions.length === 0 ? entries : writeOut(entries, functions);
    this.inputs = of('input').map(({ content }) => decodeMessage('ValueInfoProto', content));
    this.outputs = of('output').map(({ content }) => decodeMessage('ValueInfoProto', content));
    this.#weights = of('initializer').map(({ content }) => {
      const tensor = decodeMessage('TensorProto', content);
      return { name: tensor.name, bytes: content, tensor };
    });
    const sets = this.#fields
      .filter(({ id }) => id === modelField('opset_import'))
      .map(({ content }) => decodeMessage('OperatorSetIdProto', content));
    for (const each of functions.flatMap(({ opset_import }) => opset_import)) {
      if (sets.some(({ domain }) => domain === each.domain)) continue;
      sets.push(each);
      this.#addedSets.push(each);
    }
    const own = sets.find(({ domain }) => domain === '' || domain === 'ai.onnx');
    this.opset = own === undefined ? 0 : toNumber(own.version);
    const inside = this.entries.flatMap(({ node }) => tensorsIn(node));
    const locations = [...this.#weights.map(({ tensor }) => tensor), ...inside].map(locationOf);
    this.dataFiles = [...new Set(locations)]
      .filter((location) => location !== undefined)
      .map((location) => ({ location, path: this.#beside(location) }));
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_FILE_READ`, `ERR_LTRP_CHECKPOINT_FORMAT`. */
  static async read(path: string): Promise<StoredModel> {
    const bytes = await readFile(path).catch((cause: unknown) => {
      const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw isMissing ? notFound(`There is no file ${path}.`, cause) : readError(path, cause);
    });
    try {
      return new StoredModel(path, bytes);
    } catch (cause) {
      if (cause instanceof LtrpError) throw cause;
      const why = messageOf(cause);
      throw new LtrpError('ERR_LTRP_CHECKPOINT_FORMAT', `${path} is no ONNX model: ${why}.`, {
        cause,
      });
    }
  }

  /** Constants by name. */
  get constants(): ReadonlyMap<string, () => Constant> {
    return new Map(
      this.#weights.map(({ name, tensor }) => [name, () => constantOf(tensor, this.outside)]),
    );
  }

  /** Every name that the model uses for a tensor, in branches too. */
  get names(): Set<string> {
    const names = new Set(
      [...this.inputs, ...this.outputs, ...this.#weights].map(({ name }) => name),
    );
    const add = (nodes: readonly Entry['node'][]): void => {
      for (const { input, output, attribute } of nodes) {
        for (const name of [...input, ...output]) names.add(name);
        for (const { g } of attribute) {
          if (g == null) continue;
          for (const { name } of g.initializer) names.add(name);
          add(g.node);
        }
      }
    };
    add(this.entries.map(({ node }) => node));
    return names;
  }

  /**
   * The bytes of the model with its nodes, inputs and outputs as they are now. Constants that no node reads are left out; new ones
   * come last. Functions stay, as branches may call them. `located` gives the new names of data files, `metadata` is added to the model's.
   */
  *bytes(
    added: readonly StoredTensor[],
    reads: ReadonlySet<string>,
    located: ReadonlyMap<string, string>,
    metadata: readonly { key: string; value: string }[],
  ): Generator<Uint8Array> {
    const pieces: Uint8Array[] = [];
    const put = (field: string, content: Uint8Array): void => {
      pieces.push(fieldHeader('GraphProto', field, content.length), content);
    };
    for (const { node, raw } of this.entries) {
      const changed = relocatedNode(node, located);
      const bytes = changed === node ? raw : undefined;
      put('node', bytes ?? encodeMessage('NodeProto', changed));
    }
    for (const { name, bytes, tensor } of this.#weights) {
      if (!reads.has(name)) continue;
      const changed = relocated(tensor, located);
      put('initializer', changed === tensor ? bytes : encodeMessage('TensorProto', changed));
    }
    for (const tensor of added)
      if (reads.has(tensor.name)) put('initializer', encodeMessage('TensorProto', tensor));
    for (const info of this.inputs) put('input', encodeMessage('ValueInfoProto', info));
    for (const info of this.outputs) put('output', encodeMessage('ValueInfoProto', info));
    const written = new Set(['node', 'initializer', 'input', 'output'].map(graphField)).add(
      valueInfo,
    );
    pieces.push(...this.#graphFields.filter(({ id }) => !written.has(id)).map(({ raw }) => raw));
    for (const { id, raw } of this.#fields) {
      if (id !== modelField('graph')) {
        yield raw;
        continue;
      }
      yield fieldHeader(
        'ModelProto',
        'graph',
        pieces.reduce((sum, piece) => sum + piece.length, 0),
      );
      yield* pieces;
    }
    for (const set of this.#addedSets) {
      const content = encodeMessage('OperatorSetIdProto', set);
      yield fieldHeader('ModelProto', 'opset_import', content.length);
      yield content;
    }
    for (const entry of metadata) {
      const content = encodeMessage('StringStringEntryProto', entry);
      yield fieldHeader('ModelProto', 'metadata_props', content.length);
      yield content;
    }
  }

  /** @throws {LtrpError} for a place outside the model's folder. */
  #beside(location: string): string {
    const clean = normalize(location);
    if (isAbsolute(clean) || clean.startsWith('..')) {
      throw new LtrpError(
        'ERR_LTRP_CHECKPOINT_FORMAT',
        `${this.path} keeps weights in '${location}', outside its own folder; that is not followed.`,
      );
    }
    return join(dirname(this.path), clean);
  }

  /** The bytes of a small tensor that lies outside the model. */
  readonly outside = (tensor: StoredTensor, length: number): Uint8Array | undefined => {
    const location = locationOf(tensor);
    if (location === undefined || length > mostRead) return undefined;
    const offset = tensor.external_data.find(({ key }) => key === 'offset')?.value ?? '0';
    const path = this.#beside(location);
    try {
      const file = openSync(path, 'r');
      try {
        const bytes = new Uint8Array(length);
        return readSync(file, bytes, 0, length, BigInt(offset)) === length ? bytes : undefined;
      } finally {
        closeSync(file);
      }
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw readError(path, cause);
      throw notFound(`${this.path} keeps weights in ${path}, which is not there.`, cause);
    }
  };
}

/** Tensors in a node: constants, and those of its branches. */
function tensorsIn(node: StoredNode): StoredTensor[] {
  return node.attribute.flatMap(({ t, g }) => [
    ...(t == null ? [] : [t]),
    ...(g == null ? [] : [...g.initializer, ...g.node.flatMap(tensorsIn)]),
  ]);
}

function locationOf({ external_data, data_location }: StoredTensor): string | undefined {
  return data_location === 1
    ? external_data.find(({ key }) => key === 'location')?.value
    : undefined;
}

/** The tensor with the new name of its file; itself where that is the old one. */
function relocated(tensor: StoredTensor, located: ReadonlyMap<string, string>): StoredTensor {
  const location = locationOf(tensor);
  const value = location === undefined ? undefined : located.get(location);
  if (value === undefined || value === location) return tensor;
  const external_data = tensor.external_data.map((each) =>
    each.key === 'location' ? { key: each.key, value } : each,
  );
  return copyOf(tensor, { external_data });
}

/** The node with the new names of the files of tensors in it; itself where there are none. */
function relocatedNode(node: StoredNode, located: ReadonlyMap<string, string>): StoredNode {
  if (tensorsIn(node).every((tensor) => relocated(tensor, located) === tensor)) return node;
  const attribute = node.attribute.map((each) =>
    copyOf(each, {
      t: each.t == null ? null : relocated(each.t, located),
      g:
        each.g == null
          ? null
          : copyOf(each.g, {
              initializer: each.g.initializer.map((tensor) => relocated(tensor, located)),
              node: each.g.node.map((inner) => relocatedNode(inner, located)),
            }),
    }),
  );
  return copyOf(node, { attribute });
}

/**
 * Names of the data files of a model that is written to `output`, by their names in the model at `input`: what follows the
 * model's name stays (`.data`, `_data`), so that loaders that guess the name still find it; or `suffix` is that, and `_1`, `_2` for more.
 */
export function dataFileNames(
  input: string,
  output: string,
  files: readonly DataFile[],
  suffix?: string,
): Map<string, string> {
  const [from, to] = [basename(input), basename(output)];
  const [fromStem, toStem] = [from, to].map((name) => name.replace(/\.onnx$/, '')) as [
    string,
    string,
  ];
  const taken = new Set<string>();
  return new Map(
    files.map(({ location }, index) => {
      if (suffix !== undefined)
        return [location, `${to}${suffix}${index === 0 ? '' : `_${index}`}`];
      const name = basename(location);
      const wanted = name.startsWith(from)
        ? to + name.slice(from.length)
        : name.startsWith(fromStem)
          ? toStem + name.slice(fromStem.length)
          : `${to}.data`;
      let free = wanted;
      for (let number = 1; taken.has(free); number++) free = `${wanted}.${number}`;
      taken.add(free);
      return [location, free];
    }),
  );
}
