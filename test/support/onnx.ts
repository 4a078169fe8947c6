/** Runs ONNX models with onnxruntime's WebAssembly build: a reader and an arithmetic that are not ours. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import * as ort from 'onnxruntime-web';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

export interface RunTensor {
  data: Float32Array | Int32Array;
  shape: readonly number[];
}

export interface OnnxModel {
  inputs: readonly string[];
  outputs: readonly string[];
  /** Runs once; integers are given as int64. All models of this project have one output. */
  run(inputs: Record<string, RunTensor>): Promise<{ data: Float32Array; shape: number[] }>;
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
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    async run(inputs) {
      const feeds = Object.entries(inputs).map(([name, { data: values, shape }]) => [
        name,
        values instanceof Int32Array
          ? new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape)
          : new ort.Tensor('float32', values, shape),
      ]);
      const results = await alone(() => session.run(Object.fromEntries(feeds) as never));
      const output = results[session.outputNames[0]!]!;
      return { data: output.data as Float32Array, shape: [...output.dims] };
    },
  };
}
