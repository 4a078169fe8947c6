/**
 * The part of ONNX's protobuf schema that our models use, or that is looked at in models of others. Names and numbers are those of
 * onnx.proto, the format's definition. What is not listed is never written, and is kept where a message is read and written again.
 */
import protobuf from 'protobufjs';

const text = `
syntax = "proto3";
package onnx;

message ModelProto {
  int64 ir_version = 1;
  string producer_name = 2;
  string producer_version = 3;
  string doc_string = 6;
  GraphProto graph = 7;
  repeated OperatorSetIdProto opset_import = 8;
  repeated StringStringEntryProto metadata_props = 14;
  repeated FunctionProto functions = 25;
}
message FunctionProto {
  string name = 1;
  repeated string input = 4;
  repeated string output = 5;
  repeated string attribute = 6;
  repeated NodeProto node = 7;
  repeated OperatorSetIdProto opset_import = 9;
  string domain = 10;
  repeated AttributeProto attribute_proto = 11;
  string overload = 13;
}
message OperatorSetIdProto {
  string domain = 1;
  int64 version = 2;
}
message GraphProto {
  repeated NodeProto node = 1;
  string name = 2;
  repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11;
  repeated ValueInfoProto output = 12;
  repeated ValueInfoProto value_info = 13;
}
message NodeProto {
  repeated string input = 1;
  repeated string output = 2;
  string name = 3;
  string op_type = 4;
  repeated AttributeProto attribute = 5;
  string domain = 7;
  string overload = 8;
}
message AttributeProto {
  string name = 1;
  float f = 2;
  int64 i = 3;
  bytes s = 4;
  TensorProto t = 5;
  GraphProto g = 6;
  repeated float floats = 7;
  repeated int64 ints = 8;
  int32 type = 20;
  string ref_attr_name = 21;
}
message TensorProto {
  repeated int64 dims = 1;
  int32 data_type = 2;
  repeated float float_data = 4;
  repeated int32 int32_data = 5;
  repeated int64 int64_data = 7;
  string name = 8;
  bytes raw_data = 9;
  repeated StringStringEntryProto external_data = 13;
  int32 data_location = 14;
}
message StringStringEntryProto {
  string key = 1;
  string value = 2;
}
message ValueInfoProto {
  string name = 1;
  TypeProto type = 2;
  string doc_string = 3;
}
message TypeProto {
  message Tensor {
    int32 elem_type = 1;
    TensorShapeProto shape = 2;
  }
  oneof value {
    Tensor tensor_type = 1;
  }
}
message TensorShapeProto {
  message Dimension {
    oneof value {
      int64 dim_value = 1;
      string dim_param = 2;
    }
  }
  repeated Dimension dim = 1;
}
`;

const root = protobuf.parse(text, { keepCase: true }).root;

/** ModelProto; the types of the messages inside it are reached by {@link encodeMessage} too. */
export const modelType = root.lookupType('onnx.ModelProto');

/** TensorProto.DataType. */
export const dataTypes = { float32: 1, int64: 7 } as const;
export type DataType = keyof typeof dataTypes;

/** AttributeProto.AttributeType. */
export const attributeTypes = { float: 1, int: 2, ints: 7 } as const;

/** TensorProto.DataLocation. */
export const externalLocation = 1;

export interface StringPair {
  key: string;
  value: string;
}

export interface TensorMessage {
  dims: number[];
  data_type: number;
  name: string;
  raw_data?: Uint8Array;
  external_data?: StringPair[];
  data_location?: number;
}

export interface AttributeMessage {
  name: string;
  type: number;
  f?: number;
  i?: number;
  ints?: number[];
}

export interface NodeMessage {
  input: string[];
  output: string[];
  name: string;
  op_type: string;
  attribute: AttributeMessage[];
}

export interface ValueInfoMessage {
  name: string;
  doc_string: string;
  type: {
    tensor_type: {
      elem_type: number;
      shape: { dim: ({ dim_value: number } | { dim_param: string })[] };
    };
  };
}

export interface ModelMessage {
  ir_version: number;
  producer_name: string;
  producer_version: string;
  doc_string: string;
  opset_import: { domain: string; version: number }[];
  metadata_props: StringPair[];
}

/** The bytes of one message of the schema. */
export function encodeMessage(
  type:
    | 'ModelProto'
    | 'GraphProto'
    | 'NodeProto'
    | 'TensorProto'
    | 'ValueInfoProto'
    | 'StringStringEntryProto'
    | 'OperatorSetIdProto',
  message: object,
): Uint8Array {
  return root.lookupType(`onnx.${type}`).encode(message).finish();
}

/**
 * What precedes a length-delimited field whose content follows elsewhere: its tag and its length. With it a model is written
 * piece by piece instead of being assembled in memory.
 */
export function fieldHeader(type: string, field: string, length: number): Uint8Array {
  const found = root.lookupType(`onnx.${type}`).fields[field];
  if (found === undefined) throw new Error(`${type} has no field ${field}.`);
  const lengthDelimited = 2;
  return protobuf.Writer.create()
    .uint32((found.id << 3) | lengthDelimited)
    .uint64(length)
    .finish();
}
