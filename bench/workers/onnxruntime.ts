/** onnxruntime-node (native) and onnxruntime-web (WebAssembly). */
import { readFile } from 'node:fs/promises';
import { servePeer } from './peer.js';

/** What both packages have and this uses. Their own types are not there until the benchmark installs them. */
interface OrtTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}
interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
}
interface Ort {
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OrtTensor;
  InferenceSession: {
    create(model: string | Uint8Array, options: Record<string, unknown>): Promise<OrtSession>;
  };
  env: { versions: Record<string, string | undefined>; wasm: { numThreads?: number } };
}

const isWeb = process.argv[2] === 'web';
const backend = isWeb ? 'onnxruntime-web' : 'onnxruntime-node';
let ort: Ort;
let threads = 1;

await servePeer({
  async hello(count) {
    threads = count;
    const loaded = (await import(backend)) as { default?: Ort } & Ort;
    ort = loaded.default ?? loaded;
    // The WebAssembly build reads this before its first session and starts its threads then.
    if (isWeb) ort.env.wasm.numThreads = threads;
    const { node, web, common } = ort.env.versions;
    const version = node ?? web ?? common ?? 'unknown';
    return { name: backend, versions: { [backend]: version }, features: [] };
  },

  async load(_kind, path) {
    const model = await ort.InferenceSession.create(isWeb ? await readFile(path) : path, {
      executionProviders: [isWeb ? 'wasm' : 'cpu'],
      graphOptimizationLevel: 'all',
      ...(!isWeb && {
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
      }),
    });
    const [inputName = '', outputName = ''] = [model.inputNames[0], model.outputNames[0]];
    return async ({ data, shape }) => {
      const results = await model.run({ [inputName]: new ort.Tensor('float32', data, shape) });
      const output = results[outputName];
      if (output === undefined) throw new Error(`The graph has no output ${outputName}.`);
      return { data: output.data, shape: output.dims };
    };
  },
});
