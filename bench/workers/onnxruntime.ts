/** onnxruntime-node (native) and onnxruntime-web (WebAssembly), on the graphs of `ltrp convert --to onnx`. */
import { readFile } from 'node:fs/promises';
import { scoreWith, type Inputs } from './decoding.js';
import { integer, rows, serve, timed, UnsupportedError, type Request } from './serve.js';
import { readTensor, type Tensor, type TensorFile } from './tensors.js';

/** What both packages have and this uses. Their own types are not there until the benchmark installs them. */
interface OrtTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}
interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}
interface Ort {
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OrtTensor;
  InferenceSession: {
    create(model: string | Uint8Array, options: Record<string, unknown>): Promise<OrtSession>;
  };
  env: { versions: Record<string, string | undefined>; wasm: { numThreads?: number } };
}

const backend = process.argv[2] === 'web' ? 'onnxruntime-web' : 'onnxruntime-node';
let ort: Ort | undefined;
let threads = 1;
let decoder: OrtSession | undefined;
let ranker: OrtSession | undefined;
let inputs: Inputs | undefined;
let images: Tensor | undefined;

async function library(): Promise<Ort> {
  const loaded = (await import(backend)) as { default?: Ort } & Ort;
  return loaded.default ?? loaded;
}

async function session(path: unknown): Promise<OrtSession | undefined> {
  if (typeof path !== 'string' || ort === undefined) return undefined;
  if (backend === 'onnxruntime-web') {
    return ort.InferenceSession.create(await readFile(path), {
      executionProviders: ['wasm'],
      graphOptimizationLevel: 'all',
    });
  }
  return ort.InferenceSession.create(path, {
    executionProviders: ['cpu'],
    graphOptimizationLevel: 'all',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
  });
}

async function run(model: OrtSession | undefined, input: Tensor): Promise<Tensor> {
  if (model === undefined || ort === undefined)
    throw new UnsupportedError('There is no ONNX graph.');
  const [inputName = '', outputName = ''] = [model.inputNames[0], model.outputNames[0]];
  const results = await model.run({
    [inputName]: new ort.Tensor('float32', input.data, input.shape),
  });
  const output = results[outputName];
  if (output === undefined) throw new Error(`The graph has no output ${outputName}.`);
  return { data: output.data, shape: output.dims };
}

await serve({
  async hello(request) {
    threads = integer(request, 'threads');
    ort = await library();
    // The WebAssembly build reads this before its first session and starts its threads then.
    if (backend === 'onnxruntime-web') ort.env.wasm.numThreads = threads;
    const { node, web, common } = ort.env.versions;
    return {
      name: backend,
      versions: { [backend]: node ?? web ?? common ?? 'unknown' },
      features: [],
    };
  },

  async load(request) {
    const graphs = (request['onnx'] ?? {}) as { decoder?: string; ranker?: string };
    await decoder?.release();
    await ranker?.release();
    decoder = await session(graphs.decoder);
    ranker = await session(graphs.ranker);
    if (request['tokens'] !== undefined) {
      inputs = {
        tokens: readTensor(request['tokens'] as TensorFile),
        visible: request['visible'] as number[][],
      };
    }
    if (request['images'] !== undefined) images = readTensor(request['images'] as TensorFile);
    return {};
  },

  async scores(request) {
    const given = inputs;
    if (given === undefined) throw new Error('No tokens are loaded.');
    const size = scoresSize(request);
    const { result, ...times } = await timed(() =>
      scoreWith((tokens) => run(decoder, tokens), given, size),
    );
    return { ...times, scores: result };
  },

  async rank(request) {
    const [count, batch] = [integer(request, 'images'), integer(request, 'batch')];
    const { result, ...times } = await timed(async () => {
      const logits: number[][] = [];
      for (let from = 0; from < count; from += batch) {
        const output = await run(ranker, part(from, Math.min(batch, count - from)));
        logits.push(...rows(output.data, output.shape[1] as number));
      }
      return logits;
    });
    return { ...times, logits: result };
  },
});

function scoresSize(request: Request): { images: number; variants: number; batch: number } {
  return {
    images: integer(request, 'images'),
    variants: integer(request, 'variants'),
    batch: integer(request, 'decoderBatch'),
  };
}

function part(from: number, count: number): Tensor {
  if (images === undefined) throw new Error('No images are loaded.');
  const [, channels = 0, height = 0, width = 0] = images.shape;
  const length = channels * height * width;
  return {
    data: images.data.slice(from * length, (from + count) * length),
    shape: [count, channels, height, width],
  };
}
