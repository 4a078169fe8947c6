/** ONNX models of others: what is not looked at stays as the bytes that it is. */
import protobuf from 'protobufjs';
import { modelType, type StringPair } from './schema.js';

/** 64-bit integers as protobufjs gives them. */
export type Integer = number | { toNumber(): number };

export interface StoredTensor {
  dims: Integer[];
  data_type: number;
  name: string;
  raw_data: Uint8Array;
  float_data: number[];
  int32_data: number[];
  int64_data: Integer[];
  external_data: StringPair[];
  data_location: number;
}

export interface StoredAttribute {
  name: string;
  type: number;
  f: number;
  i: Integer;
  s: Uint8Array;
  t?: StoredTensor | null;
  g?: StoredGraph | null;
  floats: number[];
  ints: Integer[];
  ref_attr_name: string;
}

export interface StoredNode {
  input: string[];
  output: string[];
  name: string;
  op_type: string;
  attribute: StoredAttribute[];
  domain: string;
  overload: string;
}

export interface StoredValueInfo {
  name: string;
  type?: {
    tensor_type?: {
      elem_type: number;
      shape?: { dim: { dim_value?: Integer; dim_param?: string }[] } | null;
    } | null;
  } | null;
}

/** A graph inside a node, decoded whole. */
export interface StoredGraph {
  node: StoredNode[];
  name: string;
  initializer: StoredTensor[];
  input: StoredValueInfo[];
  output: StoredValueInfo[];
  value_info: StoredValueInfo[];
}

export interface StoredFunction {
  name: string;
  input: string[];
  output: string[];
  attribute: string[];
  node: StoredNode[];
  domain: string;
  opset_import: StoredOperatorSet[];
  attribute_proto: StoredAttribute[];
  overload: string;
}

export interface StoredOperatorSet {
  domain: string;
  version: Integer;
}

interface MessageTypes {
  NodeProto: StoredNode;
  TensorProto: StoredTensor;
  ValueInfoProto: StoredValueInfo;
  FunctionProto: StoredFunction;
  OperatorSetIdProto: StoredOperatorSet;
}

/** Reads one message; fields that the schema lacks are kept, and written again with it. */
export function decodeMessage<Name extends keyof MessageTypes>(
  type: Name,
  bytes: Uint8Array,
): MessageTypes[Name] {
  const reader = protobuf.Reader.create(bytes);
  reader.discardUnknown = false;
  return modelType.root.lookupType(`onnx.${type}`).decode(reader) as never;
}

/** A field of a message as it stands in the file. */
export interface StoredField {
  id: number;
  /** Tag, length and content. */
  raw: Uint8Array;
  /** Of length-delimited fields. */
  content: Uint8Array;
}

const lengthDelimited = 2;

/** The fields of a message in their order, as views on its bytes. */
export function fieldsOf(bytes: Uint8Array): StoredField[] {
  const reader = protobuf.Reader.create(bytes);
  const fields: StoredField[] = [];
  while (reader.pos < reader.len) {
    const begin = reader.pos;
    const tag = reader.uint32();
    let content = new Uint8Array();
    if ((tag & 7) === lengthDelimited) {
      const length = reader.uint32();
      content = bytes.subarray(reader.pos, reader.pos + length) as typeof content;
      reader.skip(length);
    } else {
      reader.skipType(tag & 7);
    }
    fields.push({ id: tag >>> 3, raw: bytes.subarray(begin, reader.pos), content });
  }
  return fields;
}

/** The id of a field of a message of the schema. */
export function fieldId(type: string, field: string): number {
  const found = modelType.root.lookupType(`onnx.${type}`).fields[field];
  if (found === undefined) throw new Error(`${type} has no field ${field}.`);
  return found.id;
}

export const toNumber = (value: Integer): number =>
  typeof value === 'number' ? value : value.toNumber();

/** A copy of a decoded message with some fields changed; fields that it lacks still come from its prototype. */
export function copyOf<Message extends object>(
  message: Message,
  changes: Partial<Message>,
): Message {
  const copy = Object.create(Object.getPrototypeOf(message) as object) as Message;
  return Object.assign(copy, message, changes);
}
