/** Runs ONNX models with onnxruntime's WebAssembly build: a reader and an arithmetic that are not ours. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as ort from 'onnxruntime-web';
import { isWithin } from './compare.js';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

export interface RunTensor {
  data: Float32Array | Int32Array;
  shape: readonly number[];
}

/** Of a run, by name; integers are given as int64. */
export type Feeds = Record<string, RunTensor>;

export type Outputs = Record<string, { data: Float32Array; shape: number[] }>;

export interface OnnxModel {
  inputs: readonly string[];
  outputs: readonly string[];
  /** Runs once. All models of this project have one output. */
  run(inputs: Feeds): Promise<{ data: Float32Array; shape: number[] }>;
  /** As `run`, with every output. */
  runAll(inputs: Feeds): Promise<Outputs>;
  release(): Promise<void>;
}

/** One at a time: runs of several sessions at once, as tests of a file make them, were seen to lose an output. */
let last: Promise<unknown> = Promise.resolve();
function alone<Result>(work: () => Promise<Result>): Promise<Result> {
  const turn = last.then(work);
  last = turn.catch(() => undefined);
  return turn;
}

/** Opens a model; `files` are what a conversion wrote: the model and, if there is one, its data. */
export async function openOnnx(files: readonly string[]): Promise<OnnxModel> {
  const [model, ...data] = files;
  const bytes = await readFile(model!);
  const externalData = await Promise.all(
    data.map(async (path) => ({ path: basename(path), data: await readFile(path) })),
  );
  const session = await alone(() => ort.InferenceSession.create(bytes, { externalData }));
  const runAll = async (inputs: Feeds): Promise<Outputs> => {
    const feeds = Object.entries(inputs).map(([name, { data: values, shape }]) => [
      name,
      values instanceof Int32Array
        ? new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape)
        : new ort.Tensor('float32', values, shape),
    ]);
    const results = await alone(() => session.run(Object.fromEntries(feeds) as never));
    return Object.fromEntries(
      Object.entries(results).map(([name, { data, dims }]) => [
        name,
        { data: data as Float32Array, shape: [...dims] },
      ]),
    );
  };
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    runAll,
    async run(inputs) {
      const outputs = await runAll(inputs);
      return outputs[session.outputNames[0]!]!;
    },
    release: () => alone(() => session.release()),
  };
}

/** All outputs of a model, of one call. */
export async function runOnnx(path: string, feeds: Feeds): Promise<Outputs> {
  const model = await openOnnx([path]);
  try {
    return await model.runAll(feeds);
  } finally {
    await model.release();
  }
}

/** Expects the same shapes and the same values within 1e-5. */
export function sameOutputs(
  t: ExecutionContext,
  actual: Outputs,
  expected: Outputs,
  what: string,
): void {
  t.deepEqual(Object.keys(actual), Object.keys(expected), what);
  for (const [name, { data, shape }] of Object.entries(expected)) {
    t.deepEqual(actual[name]?.shape, shape, `${what}: ${name}`);
    isWithin(t, actual[name]?.data as Float32Array, data, { absolute: 1e-5 }, `${what}: ${name}`);
  }
}

/** With the type that the model wants; float16 is given as float32. */
export type TypedFeeds = Record<
  string,
  { type: 'float32' | 'float16' | 'int64'; data: Float32Array | BigInt64Array; shape: number[] }
>;

/** Any model, in any of onnxruntime's builds; float16 comes out as float32. */
export interface TypedModel {
  run(feeds: TypedFeeds): Promise<Record<string, Float32Array>>;
  release(): Promise<void>;
}

/** Opens a model and, beside it, its data; in onnxruntime-web by default. */
export async function openTyped(other: typeof ort | undefined, path: string): Promise<TypedModel> {
  const { InferenceSession, Tensor } = other ?? ort;
  const data = `${path}.data`;
  const session = await alone(async () =>
    other === undefined
      ? InferenceSession.create(await readFile(path), {
          externalData: existsSync(data)
            ? [{ path: basename(data), data: await readFile(data) }]
            : [],
        })
      : InferenceSession.create(path),
  );
  return {
    async run(inputs) {
      const feeds = Object.entries(inputs).map(([name, { type, data: values, shape }]) => [
        name,
        type === 'float16'
          ? new Tensor('float16', Uint16Array.from(values as Float32Array, toHalf), shape)
          : new Tensor(type, values as never, shape),
      ]);
      const results = await alone(() => session.run(Object.fromEntries(feeds) as never));
      return Object.fromEntries(
        Object.entries(results).map(([name, { type, data: values }]) => [
          name,
          type === 'float16'
            ? Float32Array.from(halves(values), fromHalf)
            : (values as Float32Array),
        ]),
      );
    },
    release: () => alone(() => session.release()),
  };
}

/** Where the host has Float16Array, the runtime gives it; its bits are the same. */
const halves = (values: unknown): Uint16Array => {
  const { buffer, byteOffset, length } = values as Uint16Array;
  return new Uint16Array(buffer, byteOffset, length);
};

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Cuts digits off, which is exact for numbers that were float16. */
function toHalf(value: number): number {
  float[0] = value;
  const all = bits[0] as number;
  const sign = (all >>> 16) & 0x8000;
  const exponent = ((all >>> 23) & 255) - 112;
  const mantissa = all & 0x7fffff;
  if (exponent > 0) return sign | (exponent << 10) | (mantissa >>> 13);
  return exponent < -10 ? sign : sign | ((mantissa | 0x800000) >>> (14 - exponent));
}

function fromHalf(half: number): number {
  const [exponent, mantissa] = [(half >>> 10) & 31, half & 1023];
  const size = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return half & 0x8000 ? -size : size;
}
